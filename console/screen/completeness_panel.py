"""The completeness panel: each feed's connection and gaps, what was found again, what is lost. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from console.screen.completeness import AUDITED, GAP, LOST, RECEIVED, WORDS, Completeness, Feed
from schemas.gaps import BACKFILLED, EVERY, Gap, has_history, kind_of

STYLES = {AUDITED: "green", RECEIVED: "", GAP: "yellow", LOST: "magenta"}
_NS = 1_000_000_000
_WIDE = 100
_UP = "CONNECTED"
_ORDER = {kind: place for place, kind in enumerate(("stocks", "options", "crypto", "news", "trading"))}
_CHANNELS = {channel: place for place, channel in enumerate(("trades", "quotes", "bars"))}

Parts = tuple[Gap, ...]
"""The gaps of one interruption of one channel: of a hundred symbols each."""


def words(seen: Completeness, row: str) -> list[Text]:
    """Minutes by word, a cell each; empty where nothing is known."""
    found = seen.words.get(row, {})
    return [
        Text(f"{found[word]:,}" if found.get(word) else "", STYLES[word]) if found else Text()
        for word in WORDS
    ]


def panel(seen: Completeness, room: int, width: int) -> RenderableType:
    """At most `room` lines (2 at least): the feeds in one or two, then gaps, open ones first."""
    feeds = _feeds(seen.feeds, seen)
    head = [feeds, _total(seen)] if width < _WIDE else [feeds.append("   ").append_text(_total(seen))]
    left = room - len(head)
    if left < 2:
        return Group(*head[:room])
    return Group(*head, _gaps(seen, left, width))


def lines(seen: Completeness, most: int, width: int) -> int:
    """How many lines of at most `most` the panel has something to show on."""
    gaps = len(groups(seen.open)) + len(groups(seen.closed))
    head = 2 if width < _WIDE else 1
    return min(most, head + (gaps + 1 if gaps else 0))


def _feeds(feeds: Sequence[Feed], seen: Completeness) -> Text:
    """Feeds of one kind (several accounts) together; not the same word for all: the worst."""
    text = Text(" ", no_wrap=True, overflow="ellipsis")
    for kind in sorted({kind_of(feed.name) for feed in feeds}, key=lambda kind: (_ORDER.get(kind, 9), kind)):
        of_kind = [feed for feed in feeds if kind_of(feed.name) == kind]
        down = [feed for feed in of_kind if feed.state != _UP]
        gaps = len(groups(gap for gap in seen.open if kind_of(gap.feed) == kind))
        light = "green" if not down and not gaps else "red" if down else "yellow"
        count = f" {len(of_kind) - len(down)}/{len(of_kind)}" if len(of_kind) > 1 else ""
        text.append("● ", light).append(f"{kind}{count}")
        if down:
            text.append(f" {down[0].state.lower()}", light)
        if gaps:
            text.append(f" {gaps} open", light)
        text.append("  ")
    return text if feeds else Text(" no feed has said anything yet", "dim")


def _total(seen: Completeness) -> Text:
    text = Text(" ", no_wrap=True, overflow="ellipsis")
    text.append(f"gaps: {len(seen.open)} open", "yellow" if seen.open else "green")
    text.append(f", {seen.repaired:,} closed, {seen.republished:,} events found again, ")
    lost = sum(seen.lost.values())
    return text.append(f"{lost:,} unrecoverable", STYLES[LOST] if lost else "")


def groups(gaps: Iterable[Gap]) -> list[Parts]:
    """Gaps that began together on one channel of one feed, for one reason: parts of one interruption.

    Those of which nothing can be had back are together whatever their channel.
    """
    found: dict[tuple[str, str, str, int], list[Gap]] = {}
    for gap in gaps:
        channel = "" if gap.unrecoverable and not gap.found else gap.channel
        found.setdefault((gap.feed, channel, gap.reason, gap.opened_ts), []).append(gap)
    return [tuple(parts) for parts in found.values()]


def _gaps(seen: Completeness, room: int, width: int) -> RenderableType:
    table = Table(box=None, expand=True, padding=(0, 1), header_style="dim")
    wide = width >= _WIDE
    for heading in ("gap", "symbols", "why", "since") if wide else ("gap", "why", "since"):
        table.add_column(heading, no_wrap=True, overflow="ellipsis")
    table.add_column("published", justify="right", no_wrap=True)
    table.add_column("state", no_wrap=True, overflow="ellipsis", ratio=1)
    # what can be had back first: an interruption closes all channels without a history at once
    closed = sorted(groups(seen.closed), key=lambda parts: -max(gap.ts for gap in parts))
    told = [parts for parts in closed if not parts[0].unrecoverable or parts[0].found]
    told += [parts for parts in closed if parts not in told]
    opened = sorted(groups(seen.open), key=_place)
    for parts in [*opened, *told][: max(0, room - 1)]:
        table.add_row(*_cells(parts, wide))
    return table if table.rows else Text()


def _place(parts: Parts) -> tuple[bool, int]:
    """First what can be had back, and of that what people ask for first."""
    gap = parts[0]
    return not has_history(gap.feed, gap.channel), _CHANNELS.get(gap.channel, len(_CHANNELS))


def _cells(parts: Parts, wide: bool) -> list[Text]:
    gap, channels = parts[0], {part.channel for part in parts}
    found, published = sum(g.found for g in parts), sum(g.published for g in parts)
    counts = f"{published:,} of {found:,}" if found or gap.state == BACKFILLED else "-"
    word, style = _state(parts)
    symbols = [] if not wide else [Text(_symbols(parts))]
    return [
        Text(f"{gap.feed} {gap.channel if len(channels) == 1 else f'{len(channels)} channels'}"),
        *symbols,
        Text(gap.reason),
        Text(clock(gap.opened_ts)),
        Text(counts),
        Text(word, style),
    ]


def _symbols(parts: Parts) -> str:
    names = sorted({symbol for gap in parts for symbol in gap.symbols})
    if EVERY in names:
        return "all"
    return names[0] if len(names) == 1 else f"{len(names)} symbols"


def _state(parts: Parts) -> tuple[str, str]:
    waiting = [gap for gap in parts if gap.state != "closed"]
    if any(gap.lasts for gap in waiting):
        return "lasts", "bold red"
    if waiting:
        fetching = any(gap.state == BACKFILLED for gap in waiting)
        return ("fetching", "bold cyan") if fetching else ("waits to be fetched", "bold yellow")
    gap = parts[-1]
    took = (max(g.ts for g in parts) - gap.opened_ts) / _NS
    if any(g.unrecoverable for g in parts):
        channels = dict.fromkeys(g.channel for g in parts)
        why = f"no history of {' '.join(channels)}" if len(channels) > 1 else gap.detail or "no history"
        return f"unrecoverable: {why}", STYLES[LOST]
    return f"closed after {took:.1f} s", "green"


def clock(ns: int) -> str:
    """A time of the clock as h:m:s, in this machine's time zone."""
    return f"{datetime.fromtimestamp(ns // _NS):%H:%M:%S}"
