"""Gaps and the four words of coverage, for a terminal and as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from schemas.gaps import BACKFILLED, CLOSED, Gap
from verify.coverage import GAP, UNRECOVERABLE, WORDS, Coverage

_STYLES = {"lasts": "red", "waits": "yellow", "fetching": "cyan", "unrecoverable": "magenta", "closed": "dim"}
_SYMBOLS = 3


def state(gap: Gap) -> str:
    """Where a gap stands, in a word: lasts, waits (for the backfiller), fetching, closed, unrecoverable."""
    if gap.state == CLOSED:
        return "unrecoverable" if gap.unrecoverable else "closed"
    if gap.state == BACKFILLED:
        return "fetching"
    return "lasts" if gap.lasts else "waits"


def when(ns: int | None) -> str:
    """An event time to the second, UTC."""
    return "..." if ns is None else f"{datetime.fromtimestamp(ns // 10**9, UTC):%Y-%m-%d %H:%M:%S}"


def gaps_as_json(gaps: Sequence[Gap]) -> list[dict[str, Any]]:
    """One object a gap; times in ns since 1970 UTC."""
    return [
        {
            "id": gap.id, "feed": gap.feed, "channel": gap.channel, "symbols": list(gap.symbols),
            "state": state(gap), "reason": gap.reason, "opened_ts": gap.opened_ts, "from_ts": gap.from_ts,
            "until_ts": gap.until_ts, "found": gap.found, "published": gap.published,
            "unrecoverable": list(gap.unrecoverable), "detail": gap.detail,
        }
        for gap in gaps
    ]  # fmt: skip


def coverage_as_json(coverage: Mapping[str, Coverage], minutes: bool) -> dict[str, Any]:
    """Totals by word, and with `minutes` the intervals of each symbol."""
    found: dict[str, Any] = {}
    for name, covered in coverage.items():
        found[name] = {"minutes": covered.totals()}
        if minutes:
            found[name]["intervals"] = [
                {"symbol": i.symbol, "word": i.word, "from_ts": i.from_ts, "until_ts": i.until_ts}
                for i in covered.intervals()
            ]
    return found


def render(gaps: Sequence[Gap], coverage: Mapping[str, Coverage] | None, minutes: bool) -> RenderableType:
    """The list of gaps, the table of coverage, and with `minutes` its intervals."""
    parts: list[RenderableType] = [_gaps(gaps) if gaps else Text("no gaps", "green")]
    if coverage:
        parts.append(_totals(coverage))
        if minutes:
            parts.append(_intervals(coverage))
    elif coverage is not None:
        parts.append(Text("the topics hold nothing of this time", "dim"))
    return Group(*parts)


def _gaps(gaps: Sequence[Gap]) -> Group:
    """One line a gap, narrow enough for 80 columns; below it why something is lost for good."""
    table = Table(title="Gaps", title_justify="left")
    for name in ("feed", "symbols", "from (UTC)", "for"):
        table.add_column(name, min_width=6, overflow="fold")
    for name in ("reason", "state"):
        table.add_column(name, min_width=7, overflow="fold")
    table.add_column("published", justify="right")
    for gap in gaps:
        word = state(gap)
        more = len(gap.symbols) - _SYMBOLS
        symbols = " ".join(gap.symbols[:_SYMBOLS]) + (f" and {more}" if more > 0 else "")
        table.add_row(
            f"{gap.feed} {gap.channel}", symbols, when(gap.from_ts), _length(gap), gap.reason,
            Text(word, _STYLES[word]), f"{gap.published:,} of {gap.found:,}",
        )  # fmt: skip
    why = {f"  {g.feed} {g.channel}: {g.detail}": None for g in gaps if g.unrecoverable and g.detail}
    return Group(table, *(Text(line, "magenta") for line in why))


def _length(gap: Gap) -> str:
    if gap.until_ts is None:
        return "..."
    seconds = (gap.until_ts - gap.from_ts) / 1e9
    return f"{seconds:.1f} s" if seconds < 600 else f"{seconds / 60:,.0f} min"


def _totals(coverage: Mapping[str, Coverage]) -> Table:
    table = Table(title="Minutes of symbols", title_justify="left")
    table.add_column("")
    for word in WORDS:
        table.add_column(word, justify="right", no_wrap=True)
    for name, covered in coverage.items():
        totals = covered.totals()
        whole = sum(totals.values())
        cells = [f"{totals[word]:,} ({totals[word] / whole:.0%})" if totals[word] else "0" for word in WORDS]
        table.add_row(name.replace("_", " "), *cells)
    return table


def _intervals(coverage: Mapping[str, Coverage]) -> Table:
    table = Table(title="By symbol", title_justify="left")
    for name in ("channel", "symbol", "from", "until", "minutes", ""):
        table.add_column(name, no_wrap=True, justify="right" if name == "minutes" else "left")
    for name, covered in coverage.items():
        for one in covered.intervals():
            style = "red" if one.word in (GAP, UNRECOVERABLE) else ""
            table.add_row(
                name.replace("_", " "), one.symbol, when(one.from_ts), when(one.until_ts), str(one.minutes),
                Text(one.word, style),
            )  # fmt: skip
    return table
