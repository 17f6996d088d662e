"""The screen as a pure function of one observation; fits 80x24 and grows with the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from console.screen import panels
from console.screen.state import (
    COMMITTED,
    CRYPTO,
    FOLDED,
    NEWS,
    ORDERS,
    STOCKS,
    Observation,
    Process,
    Symbol,
)

_NEW_YORK = ZoneInfo("America/New_York")
_ROWS = {**{name: (name,) for name in STOCKS}, "crypto": CRYPTO, "news": (NEWS,), "orders": (ORDERS,)}
_CONNECTION_STYLES = {"CONNECTED": "bold green", "DISCONNECTED": "bold red"}
_FRAME_LINES = 8
"""Lines that are not services, channels or symbols: title, rules, headings, footer."""
_HEADING_LINES = 2
"""Of a second row of tables."""


@dataclass(frozen=True, slots=True)
class View:
    """What the run calls itself, beside what is observed."""

    title: str
    feed: str
    elapsed_seconds: float
    hint: str = "Ctrl-C stops everything"


def screen(view: View, seen: Observation, height: int, width: int) -> RenderableType:
    """The whole screen, at most `height` lines."""
    processes = _processes(seen.processes, 3 if width >= 78 else 2)
    channels = _channels(seen)
    room = max(2, height - _FRAME_LINES - len(processes.rows) - len(channels.rows))
    return Group(
        _title(view, seen, width),
        channels,
        Text(),
        processes,
        Text(),
        _market(seen, room, width),
        _footer(view, seen),
    )


def _market(seen: Observation, room: int, width: int) -> RenderableType:
    """Prices; beside them, if there are accounts, positions, and below orders and news."""
    if seen.portfolio is None:
        return _symbols(seen.symbols, room, wide=width >= 100)
    above = max(1, (room - _HEADING_LINES) * 3 // 5)
    below = max(1, room - _HEADING_LINES - above)
    grid = Table.grid(expand=True, padding=(0, 1))
    grid.add_column(ratio=1)
    grid.add_column(ratio=1)
    grid.add_row(
        _symbols(seen.symbols, above, wide=width >= 200, narrow=width < 120),
        panels.positions(seen.portfolio, above),
    )
    grid.add_row(panels.orders(seen.portfolio, below), panels.news(seen.headlines, below))
    return grid


def _title(view: View, seen: Observation, width: int) -> RenderableType:
    grid = Table.grid(expand=True, padding=(0, 1))
    grid.add_column(no_wrap=True)
    grid.add_column(justify="right", no_wrap=True)
    style = _CONNECTION_STYLES.get(seen.connection, "bold yellow")
    left = Text.assemble(
        (f" {view.title} ", "bold reverse"), f" {view.feed} ", (seen.connection, style), _tape(seen)
    )
    right = Text(f"{_market_time(seen.symbols, width >= 100)}  up {clock(view.elapsed_seconds)} ")
    grid.add_row(left, right)
    return grid


def _tape(seen: Observation) -> str:
    return f"  tape {seen.simulator.state}" if seen.simulator is not None else ""


def _market_time(symbols: Sequence[Symbol], with_date: bool) -> str:
    if not symbols:
        return ""
    newest = max(symbol.ts for symbol in symbols)
    at = datetime.fromtimestamp(newest // 1_000_000_000, UTC).astimezone(_NEW_YORK)
    return f"market {at:%Y-%m-%d %H:%M:%S} ET" if with_date else f"{at:%H:%M:%S} ET"


def _footer(view: View, seen: Observation) -> Text:
    lags = f"lag: processor {seen.processor_lag():,}, sink {seen.sink_lag():,}"
    latency = "" if seen.latency_p99 is None else f"   features p99 < {seen.latency_p99 * 1000:g} ms"
    return Text(f" {view.hint}   {lags}{latency}", style="dim", no_wrap=True, overflow="ellipsis")


def _channels(seen: Observation) -> Table:
    table = Table(box=box.SIMPLE_HEAD, expand=True, padding=(0, 1), show_edge=False)
    table.add_column("completeness", style="bold", no_wrap=True)
    for heading in ("events/s", "published", "topic", "folded", "stored", "behind"):
        table.add_column(heading, justify="right", no_wrap=True)
    for name, channels in _ROWS.items():
        if channels[0] in STOCKS or any(seen.topic(channel) for channel in channels):
            table.add_row(name, *_channel_cells(seen, channels))
    return table


def _channel_cells(seen: Observation, channels: Sequence[str]) -> list[Text]:
    topic, stored = sum(map(seen.topic, channels)), sum(map(seen.in_postgres, channels))
    counted = [seen.folded(channel) for channel in channels if channel in FOLDED]
    folded = counted[0] if counted else None
    if channels[0] in COMMITTED:
        folded = topic - seen.processor_lag(channels)
    published = None
    if seen.simulator is not None:
        published = sum(seen.simulator.published.get(channel, 0) for channel in channels)
    behind = max(seen.sink_lag(channels), seen.processor_lag(channels))
    behind += max(0, (published or 0) - topic)
    return [
        Text(f"{sum(seen.rates.get(channel, 0.0) for channel in channels):,.0f}"),
        Text("-" if published is None else f"{published:,}"),
        Text(f"{topic:,}"),
        Text("-" if folded is None else f"{folded:,}"),
        Text(f"{stored:,}"),
        Text(f"{behind:,}", style="green" if behind <= 0 else "yellow"),
    ]


def _processes(processes: Sequence[Process], columns: int) -> Table:
    grid = Table.grid(expand=True, padding=(0, 1))
    for _ in range(columns):
        grid.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
    rows = -(-len(processes) // columns)
    for row in range(rows):
        cells = [_process(p) for p in processes[row::rows]]
        grid.add_row(*cells, *[Text()] * (columns - len(cells)))
    return grid


def _process(process: Process) -> Text:
    if process.phase == "running" and process.ready:
        light, word = "green", clock(process.uptime_seconds)
    else:
        light, word = "yellow" if process.phase == "running" else "red", trouble(process)
    again = (f" restarted {process.restarts}x", "yellow") if process.restarts else ("", "")
    return Text.assemble(" ", ("●", light), f" {process.name:<11}", (word, light), again)


def _symbols(symbols: Sequence[Symbol], room: int, wide: bool, narrow: bool = False) -> RenderableType:
    if not symbols:
        return Text(" waiting for the first features ...", style="dim")
    table = Table(box=box.SIMPLE_HEAD, expand=True, padding=(0, 1), show_edge=False)
    table.add_column("symbol", style="bold cyan", no_wrap=True)
    for heading in _headings(wide, narrow):
        table.add_column(heading, justify="right", no_wrap=True)
    busiest = sorted(symbols, key=lambda s: -s.volume)[:room]
    for symbol in sorted(busiest, key=lambda s: s.name):
        table.add_row(Text(symbol.name), *_symbol_cells(symbol, wide, narrow))
    return table


def _headings(wide: bool, narrow: bool) -> tuple[str, ...]:
    if narrow:
        return "last", "bid", "ask"
    return "last", "bid", "ask", "spread", "vwap", "volume", *(("trades", "high", "low") if wide else ())


def _symbol_cells(symbol: Symbol, wide: bool, narrow: bool) -> list[str]:
    if narrow:
        return [price(symbol.last), price(symbol.bid), price(symbol.ask)]
    cells = [price(symbol.last), price(symbol.bid), price(symbol.ask), price(symbol.spread)]
    cells += [price(symbol.vwap), f"{symbol.volume:,}"]
    if wide:
        cells += [f"{symbol.trades:,}", price(symbol.high), price(symbol.low)]
    return cells


def trouble(process: Process) -> str:
    """Why the process does not do its work just now."""
    if process.phase == "running":
        return process.reason or "starting"
    return {"waiting": "starting again", "failed": "failed"}.get(process.phase, "stopped")


def price(value: float | None) -> str:
    """A price as people read it: cents, or four digits below a dollar; a dash when there is none."""
    if value is None:
        return "-"
    whole_cents = abs(value - round(value, 2)) < 1e-6  # a difference of two floats is seldom exact
    return f"{value:,.2f}" if abs(value) >= 1 or whole_cents else f"{value:,.4f}"


def clock(seconds: float) -> str:
    """Seconds as h:mm:ss or m:ss."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
