"""`tidewire users`: who may sign in at the gateway. Which accounts they see is in accounts.toml."""

from __future__ import annotations

import getpass
import json
import sys
from typing import Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from sinks.gateway import tokens, users
from sinks.postgres import connection
from tidewire import accounts, config
from tidewire.errors import ConfigError
from tidewire.stack import fill_in

app = typer.Typer(no_args_is_help=True, help="The gateway's users: add, list, password, link, remove.")

Name = Annotated[str, typer.Argument(help="a-z 0-9 . _ -, as in accounts.toml")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object.")]
FromStdin = Annotated[
    bool, typer.Option("--password-stdin", help="Read the password from the first line of standard input.")
]


@app.command()
def add(name: Name, password_stdin: FromStdin = False, as_json: Json = False) -> None:
    """Make a user; asks for a password twice."""
    url = _url()
    users.add(url, name, _password(password_stdin))
    _say(as_json, {"user": name, "added": True}, f"{name} may sign in. {_sees(name)}")


@app.command("list")
def list_(as_json: Json = False) -> None:
    """Show the users, their accounts and how often they are signed in."""
    found = users.users(_url())
    known = accounts.load(config.load())
    rows: list[dict[str, Any]] = [
        {
            "user": user.name,
            "password": user.has_password,
            "accounts": sorted(accounts.visible_to(known, user.name)),
            "sessions": user.sessions,
            "created": user.created_at.isoformat(timespec="seconds"),
        }
        for user in found
    ]
    if as_json:
        print(json.dumps(rows, indent=1))
        return
    table = Table("user", "sign-in", "accounts", "sessions", "created", box=box.SIMPLE_HEAD)
    for row in rows:
        way = "password" if row["password"] else "links only"
        table.add_row(
            row["user"], way, ", ".join(row["accounts"]) or "none", str(row["sessions"]), row["created"]
        )
    Console().print(table if rows else "no users yet; `tidewire users add NAME` makes one")


@app.command()
def remove(name: Name, as_json: Json = False) -> None:
    """Take a user away; its sessions and sockets end within a second."""
    users.remove(_url(), name)
    _say(as_json, {"user": name, "removed": True}, f"{name} is gone and signed out everywhere")


@app.command()
def password(name: Name, password_stdin: FromStdin = False, as_json: Json = False) -> None:
    """Give a user another password; it is signed out everywhere."""
    url = _url()
    users.set_password(url, name, _password(password_stdin))
    _say(as_json, {"user": name, "changed": True}, f"{name} has a new password and is signed out everywhere")


@app.command()
def link(name: Name, as_json: Json = False) -> None:
    """Print the path of a one-time sign-in, good for ten minutes."""
    path = f"/sign-in/{users.one_time_link(_url(), name)}"
    text = (
        f"{path}\nOpen it below the gateway's address. It works once, within {tokens.LINK_MINUTES} minutes."
    )
    _say(as_json, {"user": name, "path": path, "minutes": tokens.LINK_MINUTES}, text)


def _url() -> str:
    return connection.url(fill_in(config.load()))


def _password(from_stdin: bool) -> str:
    """The password, never shown and never an argument, where other users of the machine could read it."""
    if from_stdin:
        return sys.stdin.readline().rstrip("\r\n")
    if not sys.stdin.isatty():
        raise ConfigError(["no terminal to ask for a password: use --password-stdin"])
    first = getpass.getpass("Password: ")
    if first != getpass.getpass("Again: "):
        raise ConfigError(["the two passwords differ; nothing was changed"])
    return first


def _sees(name: str) -> str:
    seen = sorted(accounts.visible_to(accounts.load(config.load()), name))
    if seen:
        return f"Accounts: {', '.join(seen)}"
    return f'It sees no account yet: add users = ["{name}"] to one in accounts.toml'


def _say(as_json: bool, data: dict[str, Any], text: str) -> None:
    print(json.dumps(data) if as_json else text)
