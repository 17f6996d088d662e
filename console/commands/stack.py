"""`tidewire stack up|down|status`: the local Kafka and PostgreSQL."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from tidewire import config
from tidewire.config import Settings
from tidewire.errors import StackError
from tidewire.stack import LocalStack, ServerStatus
from tidewire.stack.addresses import read
from tidewire.stack.jars import Progress

app = typer.Typer(
    help="A local Apache Kafka and PostgreSQL: no Docker, no Java, no root; on 127.0.0.1 only.",
    no_args_is_help=True,
)
_COLOURS = {"running": "green", "killed": "red", "stopped": "yellow"}

Json = Annotated[bool, typer.Option("--json", help="One JSON object, for scripts.")]


@app.command()
def up(
    brokers: Annotated[
        int | None, typer.Option(help="1, or 3 with every record on three; fixed once the home has data.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Start what does not run, and return when it answers.

    Data and ports stay from start to start, in TIDEWIRE_HOME (.tidewire).

    \b
    Examples:
      tidewire stack up
      tidewire stack up --json | jq -r .database_url
      TIDEWIRE_HOME=/tmp/three tidewire stack up --brokers 3
    """
    if brokers not in (None, 1, 3):
        raise StackError(f"--brokers {brokers}: 1 or 3")
    settings = config.load()
    stack = LocalStack(settings.tidewire_home, brokers)
    with _progress() as say:
        addresses = stack.up(say)
    if as_json:
        print(json.dumps(asdict(addresses)))
        return
    _print_table(stack.status())
    _say_what_is_used_instead(settings)


@app.command()
def down(
    wipe: Annotated[bool, typer.Option("--wipe", help="Delete the data, too. It cannot be undone.")] = False,
) -> None:
    """Stop both cleanly; the data stays.

    \b
    Examples:
      tidewire stack down
      tidewire stack down --wipe
    """
    home = config.load().tidewire_home
    stack = LocalStack(home)
    with _progress() as say:
        say("stopping")
        if wipe:
            stack.wipe()
        else:
            stack.down()
    print(f"Nothing runs; the data in {home} is {'deleted' if wipe else 'kept'}.")


@app.command()
def status(as_json: Json = False) -> None:
    """Say what runs; exit code 0 if all of it does, 3 if not.

    \b
    Examples:
      tidewire stack status
      tidewire stack status --json
    """
    settings = config.load()
    servers = LocalStack(settings.tidewire_home).status()
    running = bool(servers) and all(server.state == "running" for server in servers)
    if as_json:
        addresses = read(settings.stack_file)
        where = asdict(addresses) if addresses else {"kafka_bootstrap": None, "database_url": None}
        print(json.dumps({"running": running, **where, "servers": [asdict(s) for s in servers]}))
    elif servers:
        _print_table(servers)
        if any(server.state == "killed" for server in servers):
            print("`tidewire stack up` restarts what was killed, with its data.")
    else:
        print(f"There is no local stack in {settings.tidewire_home}: `tidewire stack up` makes one.")
    if not running:
        raise typer.Exit(StackError.exit_code)


@contextmanager
def _progress() -> Iterator[Progress]:
    """A line on stderr that says what is being waited for; plain lines where stderr is no terminal."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda text: console.print(text, highlight=False, markup=False, soft_wrap=True)
        return
    with console.status("") as line:
        yield line.update


def _print_table(servers: list[ServerStatus]) -> None:
    table = Table("server", "state", "address", "pid", "data", box=None, pad_edge=False)
    for server in servers:
        state = f"[{_COLOURS[server.state]}]{server.state}[/]"
        pid = str(server.pid) if server.pid else ""
        table.add_row(server.name, state, server.address, pid, server.folder)
    console = Console()
    console.print(table)
    for server in servers:
        if server.detail:
            console.print(f"{server.name}: {server.detail}", markup=False, highlight=False)


def _say_what_is_used_instead(settings: Settings) -> None:
    named = {
        "KAFKA_BOOTSTRAP_SERVERS": settings.kafka_bootstrap_servers,
        "DATABASE_URL": settings.database_url,
    }
    for name, value in named.items():
        if value:
            print(f"Note: {name} is set, so tidewire's services use that and not this stack.")
