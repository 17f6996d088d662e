"""`tidewire kill`: stop all orders, here and at the broker. Works without Kafka."""

from __future__ import annotations

import asyncio
import getpass
import json
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import Annotated

import typer
from aiohttp import ClientSession
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from sinks.executor import kill_setup
from sinks.executor.kill import AtBroker, Kill, Report, Wish
from tidewire import accounts, config
from tidewire.accounts import Account as Named
from tidewire.errors import ConfigError, TidewireError
from tidewire.stack import fill_in
from tidewire.supervision.run_files import of_the_demo

app = typer.Typer(
    no_args_is_help=True,
    help="The kill switch: on, off, status. On stops every order, here and at the broker.",
    epilog="Without this command: `touch` a file named kill in TIDEWIRE_HOME (only the executor here stops).",
)

Account = Annotated[str | None, typer.Option("--account", help="One account; without it all of them.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object.")]
Reason = Annotated[str, typer.Option("--reason", help="Why; shown with every order that is refused.")]


@app.command()
def on(
    account: Account = None,
    cancel_orders: Annotated[
        bool, typer.Option("--cancel-orders", help="Cancel the open orders, too.")
    ] = False,
    flatten: Annotated[
        bool, typer.Option("--flatten", help="Cancel the open orders and close every position first.")
    ] = False,
    reason: Reason = "",
    as_json: Json = False,
) -> None:
    """Stop all orders; exit code 0 only if the broker itself says that it takes none."""
    wish = Wish(True, account, cancel_orders, flatten, reason[:200], _who())
    _turned(_run(lambda kill: kill.turn(wish)), as_json, "on")


@app.command()
def off(account: Account = None, as_json: Json = False) -> None:
    """Let orders pass again; exit code 0 only if the broker itself says so."""
    _turned(_run(lambda kill: kill.turn(Wish(False, account, by=_who()))), as_json, "off")


@app.command()
def status(as_json: Json = False) -> None:
    """Show what the file, PostgreSQL and the broker say."""
    report = _run(lambda kill: kill.status())
    if as_json:
        print(json.dumps(asdict(report), indent=1))
        return
    print(f"file: {report.file or 'off for all accounts'}")
    print(f"PostgreSQL: {report.database or 'off for all accounts'}")
    _show(report.accounts)


def _run(act: Callable[[Kill], Awaitable[Report]]) -> Report:
    settings = fill_in(config.load())
    mistake: ConfigError | None = None
    found: tuple[Named, ...] = ()
    try:
        if not accounts.load(settings):  # real accounts come first: they are what must be stopped in need
            settings = of_the_demo(settings, running=True)
        found = accounts.load(settings)
    except ConfigError as error:  # what can be stopped without the file of accounts, is
        mistake = error

    async def run() -> Report:
        async with ClientSession() as session:
            return await act(kill_setup.of_settings(settings, found, session))

    report = asyncio.run(run())
    if mistake is not None:
        report.confirmed = False
        report.accounts.append(AtBroker("?", problems=mistake.problems))
    return report


def _turned(report: Report, as_json: bool, asked: str) -> None:
    if as_json:
        print(json.dumps(asdict(report), indent=1))
    else:
        for where, problem in (("file", report.file), ("PostgreSQL", report.database)):
            if problem is not None:
                print(f"{where}: {problem}")
        _show(report.accounts)
        if report.confirmed:
            print(f"The kill switch is {asked}: confirmed by the broker.")
    if not report.confirmed:
        raise TidewireError(f"kill {asked} is NOT confirmed; what is missing stands above. Run it again.")


def _show(found: list[AtBroker]) -> None:
    if not found:
        print("no accounts: neither accounts.toml nor APCA_API_KEY_ID")
        return
    table = Table(
        "account", "orders here", "at the broker", "open orders", "positions", "", box=box.SIMPLE_HEAD
    )
    for each in found:
        here = "pass" if each.stopped_by is None else f"stopped ({each.stopped_by})"
        there = {None: "not known", True: "suspended", False: "taken"}[each.suspended]
        counts = ("-" if count is None else str(count) for count in (each.open_orders, each.open_positions))
        table.add_row(each.account, escape(here), there, *counts, escape("\n".join(each.problems)))
    console = Console()
    (console if console.is_terminal else Console(width=160)).print(table)


def _who() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return "tidewire kill"
