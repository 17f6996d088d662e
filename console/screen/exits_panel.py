"""The exits panel: how many rules are armed or held and by what, and the newest exits. Pure."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from zoneinfo import ZoneInfo

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from console.screen.exits_state import Exit, Exits

_NEW_YORK = ZoneInfo("America/New_York")
_HEADING_LINES = 2
_SHARE = 3
"""One part in so many of the room goes to this panel."""
_TABLE_ROOM = 12
"""In less room there are counts only."""
_SLOW_NS = 1_000_000_000
_GOOD = ("filled", "closed")


def lines(seen: Exits | None, room: int) -> int:
    """How many of `room` lines the panel takes."""
    if seen is None or not seen.any or room < 4:
        return 0
    rows = min(len(seen.newest), room // _SHARE - _HEADING_LINES - 1)
    return 1 if room < _TABLE_ROOM or rows < 1 else 1 + _HEADING_LINES + rows


def panel(seen: Exits, lines_: int, *, asleep: bool = False) -> RenderableType:
    """Exactly so many lines, of those that `lines` gave. `asleep`: nobody looks at prices just now."""
    if lines_ <= 1 + _HEADING_LINES:
        return counts(seen, asleep=asleep)
    return Group(counts(seen, asleep=asleep), _newest(seen.newest[: lines_ - 1 - _HEADING_LINES]))


def counts(seen: Exits, *, asleep: bool = False) -> Text:
    """Rules by what they are doing, and exits by how far they are."""
    text = Text(" exits: ", no_wrap=True, overflow="ellipsis")
    if asleep:
        text.append("NOT WATCHED YET ", "bold yellow")
    if seen.killed is not None:
        text.append("KILL SWITCH ON ", "bold red")
    text.append(f"{seen.armed} armed", "green" if seen.armed else "")
    held = ", ".join(f"{gate} {count}" for gate, count in sorted(seen.held.items()))
    text.append(
        f", {sum(seen.held.values())} held" + (f" ({held})" if held else ""), "yellow" if held else ""
    )
    return text.append(f"; {seen.triggered} triggered, {seen.ordered} ordered, {seen.closed} closed")


def _newest(exits: tuple[Exit, ...]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, expand=True, padding=(0, 1), show_edge=False)
    table.add_column("exit", style="bold cyan", no_wrap=True, overflow="ellipsis", ratio=1, min_width=12)
    table.add_column("rule", no_wrap=True, overflow="ellipsis")
    for heading in ("at", "price", "threshold"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("order", no_wrap=True, overflow="ellipsis")
    table.add_column("after", justify="right", no_wrap=True)
    for exit in exits:
        price = "-" if exit.price is None else _money(Decimal(repr(exit.price)))
        style = "green" if exit.state in _GOOD else "yellow"
        state = Text(exit.state, style)
        cells = (Text(exit.name), Text(exit.rule), _clock(exit.ts), price, _money(exit.threshold))
        table.add_row(*cells, state, _latency(exit.latency_ns))
    return table


def _clock(ts: int) -> str:
    return f"{datetime.fromtimestamp(ts // 1_000_000_000, UTC).astimezone(_NEW_YORK):%H:%M:%S}"


def _money(value: Decimal) -> str:
    """Cents, or four digits of what costs less than a dollar: thresholds have more than anybody reads."""
    return f"{value:,.2f}" if abs(value) >= 1 else f"{value:,.4f}"


def _latency(ns: int | None) -> Text:
    if ns is None:
        return Text("-")
    shown = f"{ns / 1_000_000:,.0f} ms" if ns < 10 * _SLOW_NS else f"{ns / _SLOW_NS:,.0f} s"
    return Text(shown, "yellow" if ns >= _SLOW_NS else "")
