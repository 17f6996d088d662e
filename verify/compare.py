"""Multisets of events: what is missing, what is there too often, what is only a repeat. Pure.

A multiset difference is one pass: every expected row counts +1, every actual row -1, equal rows are added up;
what is left above zero is missing, below zero is extra. Order, partitions and batches do not matter.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import polars as pl

from schemas.gaps import CLOSED, EVERY, Gap
from verify.content import ALL_BARS, ARTICLES, FOLDED, TRADES, Channel, as_event

Coordinates = frozenset[tuple[int, int]]
"""(partition, offset) pairs of one topic."""

Where = Literal["topic", "postgres"]
COPIES = "copies"
_BAR_KEY = ["symbol", "interval", "ts"]
_BAR_REACH = 120_000_000_000


@dataclass(frozen=True, slots=True)
class Missing:
    """An event that was sent (or is in the topic) and is absent from `where`, so many times."""

    channel: str
    where: Where
    copies: int
    event: dict[str, Any]

    @property
    def ts(self) -> int:
        """Event time, ns since 1970 UTC."""
        return int(self.event["ts"])


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that is known about one channel.

    Frames hold content columns; those of topic and postgres also `k_part` and `k_offset`, that of the topic
    `event_id` and, where some may have come over REST, `by_rest`. `sent` None: nobody knows what was sent.
    `folded` None: no table folds this channel.
    """

    channel: Channel
    sent: pl.DataFrame | None
    topic: pl.DataFrame
    unreadable: Coordinates
    postgres: pl.DataFrame
    folded: int | None = None
    sent_by_now: pl.DataFrame | None = None
    """What was sent until the topics had been read, where records kept coming, and what passed while nobody
    was subscribed, which only history tells: none of it is extra.
    """
    arrived_meanwhile: int = 0
    """Records that came into the topic while the evidence was gathered; the table may have folded them."""
    given_up_by_producer: pl.DataFrame | None = None
    given_up_by_table: Coordinates = frozenset()
    given_up_by_sink: Coordinates = frozenset()
    other_letters: int = 0
    """Dead letters without a place in the topic: of the producer, of broken input lines."""
    odd_sent: int = 0
    """Sent messages that have no content row because they are broken."""
    odd_given_up: int = 0
    """Those of them that a dead letter holds."""
    gaps: Sequence[Gap] = ()
    """Of this channel, closed or not."""
    stale: int = 0
    repaired: int = 0
    """See topic.TopicContent."""
    kept_from: int | None = None
    """Event time (ns since 1970 UTC) before which the sink has dropped what the table held; None: nothing."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The numbers of one channel, and what is wrong in words."""

    sent: int | None
    topic: int
    table: int | None
    postgres: int
    duplicates: int
    late: int
    dead_lettered: int
    missing: int
    extra: int
    missing_events: list[Missing] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    unrecoverable: int = 0
    """Sent, not in the topic, and Alpaca has no history of it: within a gap that says so, or a former version
    of a bar or an article whose last version is in the topic.
    """
    unrecoverable_events: list[Missing] = field(default_factory=list)
    repaired: int = 0
    stale: int = 0
    doubled: int = 0
    """Of the extra ones, those that equal events which were sent."""
    expired: int = 0
    """In the topic, and no longer in PostgreSQL as its retention is over."""


def difference(
    expected: pl.DataFrame, actual: pl.DataFrame, columns: Sequence[str]
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """(missing, extra) as frames of `columns` and `copies` > 0."""
    left = expected.select(*columns, pl.lit(1, pl.Int64).alias(COPIES))
    right = actual.select(*columns, pl.lit(-1, pl.Int64).alias(COPIES))
    balance = pl.concat([left, right]).group_by(list(columns)).agg(pl.col(COPIES).sum())
    missing = balance.filter(pl.col(COPIES) > 0)
    extra = balance.filter(pl.col(COPIES) < 0).with_columns(-pl.col(COPIES))
    return missing, extra


def take_away(counted: pl.DataFrame, rows: pl.DataFrame, columns: Sequence[str]) -> pl.DataFrame:
    """`counted` (with `copies`) less the rows, never below zero."""
    if not rows.height or not counted.height:
        return counted
    less = rows.select(*columns).group_by(list(columns)).agg(pl.len().cast(pl.Int64).alias("_less"))
    joined = counted.join(less, on=list(columns), how="left", nulls_equal=True)
    rest = pl.col(COPIES) - pl.col("_less").fill_null(0)
    return joined.with_columns(rest.alias(COPIES)).filter(pl.col(COPIES) > 0).drop("_less")


def copies(counted: pl.DataFrame) -> int:
    """How many events a frame with `copies` stands for."""
    return int(counted[COPIES].sum())


def compare(evidence: Evidence, limit: int) -> Outcome:
    """Hold everything about one channel against each other; at most `limit` missing events are listed."""
    e, columns = evidence, evidence.channel.columns
    absent, extra, dropped, doubled = _entrance(e)
    absent, lost = unrecoverable(e, absent)
    written = _without(e.topic, e.given_up_by_sink)
    again = e.topic.filter(~pl.col("event_id").is_first_distinct())
    unwritten, invented = difference(written, e.postgres, columns)
    unwritten = take_away(unwritten, again, columns)
    unwritten, expired = _expired(e, unwritten)
    odd = max(0, e.odd_sent - e.odd_given_up)
    unexplained = e.unreadable - (e.given_up_by_sink | e.given_up_by_table)
    problems = _problems(e, odd, len(unexplained), again.height)
    listed = _listed(e.channel, "topic", absent, limit) + _listed(e.channel, "postgres", unwritten, limit)
    return Outcome(
        sent=None if e.sent is None else e.sent.height + e.odd_sent,
        topic=e.topic.height + len(e.unreadable),
        table=e.folded,
        postgres=e.postgres.height,
        duplicates=dropped + doubled,
        late=late(e.topic) if e.channel is TRADES else 0,
        dead_lettered=len(e.given_up_by_sink | e.given_up_by_table) + e.other_letters,
        missing=copies(absent) + copies(unwritten) + odd,
        extra=copies(extra) + copies(invented),
        missing_events=sorted(listed, key=lambda m: m.ts)[:limit],
        problems=problems,
        unrecoverable=copies(lost),
        unrecoverable_events=_listed(e.channel, "topic", lost, limit),
        repaired=e.repaired,
        stale=e.stale,
        doubled=doubled,
        expired=expired,
    )


def _expired(e: Evidence, unwritten: pl.DataFrame) -> tuple[pl.DataFrame, int]:
    """What PostgreSQL lacks, without the events whose retention there is over, and how many these are."""
    if e.kept_from is None:
        return unwritten, 0
    past = pl.col("ts") < e.kept_from
    return unwritten.filter(~past), copies(unwritten.filter(past))


def unrecoverable(e: Evidence, absent: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The events that the topic lacks, without those that cannot be had back, and these."""
    if not absent.height:
        return absent, absent
    gone = _superseded(e, absent)
    closed = [gap for gap in e.gaps if gap.state == CLOSED]
    if any(gap.unrecoverable for gap in closed):
        symbols = absent["symbol"] if "symbol" in absent.columns else [EVERY] * absent.height
        events = zip(symbols, absent["ts"], strict=True)
        gone = gone | pl.Series([_was_lost(closed, symbol, ts, e.channel) for symbol, ts in events])
    return absent.filter(~gone), absent.filter(gone)


def _was_lost(closed: Sequence[Gap], symbol: str, ts: int, channel: Channel) -> bool:
    """Whether the gap of this event that was closed last could not be had back."""
    # A bar's time is its beginning; it and its corrections come up to two minutes later.
    reach = _BAR_REACH if channel in ALL_BARS else 0
    found = [gap for gap in closed if gap.covers(symbol, ts) or (reach and gap.covers(symbol, ts + reach))]
    last = max(found, key=lambda gap: (gap.ts, bool(gap.unrecoverable)), default=None)
    return last is not None and bool(last.unrecoverable)


def _superseded(e: Evidence, absent: pl.DataFrame) -> pl.Series:
    """Which are former versions of a bar or an article: the history keeps the last, and the topic has it."""
    key = _BAR_KEY if e.channel in ALL_BARS else ["provider", "id"] if e.channel is ARTICLES else None
    if key is None or e.sent is None:
        return pl.repeat(False, absent.height, dtype=pl.Boolean, eager=True)
    columns = _without_extra(e.channel)  # history may say more of an event than the stream
    last = e.sent.unique(key, keep="last", maintain_order=True)
    held = last.join(e.topic.select(columns), on=columns, how="semi", nulls_equal=True)
    final = absent.with_row_index("_row").join(last.select(columns), on=columns, how="semi", nulls_equal=True)
    older = absent.with_row_index("_row").join(held.select(key), on=key, how="semi")
    rows = set(older["_row"]) - set(final["_row"])
    return pl.Series([n in rows for n in range(absent.height)], dtype=pl.Boolean)


def _entrance(e: Evidence) -> tuple[pl.DataFrame, pl.DataFrame, int, int]:
    """Sent against topic: (missing from the topic, extra in it, repeats that were dropped, and of the extra
    ones those that equal some that were sent).
    """
    columns = e.channel.columns
    if e.sent is None:
        nothing, _ = difference(e.channel.empty(), e.channel.empty(), columns)
        return nothing, nothing, 0, 0
    absent, extra = difference(e.sent, e.topic, columns)
    if e.sent_by_now is not None:
        _, extra = difference(e.sent_by_now, e.topic, columns)
    absent, extra = _told_fuller(e, absent, extra)
    left = take_away(absent, repeats(e.channel, e.sent), columns)
    dropped, absent = copies(absent) - copies(left), left
    if e.given_up_by_producer is not None:
        absent = take_away(absent, e.given_up_by_producer, columns)
    doubled = extra.join(e.sent.select(columns), on=columns, how="semi", nulls_equal=True)
    return absent, extra, dropped, copies(doubled)


def _told_fuller(e: Evidence, absent: pl.DataFrame, extra: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Both without the events of which history has fields that the stream does not send (an article's images,
    say): fetched over REST, they differ from what was sent in `extra` alone.
    """
    if "by_rest" not in e.topic.columns or not absent.height or not extra.height:
        return absent, extra
    columns, plain = e.channel.columns, _without_extra(e.channel)
    fetched = e.topic.filter("by_rest")
    fuller = extra.filter(pl.col("extra").is_not_null())
    fuller = fuller.join(fetched.select(columns), on=columns, how="semi", nulls_equal=True).unique(plain)
    told = absent.join(fuller, on=plain, how="semi", nulls_equal=True).unique(plain)
    fuller = fuller.join(told, on=plain, how="semi", nulls_equal=True)
    return take_away(absent, told, columns), take_away(extra, fuller, columns)


def _without_extra(channel: Channel) -> list[str]:
    return [name for name in channel.columns if name != "extra"]


def repeats(channel: Channel, sent: pl.DataFrame) -> pl.DataFrame:
    """What the entrance to the log may drop: an event whose key came before, a bar that says nothing new.

    A repeated quote is never dropped: quotes have no id, and true repeats are real.
    """
    if channel.key:
        return sent.filter(~pl.struct(channel.key).is_first_distinct())
    if channel in ALL_BARS:
        numbers = [name for name in channel.columns if name not in _BAR_KEY]
        said = pl.struct(numbers)
        return sent.filter((said == said.shift().over(_BAR_KEY)).fill_null(False))
    return sent.clear()


def _problems(e: Evidence, odd: int, unexplained: int, again: int) -> list[str]:
    problems = []
    if again:
        problems.append(f"{again} records of {e.channel.topic} repeat an event that it already holds")
    if odd:
        problems.append(f"{odd} broken {e.channel.name} were sent and no dead letter holds them")
    if unexplained:
        problems.append(f"{unexplained} records of {e.channel.topic} cannot be read and have no dead letter")
    if e.channel in FOLDED and e.folded is not None:
        due = e.topic.height + len(e.unreadable) - len(e.given_up_by_table)
        if not due <= e.folded <= due + e.arrived_meanwhile:
            problems.append(f"the feature table folded {e.folded:,} {e.channel.name}, {due:,} were due")
    return problems


def _without(frame: pl.DataFrame, places: Iterable[tuple[int, int]]) -> pl.DataFrame:
    pairs = list(places)
    if not pairs:
        return frame
    shape = {"k_part": pl.Int64, "k_offset": pl.Int64}
    return frame.join(pl.DataFrame(pairs, schema=shape, orient="row"), on=list(shape), how="anti")


def _listed(channel: Channel, where: Where, counted: pl.DataFrame, limit: int) -> list[Missing]:
    first = counted.sort(channel.columns).sort("ts", maintain_order=True).head(limit)
    return [
        Missing(channel.name, where, row[COPIES], as_event(channel, row))
        for row in first.iter_rows(named=True)
    ]


def late(trades: pl.DataFrame) -> int:
    """Trades that came after a trade of a later New York day of the same symbol; they count in no session."""
    if not trades.height:
        return 0
    moment = pl.from_epoch(pl.col("ts"), time_unit="ns").dt.replace_time_zone("UTC")
    days = trades.select(
        "symbol", "k_part", "k_offset", moment.dt.convert_time_zone("America/New_York").dt.date().alias("day")
    ).sort("k_part", "k_offset")
    newest = pl.col("day").cast(pl.Int32).cum_max().over("symbol")
    return int(days.select((pl.col("day").cast(pl.Int32) < newest).sum()).item())
