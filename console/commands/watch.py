"""`tidewire watch portfolio|tape`: what the gateway pushes, in the terminal."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from typing import Annotated, Any

import orjson
import typer
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from console.client import sign_in
from console.client.portfolio import Portfolio as Folded
from console.client.stream import Message, Stream
from console.screen import panels
from console.screen.gateway_side import seen
from tidewire import config
from tidewire.errors import ConfigError

_REDRAWS_A_SECOND = 4
_CHANNELS = ["positions", "orders", "account", "trades"]

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Follow a portfolio or the tape of symbols through the gateway.",
    epilog="Example: tidewire watch tape AAPL BTC/USD",
)

Url = Annotated[str, typer.Option("--url", help="The gateway's address; default: this home's gateway.")]
User = Annotated[str, typer.Option("--user", help="Sign in as this user; the password is asked for.")]
AsJson = Annotated[bool, typer.Option("--json", help="Every message as it came, one a line.")]


@app.command()
def portfolio(url: Url = "", user: User = "", as_json: AsJson = False) -> None:
    """Positions, orders and the account, as they change; Ctrl-C ends it.

    Without --user this home's demo user is signed in.
    """
    greeting = {"type": "subscribe", "channels": _CHANNELS}
    stream = _open(url, user, "/ws/portfolio", greeting)
    _run(lambda: _print_json(stream) if as_json else _show_portfolio(stream))


@app.command()
def tape(
    symbols: Annotated[
        list[str], typer.Argument(help="Stocks, or crypto pairs as BTC/USD.", metavar="SYMBOL...")
    ],
    url: Url = "",
    user: User = "",
    as_json: AsJson = False,
) -> None:
    """Every trade of some symbols, as it happens; Ctrl-C ends it."""
    greetings = [{"action": "subscribe", "symbol": symbol.upper()} for symbol in symbols]
    stream = _open(url, user, "/ws/tape", *greetings)
    _run(lambda: _print_json(stream) if as_json else _print_tape(stream))


def _open(url: str, user: str, path: str, *greeting: dict[str, Any]) -> Stream:
    settings = config.load()
    address = (url or sign_in.gateway_url(settings)).rstrip("/")
    if not address.startswith(("http://", "https://")):
        raise ConfigError([f"--url: must begin with http:// or https:// (got {address})"])
    if user:
        cookie = sign_in.with_password(
            address, user, typer.prompt(f"Password of {user}", hide_input=True, err=True)
        )
    elif url:
        raise ConfigError(
            ["--url needs --user: only this home's own gateway can be entered without a password"]
        )
    else:
        cookie = sign_in.as_operator(settings, "demo")
    return Stream(address, path, cookie, greeting)


def _run(work: Callable[[], Awaitable[None]]) -> None:
    async def run() -> None:
        await work()

    try:
        asyncio.run(run())
    except BrokenPipeError:  # the reader (head, a pager) has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


async def _print_json(stream: Stream) -> None:
    async for message in stream.messages():
        print(orjson.dumps(message).decode(), flush=True)


async def _show_portfolio(stream: Stream) -> None:
    console, folded = Console(), Folded()
    if not console.is_terminal:
        async for message in stream.messages():
            if text := _portfolio_line(message):
                console.print(text, soft_wrap=True)
        return
    with Live(console=console, auto_refresh=False, screen=True) as live:
        drawing = asyncio.create_task(_draw(live, console, stream, folded))
        try:
            async for message in stream.messages():
                folded.apply(message)
        finally:
            drawing.cancel()


async def _draw(live: Live, console: Console, stream: Stream, folded: Folded) -> None:
    while True:
        live.update(_screen(stream, folded, console.size.height), refresh=True)
        await asyncio.sleep(1 / _REDRAWS_A_SECOND)


def _screen(stream: Stream, folded: Folded, height: int) -> RenderableType:
    portfolio = seen(stream, folded)
    room = max(2, height - 7)
    head = Text.assemble((" tidewire watch portfolio ", "bold reverse"), "  ", _connection(stream))
    return Group(
        head,
        Text(),
        panels.positions(portfolio, room * 3 // 5),
        panels.orders(portfolio, room - room * 3 // 5),
    )


def _connection(stream: Stream) -> Text:
    return Text("connected", "bold green") if stream.connected else Text(stream.reason, "bold red")


def _portfolio_line(message: Message) -> Text | None:
    kind, data = message.get("type"), message.get("data") or {}
    time = str(message.get("timestamp", ""))
    if kind == "trade_executed":
        return Text(f"{time}  {data['side']:<4} {data['qty']} {data['symbol']} at {data['price']}")
    if kind == "order_update":
        return Text(f"{time}  order {data['side']} {data['symbol']} {data['type']}: {data['status']}")
    if kind == "position_update":
        return Text(
            f"{time}  {data['symbol']} {panels.quantity(data['quantity'], short=data['side'] == 'short')} "
            f"at {data['currentPrice']}, P&L {data['unrealizedPnl']}"
        )
    return Text(f"{message['reason']}; again in {message['seconds']:g} s") if kind == "disconnected" else None


async def _print_tape(stream: Stream) -> None:
    console = Console()
    async for message in stream.messages():
        console.print(_tape_line(message), soft_wrap=True)


def _tape_line(message: Message) -> Text:
    kind = message.get("type")
    if kind == "trade":
        data = message["data"]
        conditions = " ".join(data.get("conditions") or ())
        return Text.assemble(
            f"{data['timestamp']}  ",
            (f"{message['symbol']:<10}", "cyan"),
            f"{data['price']:>14} {data['size']:>14}  {data.get('exchange') or '':<2} {conditions}",
        )
    if kind == "disconnected":
        return Text(f"{message['reason']}; again in {message['seconds']:g} s", style="red")
    return Text(str(message.get("message") or kind), style="dim")
