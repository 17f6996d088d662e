"""The account side of the screen: positions with P&L, orders, news with sentiment. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from rich import box
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from console.client.portfolio import ENDED
from console.screen.state import Headline, Portfolio

Object = Mapping[str, Any]


def positions(portfolio: Portfolio | None, room: int) -> RenderableType:
    """The open positions, and what the accounts are worth."""
    table = _table("position", "qty", "price", "P&L")
    if portfolio is None or not portfolio.connected:
        return _waiting(table, "the gateway" if portfolio is None else portfolio.reason)
    for account in portfolio.accounts[:1]:
        table.add_row(
            Text("equity", style="bold"), "", whole(account["equity"]), profit(account["dayPnl"], "day ")
        )
    for position in portfolio.positions[: max(0, room - len(table.rows))]:
        table.add_row(
            Text(str(position["symbol"]), style="cyan"),
            quantity(position["quantity"], short=position["side"] == "short"),
            money(position["currentPrice"]),
            profit(position["unrealizedPnl"]),
        )
    return table


def orders(portfolio: Portfolio | None, room: int) -> RenderableType:
    """Working orders first, then the newest others."""
    table = _table("order", "qty", "status", plain=2)
    for order in portfolio.orders[:room] if portfolio is not None else ():
        side = Text(f"{order['side']} ", style="green" if order["side"] == "buy" else "red")
        filled, wanted = order.get("filledQty") or "0", order.get("qty") or "-"
        style = "dim" if order["status"] in ENDED else "bold"
        table.add_row(
            side.append(f"{order['symbol']} {order['type']}", "default"),
            f"{plain(filled)}/{plain(wanted)}",
            Text(str(order["status"]), style=style),
        )
    return table


def news(headlines: Sequence[Headline], room: int) -> RenderableType:
    """The newest headlines with the score of the symbol that moves most."""
    table = Table(box=box.SIMPLE_HEAD, expand=True, padding=(0, 1), show_edge=False)
    table.add_column("news", no_wrap=True)
    table.add_column("", no_wrap=True, overflow="ellipsis", ratio=1)
    for headline in headlines[:room]:
        table.add_row(_score(headline.scores), Text(headline.headline))
    return table


def _score(scores: Sequence[tuple[str, float]]) -> Text:
    if not scores:
        return Text("      ", style="dim")
    symbol, score = max(scores, key=lambda scored: abs(scored[1]))
    more = f" +{len(scores) - 1}" if len(scores) > 1 else ""
    style = "green" if score > 0.05 else "red" if score < -0.05 else "dim"
    return Text(f"{score:+.2f} {symbol}{more}", style=style)


def _table(first: str, *others: str, plain: int | None = None) -> Table:
    table = Table(box=box.SIMPLE_HEAD, expand=True, padding=(0, 1), show_edge=False)
    table.add_column(first, no_wrap=True, overflow="ellipsis", ratio=1, min_width=8)
    for number, heading in enumerate(others, 1):
        table.add_column(heading, justify="left" if number == plain else "right", no_wrap=True)
    return table


def _waiting(table: Table, reason: str) -> Table:
    table.add_row(Text(f"waiting: {reason}", style="dim"), *[""] * (len(table.columns) - 1))
    return table


def money(text: str | None) -> str:
    """USD as people read it: cents, more digits only for what costs less than a dollar."""
    if text is None:
        return "-"
    value = Decimal(text)
    return f"{value:,.2f}" if abs(value) >= 1 or value == 0 else f"{value:,.4f}"


def whole(text: str) -> str:
    """USD without cents: what an account is worth."""
    return f"{Decimal(text):,.0f}"


def profit(text: str | None, before: str = "") -> Text:
    """A gain in green, a loss in red."""
    if text is None:
        return Text("-")
    value = Decimal(text)
    return Text(f"{before}{value:+,.2f}", style="green" if value > 0 else "red" if value < 0 else "dim")


def quantity(text: str, *, short: bool) -> str:
    """A quantity with its sign."""
    value = abs(Decimal(text))
    return f"{'-' if short else '+'}{plain(value)}"


def plain(value: Decimal | str) -> str:
    """A quantity without zeros at the end, at most six digits behind the point."""
    try:
        text = f"{Decimal(value):,.6f}"
    except ArithmeticError:
        return str(value)
    return text.rstrip("0").rstrip(".")
