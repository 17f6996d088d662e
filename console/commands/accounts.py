"""`tidewire accounts`: which accounts there are, and whether their keys work. Never shows a key."""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict, dataclass, field
from typing import Annotated

import psycopg
import typer
from aiohttp import ClientSession
from pydantic import SecretStr
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from producers.accounts.rest import RestError, TradingApi
from schemas.trading_values import Json
from tidewire import accounts, addresses, config
from tidewire.accounts import Account
from tidewire.config import Settings
from tidewire.errors import ConfigError, TidewireError
from tidewire.stack import fill_in

_EXAMPLE = """\
# accounts.toml: the brokerage accounts of this installation. One table an account; its name is its id in
# Kafka, PostgreSQL and the gateway, and belongs to one brokerage account for ever (a-z 0-9 . _ -).

admins = ["anna"]             # who may turn the kill switch through the gateway

[accounts.paper-1]
key_file = "keys/paper-1"     # two lines: key id, secret. Relative to this file; chmod 600
mode = "paper"                # the default
users = ["anna", "ben"]       # who sees it through the gateway (`tidewire users add anna`)

[accounts.paper-1.risk]       # what its orders may be at most; these are the defaults
max_quantity = 10000          # shares, coins or contracts an order; "none": no limit
max_notional = 25000          # USD an order
price_band_percent = 10       # how far a limit price may lie from what whoever wants the order saw
orders_per_minute = 60        # exits are not counted
max_daily_loss = 1000         # USD since the last close; beyond it exits only
allow_short = false           # whether an order may open a short position
dry_run = false               # true: say what would have been ordered, and order nothing

[[accounts.paper-1.exits.us_equity]]   # default exits of its positions (us_equity, us_option, crypto);
kind = "stop_loss"                     # `tidewire exits set` overrules one by its name, for a symbol
percent = 5

[accounts.main]
key_file = "/run/secrets/alpaca-main"
mode = "live"                 # also needs TIDEWIRE_ALLOW_LIVE=true
users = ["anna"]

[accounts.lab]                # without key_file: APCA_API_KEY_ID and APCA_API_SECRET_KEY
users = ["ben"]
"""

app = typer.Typer(
    no_args_is_help=True,
    help="The brokerage accounts of accounts.toml: list, check, example.",
    epilog="`tidewire accounts example > accounts.toml` is a start.",
)

Json_ = Annotated[bool, typer.Option("--json", help="One JSON array.")]


@dataclass(frozen=True, slots=True)
class Checked:
    """What the check of one account found. `notes` do no harm."""

    name: str
    mode: str
    users: tuple[str, ...]
    status: str | None
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@app.command("list")
def list_(as_json: Json_ = False) -> None:
    """Show the accounts of accounts.toml: name, mode, users, where the keys come from."""
    settings = config.load()
    found = accounts.load(settings)
    rows = [
        {"name": a.name, "mode": a.mode, "users": list(a.users), "keys": _keys_from(a, settings)}
        for a in found
    ]
    if as_json:
        print(json.dumps(rows, indent=1))
        return
    if not rows:
        print(_none(settings))
        return
    table = Table("account", "mode", "users", "keys", box=box.SIMPLE_HEAD)
    for account, row in zip(found, rows, strict=True):
        users = ", ".join(account.users) or "-"
        table.add_row(account.name, account.mode, users, escape(str(row["keys"])))
    _console().print(table)


@app.command()
def check(as_json: Json_ = False) -> None:
    """Ask Alpaca whether each account's keys work and the account may trade; exit code 0 only if all may."""
    settings = fill_in(config.load())
    found = accounts.load(settings)
    if not found:
        raise ConfigError([_none(settings)])
    results = asyncio.run(_check_all(settings, found))
    if as_json:
        print(json.dumps([asdict(result) for result in results], indent=1))
    else:
        _show(results)
    failed = [result.name for result in results if result.problems]
    if failed:
        raise TidewireError(f"not in order: {', '.join(failed)}")


@app.command()
def example() -> None:
    """Print a complete accounts.toml."""
    print(_EXAMPLE, end="")


async def _check_all(settings: Settings, found: tuple[Account, ...]) -> list[Checked]:
    known = await asyncio.to_thread(_gateway_users, settings)
    async with ClientSession() as session:
        return list(await asyncio.gather(*(_check(session, settings, a, known) for a in found)))


async def _check(
    session: ClientSession, settings: Settings, account: Account, known: frozenset[str] | None
) -> Checked:
    notes = [] if account.users else ["no user may see it: name some in users"]
    if known is not None:
        notes += [
            f"user {u} has no sign-in: `tidewire users add {u}`" for u in account.users if u not in known
        ]
    result = Checked(account.name, account.mode, account.users, None, [], notes)
    try:
        addresses.check_trading(account.trading_url(settings))
        key, secret = account.keys(settings)
    except ConfigError as error:
        result.problems.extend(error.problems)
        return result
    return await _ask(result, TradingApi(session, account.trading_url(settings), key, secret), settings)


async def _ask(result: Checked, api: TradingApi, settings: Settings) -> Checked:
    try:
        answer = await api.account()
    except RestError as error:
        advice = (
            f"; a {result.mode} account needs {result.mode} keys, made at https://app.alpaca.markets"
            if error.status in (401, 403)
            else ""
        )
        result.problems.append(f"{error}{advice}")
        return result
    status = str(answer.get("status", "not told"))
    problems = [*_blocks(answer, status), *_wrong_side(answer, result.mode, settings)]
    return Checked(result.name, result.mode, result.users, status, problems, result.notes)


def _blocks(answer: Json, status: str) -> list[str]:
    found = [] if status == "ACTIVE" else [f"the account is {status}, not ACTIVE"]
    return found + [
        f"the broker says {name}"
        for name in ("trading_blocked", "account_blocked", "trade_suspended_by_user")
        if answer.get(name) is True
    ]


def _wrong_side(answer: Json, mode: str, settings: Settings) -> list[str]:
    """Alpaca numbers paper accounts PA...; a simulator may number as it likes."""
    number = str(answer.get("account_number", ""))
    if settings.tidewire_trading_url is not None or not number:
        return []
    paper = number.startswith("PA")
    if paper == (mode == "paper"):
        return []
    return [f"mode is {mode}, but Alpaca's account is a {'paper' if paper else 'live'} one"]


def _gateway_users(settings: Settings) -> frozenset[str] | None:
    """Names of those who may sign in; None: the database is away or knows of none."""
    url: SecretStr | None = settings.database_url
    if url is None:
        return None
    try:
        with psycopg.connect(url.get_secret_value(), connect_timeout=2) as connection:
            return frozenset(row[0] for row in connection.execute("SELECT name FROM gateway_users"))
    except psycopg.Error:
        return None


def _keys_from(account: Account, settings: Settings) -> str:
    try:
        account.keys(settings)
    except ConfigError as error:
        return error.problems[0]
    return "environment" if account.key_file is None else str(account.key_file)


def _none(settings: Settings) -> str:
    return (
        f"no accounts: neither {settings.tidewire_accounts_file} nor APCA_API_KEY_ID; "
        "`tidewire accounts example > accounts.toml` is a start"
    )


def _show(results: list[Checked]) -> None:
    table = Table("account", "mode", "users", "status", "", box=box.SIMPLE_HEAD)
    for result in results:
        words = "\n".join([*result.problems, *(f"note: {note}" for note in result.notes)])
        mark = "[red]" if result.problems else ""
        table.add_row(
            result.name, result.mode, ", ".join(result.users) or "-",
            f"{mark}{escape(result.status or 'no answer')}", escape(words or "in order"),
        )  # fmt: skip
    _console().print(table)


def _console() -> Console:
    """A terminal's width; wide enough for whole lines when the output goes to a file or a pipe."""
    console = Console()
    return console if console.is_terminal else Console(width=160)
