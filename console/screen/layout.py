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

from console.screen import completeness, completeness_panel, exits_panel, panels
from console.screen.channels import COMMITTED, CRYPTO, FOLDED, NEWS, OPTIONS, ORDERS, OTHERS, STOCKS
from console.screen.completeness import CRYPTO_ROW, OPTIONS_ROW
from console.screen.completeness import OTHERS as OTHERS_ROW
from console.screen.state import Observation, Process, Symbol

_NEW_YORK = ZoneInfo("America/New_York")
_ROWS = {
    **{name: (name,) for name in STOCKS},
    OPTIONS_ROW: OPTIONS,
    CRYPTO_ROW: CRYPTO,
    NEWS: (NEWS,),
    ORDERS: (ORDERS,),
    OTHERS_ROW: OTHERS,
}
_CONNECTION_STYLES = {"CONNECTED": "bold green", "DISCONNECTED": "bold red"}
_LOW = 32
"""Below so many lines the services have one line, and the market what is left."""
_LOW_PANEL = 5
"""Lines of the completeness panel on a low screen, and at least on others."""
_WIDE = 100
_HEADING_LINES = 2
"""Of a table."""


@dataclass(frozen=True, slots=True)
class View:
    """What the run calls itself, beside what is observed."""

    title: str
    feed: str
    elapsed_seconds: float
    hint: str = "Ctrl-C stops everything"
    keys: str = ""
    """What the keys do; empty: there are none."""
    said: tuple[str, ...] = ()
    """What was done at a key's press, the newest last."""


def screen(view: View, seen: Observation, height: int, width: int) -> RenderableType:
    """The whole screen, at most `height` lines."""
    told = seen.completeness
    low = told is not None and height < _LOW
    blank = [] if low else [Text()]
    channels, foot = _channels(seen, width), _foot(view, seen, height)
    parts: list[RenderableType] = [_title(view, seen, width), channels, *blank]
    room = height - 1 - _HEADING_LINES - len(channels.rows) - len(foot) - 2 * len(blank) - _HEADING_LINES
    if low:
        processes: RenderableType = _short(seen.processes)
        room -= 1
    else:
        processes = table = _processes(seen.processes, _columns(width))
        room -= len(table.rows)
    if told is not None:
        most = _LOW_PANEL if low else max(_LOW_PANEL, room * 2 // 5)
        lines = completeness_panel.lines(told, most, width)
        parts += [completeness_panel.panel(told, lines, width), *blank]
        room -= lines + len(blank)
    parts += [processes, *blank]
    if seen.exits is not None and (lines := exits_panel.lines(seen.exits, room)):
        asleep = any(p.name == "exits" and not _works(p) for p in seen.processes)
        parts.append(exits_panel.panel(seen.exits, lines, asleep=asleep))
        room -= lines
    if room > 0 or told is None:
        parts.append(_market(seen, max(2, room) if told is None else room, width))
    return Group(*parts, *foot)


def _columns(width: int) -> int:
    return 4 if width >= 150 else 3 if width >= 78 else 2


def _market(seen: Observation, room: int, width: int) -> RenderableType:
    """Prices; beside them, if there are accounts, positions, and below orders and news."""
    if seen.portfolio is None:
        return _symbols(seen.symbols, room, wide=width >= 100)
    both = room >= 2 * _HEADING_LINES
    above = max(1, (room - _HEADING_LINES) * 3 // 5) if both else room
    below = max(1, room - _HEADING_LINES - above)
    grid = Table.grid(expand=True, padding=(0, 1))
    grid.add_column(ratio=1)
    grid.add_column(ratio=1)
    grid.add_row(
        _symbols(seen.symbols, above, wide=width >= 200, narrow=width < 120),
        panels.positions(seen.portfolio, above),
    )
    if both:
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


def _foot(view: View, seen: Observation, height: int) -> list[Text]:
    """The last lines: what was done at a key's press, what the keys do, how to end it and how far all is."""
    said = view.said[-(1 if height < _LOW else 3) :]
    texts = [Text(f" {text}", "bold yellow") for text in said]
    if view.keys:
        texts.append(Text(f" {view.keys}", "bold"))
    lags = f"lag: processor {seen.processor_lag():,}, sink {seen.sink_lag():,}"
    latency = "" if seen.latency_p99 is None else f"   features p99 < {seen.latency_p99 * 1000:g} ms"
    texts.append(Text(f" {view.hint}   {lags}{latency}", style="dim"))
    for text in texts:
        text.no_wrap, text.overflow = True, "ellipsis"
    return texts


def _channels(seen: Observation, width: int) -> Table:
    table = Table(box=box.SIMPLE_HEAD, expand=True, padding=(0, 1), show_edge=False, collapse_padding=True)
    told = seen.completeness
    table.add_column("completeness", style="bold", no_wrap=True)
    for heading in _counts(told is not None, width):
        table.add_column(heading, justify="right", no_wrap=True)
    if told is not None:
        for word in completeness.WORDS:
            table.add_column(word, justify="right", no_wrap=True)
    for name, channels in _ROWS.items():
        if channels[0] in STOCKS or any(seen.topic(channel) for channel in channels):
            counted = dict(zip(_COUNTS, _channel_cells(seen, channels), strict=True))
            cells = [counted[heading] for heading in _counts(told is not None, width)]
            minutes = [] if told is None else completeness_panel.words(told, name)
            table.add_row(name, *cells, *minutes)
    return table


_COUNTS = ("events/s", "published", "topic", "folded", "stored", "behind")


def _counts(with_words: bool, width: int) -> tuple[str, ...]:
    """Beside the minutes by word there is room for all counts only on a wide screen."""
    if not with_words or width >= _WIDE:
        return _COUNTS
    return "events/s", "topic", "stored", "behind"


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


def _works(process: Process) -> bool:
    return process.phase == "running" and process.ready


def _short(processes: Sequence[Process]) -> Text:
    """All processes in one line: how many work, and who does not."""
    troubled = [p for p in processes if not _works(p)]
    light = "yellow" if troubled else "green"
    text = Text.assemble((" ● ", light), f"{len(processes) - len(troubled)}/{len(processes)} processes work")
    for process in troubled:
        text.append(f"  {process.name}: {trouble(process)}", "yellow")
    text.no_wrap, text.overflow = True, "ellipsis"
    return text


def _process(process: Process) -> Text:
    if _works(process):
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
    words = {"queued": "starts next", "waiting": "starting again", "failed": "failed"}
    return words.get(process.phase, "stopped")


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
