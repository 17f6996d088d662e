"""What holds for each symbol and minute of a channel, in one of four words. Pure.

`audited`: equal to Alpaca's own history. `received`: in the log, not yet compared. `gap`: known to be
missing, being fetched. `unrecoverable`: missing, and Alpaca cannot give it back. A minute in which nothing
came, that nobody compared and that no gap touches is not counted: there is nothing to say of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from schemas.gaps import AUDIT, CLOSED, EVERY, Gap

AUDITED, RECEIVED, GAP, UNRECOVERABLE = "audited", "received", "gap", "unrecoverable"
WORDS = (AUDITED, RECEIVED, GAP, UNRECOVERABLE)
MINUTE = 60_000_000_000
HOUR = 60 * MINUTE

_PLACE = ["symbol", "minute"]
_MINUTES = {"symbol": pl.String, "minute": pl.Int64}
_AUDITS = {**_MINUTES, "audited_ts": pl.Int64, "equal": pl.Boolean}
_GAPS = {**_MINUTES, "open": pl.Boolean, "lost": pl.Boolean, "repair": pl.Boolean, "gap_ts": pl.Int64}

Audit = Mapping[str, Any]
"""A record of alpaca.audits."""


@dataclass(frozen=True, slots=True)
class Interval:
    """Minutes of one symbol in a row with one word: start of the first and end of the last, ns."""

    symbol: str
    word: str
    from_ts: int
    until_ts: int

    @property
    def minutes(self) -> int:
        """How many."""
        return (self.until_ts - self.from_ts) // MINUTE


@dataclass(frozen=True, slots=True)
class Coverage:
    """One channel: `states` has a row a symbol and minute, with its word."""

    states: pl.DataFrame

    def totals(self) -> dict[str, int]:
        """Symbols' minutes by word."""
        counted = dict(self.states.group_by("word").len().iter_rows())
        return {word: int(counted.get(word, 0)) for word in WORDS}

    def intervals(self) -> list[Interval]:
        """The minutes of each symbol, those in a row together."""
        if not self.states.height:
            return []
        ordered = self.states.sort(_PLACE)
        new = (
            (pl.col("symbol") != pl.col("symbol").shift())
            | (pl.col("word") != pl.col("word").shift())
            | (pl.col("minute") != pl.col("minute").shift() + MINUTE)
        ).fill_null(True)
        runs = (
            ordered.with_columns(new.cum_sum().alias("run"))
            .group_by("run", maintain_order=True)
            .agg(
                pl.col("symbol", "word").first(), pl.col("minute").first().alias("a"), pl.col("minute").last()
            )
        )
        return [
            Interval(row["symbol"], row["word"], row["a"], row["minute"] + MINUTE)
            for row in runs.iter_rows(named=True)
        ]

    def of(self, symbol: str) -> Coverage:
        """That of one symbol."""
        return Coverage(self.states.filter(pl.col("symbol") == symbol))


def minutes_of(events: pl.DataFrame) -> pl.DataFrame:
    """The symbols and minutes that a frame of events (`symbol`, `ts`) has."""
    minute = (pl.col("ts") - pl.col("ts") % MINUTE).alias("minute")
    return events.select(pl.col("symbol").cast(pl.String), minute).unique()


Span = tuple[int, int]
"""First and last event time, ns."""


def cover(
    data: pl.DataFrame,
    gaps: Iterable[Gap],
    audits: Iterable[Audit],
    now: int | None = None,
    span: Span | None = None,
) -> Coverage:
    """The words of one channel.

    `data`: what the log has, as `minutes_of` gives it; gaps and audits of this channel. `now`: the newest
    event time known (ns), up to which a gap goes that lasts. `span`: of the whole feed; no gap is followed
    beyond it, where nothing was sent on any channel: a weekend's minutes of all symbols are not worth a row.
    """
    compared = _audits(audits)
    known = pl.concat([data["symbol"], compared["symbol"]]).unique().to_list()
    newest = data["minute"].max()
    until = max(now or 0, newest if isinstance(newest, int) else 0)
    holes = _gaps(gaps, known, until, span)
    wanted = holes.filter(pl.col("open") | pl.col("lost")).select(_PLACE)
    places = pl.concat([data.select(_PLACE), compared.select(_PLACE), wanted]).unique()
    joined = places.join(compared, on=_PLACE, how="left").join(holes, on=_PLACE, how="left")
    return Coverage(joined.select(*_PLACE, _word().alias("word")))


def _word() -> pl.Expr:
    lost = pl.col("lost").fill_null(False)
    equal, audited = pl.col("equal"), pl.col("audited_ts").fill_null(0)
    repaired = pl.col("repair").fill_null(False) & (pl.col("gap_ts").fill_null(0) <= audited)
    return (
        pl.when(pl.col("open").fill_null(False))
        .then(pl.lit(GAP))
        .when(lost & ~(equal.fill_null(False) & (audited > pl.col("gap_ts"))))
        .then(pl.lit(UNRECOVERABLE))
        .when(equal.fill_null(False))
        .then(pl.lit(AUDITED))
        .when(equal.is_not_null() & repaired)  # fetched, and it still differs
        .then(pl.lit(UNRECOVERABLE))
        .when(equal.is_not_null())
        .then(pl.lit(GAP))
        .otherwise(pl.lit(RECEIVED))
    )


def _audits(audits: Iterable[Audit]) -> pl.DataFrame:
    """The newest comparison of each symbol and minute."""
    rows = []
    for audit in audits:
        differing = set(audit["differing"])
        rows += [(s, audit["ts"], audit["audited_ts"], s not in differing) for s in audit["symbols"]]
    frame = pl.DataFrame(rows, schema=_AUDITS, orient="row")
    return frame.sort("audited_ts", maintain_order=True).unique(_PLACE, keep="last", maintain_order=True)


def _gaps(gaps: Iterable[Gap], known: Sequence[str], until: int, span: Span | None) -> pl.DataFrame:
    """By symbol and minute: whether any gap is open, and how the one ended that was closed last."""
    parts = [pl.DataFrame(schema=_GAPS)]
    for gap in gaps:
        first, last = gap.from_ts, max(gap.from_ts, until) if gap.until_ts is None else gap.until_ts
        if span is not None:
            first, last = max(first, span[0]), min(last, span[1])
        minutes = pl.int_range(first - first % MINUTE, last + 1, MINUTE, eager=True)
        symbols = (known or [EVERY]) if EVERY in gap.symbols else list(gap.symbols)
        states = pl.DataFrame(
            {
                "symbol": symbols, "open": gap.state != CLOSED,
                "lost": gap.state == CLOSED and bool(gap.unrecoverable),
                "repair": gap.state == CLOSED and gap.reason == AUDIT, "gap_ts": gap.ts,
            }
        )  # fmt: skip
        parts.append(
            states.join(pl.DataFrame({"minute": minutes}), how="cross").select(
                pl.col(name).cast(kind) for name, kind in _GAPS.items()
            )
        )
    ordered = pl.concat(parts).sort("gap_ts", "lost", maintain_order=True)
    return ordered.group_by(_PLACE).agg(
        pl.col("open").any(), pl.col("lost").last(), pl.col("repair").any(), pl.col("gap_ts").max()
    )
