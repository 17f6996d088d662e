"""The completeness report: the evidence gathered, compared, and put into one value."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import polars as pl

from schemas.gaps import EVERY, Gap
from tidewire.config import Settings
from verify import dead_letters, running
from verify.activities import ActivityOutcome
from verify.compare import Missing, Outcome, compare
from verify.completeness import Completeness, channel_name
from verify.content import ALL_BARS, CHANNELS, Channel
from verify.coverage import HOUR, MINUTE, Coverage, Span, cover, minutes_of
from verify.dead_letters import Letter
from verify.exits import ExitOutcome
from verify.gather import Gathered, gather
from verify.orders import OrderOutcome

Source = Literal["ledger", "alpaca"]
DAILY = "dailyBars"


@dataclass(frozen=True, slots=True)
class Report:
    """What `tidewire verify` says. `source` alpaca: nobody knows what was sent; `sent` is None."""

    source: Source
    channels: Mapping[str, Outcome]
    filtered: Mapping[str, int]
    dropped: Mapping[str, int]
    letters: list[Letter] = field(default_factory=list)
    other_letters: int = 0
    other_problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    messages_per_second: float | None = None
    limit: int = 100
    orders: OrderOutcome | None = None
    activities: ActivityOutcome | None = None
    exits: ExitOutcome = field(default_factory=ExitOutcome)
    completeness: Completeness = field(default_factory=Completeness)
    coverage: Mapping[str, Coverage] = field(default_factory=dict)
    """The four words, by channel."""

    @property
    def complete(self) -> bool:
        """Nothing missing, nothing extra, and the table folded what the topics hold."""
        outcomes: list[Outcome | OrderOutcome | ActivityOutcome] = [*self.channels.values()]
        outcomes += [o for o in (self.orders, self.activities) if o is not None]
        return not self.problems and not any(o.missing or o.extra for o in outcomes)

    @property
    def missing_events(self) -> list[Missing]:
        """The earliest missing events of all channels, at most `limit`."""
        found = [m for o in self.channels.values() for m in o.missing_events]
        return sorted(found, key=lambda m: m.ts)[: self.limit]

    @property
    def unrecoverable_events(self) -> list[Missing]:
        """The earliest events that are lost for good, of all channels, at most `limit`."""
        found = [m for o in self.channels.values() for m in o.unrecoverable_events]
        return sorted(found, key=lambda m: m.ts)[: self.limit]

    @property
    def problems(self) -> list[str]:
        """Everything else that is wrong, in words."""
        of_orders = [p for o in (self.orders, self.activities) if o is not None for p in o.problems]
        of_orders += self.exits.problems
        return [p for o in self.channels.values() for p in o.problems] + of_orders + self.other_problems

    def as_json(self) -> dict[str, Any]:
        """The report as `--json` prints it."""
        missing = [_missing(m) for m in self.missing_events]
        return {
            "complete": self.complete,
            "source": self.source,
            "channels": {name: self._channel(name, o) for name, o in self.channels.items()}
            | self._order_channel()
            | ({} if self.activities is None else self.activities.as_json()),
            "positions": [] if self.orders is None else [h.as_json() for h in self.orders.holdings],
            "exits": self.exits.as_json(),
            "messages_per_second": self.messages_per_second,
            "first_missing": missing[0] if missing else None,
            "missing_events": missing,
            "unrecoverable_events": [_missing(m) for m in self.unrecoverable_events],
            "gaps": self._gaps(),
            "coverage": {name: found.totals() for name, found in self.coverage.items()},
            "dead_letters": [letter.as_json() for letter in self.letters[: self.limit]],
            "other_dead_letters": self.other_letters,
            "problems": self.problems,
            "notes": self.notes,
        }

    def _channel(self, name: str, o: Outcome) -> dict[str, Any]:
        return {
            "sent": o.sent, "topic": o.topic, "table": o.table, "postgres": o.postgres,
            "duplicates": o.duplicates + (self.dropped.get(name, 0) if o.sent is None else 0),
            "filtered": self.filtered.get(name, 0) + o.stale, "late": o.late, "repaired": o.repaired,
            "dead_lettered": o.dead_lettered, "expired": o.expired, "unrecoverable": o.unrecoverable,
            "missing": o.missing,
            "extra": o.extra,
        }  # fmt: skip

    def _gaps(self) -> dict[str, int]:
        board = self.completeness.board
        closed = board.closed()
        return {
            "open": len(board.open()), "closed": len(closed),
            "unrecoverable": len(board.unrecoverable()), "published": sum(g.published for g in closed),
        }  # fmt: skip

    def _order_channel(self) -> dict[str, Any]:
        """The order events, as a channel; `pushed` includes what a later state of its order covered."""
        o = self.orders
        if o is None:
            return {}
        pushed = None if o.pushed is None else o.pushed + o.by_snapshot
        return {
            "order_events": {
                "sent": o.sent, "topic": o.topic, "table": o.folded, "postgres": o.postgres,
                "pushed": pushed, "covered_by_snapshot": o.by_snapshot, "looked_up": o.looked_up,
                "duplicates": 0, "filtered": 0, "late": 0, "dead_lettered": o.dead_lettered,
                "missing": o.missing, "extra": o.extra, "unrecoverable": o.unrecoverable,
            }
        }  # fmt: skip

    def text(self) -> str:
        """The JSON text."""
        return json.dumps(self.as_json(), indent=2)


def _missing(m: Missing) -> dict[str, Any]:
    whole, rest = divmod(m.ts, 1_000_000_000)
    time = f"{datetime.fromtimestamp(whole, UTC):%Y-%m-%dT%H:%M:%S}.{rest:09d}Z"
    return {"channel": m.channel, "where": m.where, "time": time, "copies": m.copies, "event": m.event}


def build(
    settings: Settings,
    *,
    ledger_folder: Path | None = None,
    limit: int = 100,
    wait_seconds: float = 10.0,
    messages_per_second: float | None = None,
) -> Report:
    """Gather the evidence from the ledger, Kafka and PostgreSQL and compare it; blocking.

    Without `ledger_folder` the simulator's ledger under TIDEWIRE_HOME is taken if the last run was simulated.
    `wait_seconds`: how long to wait for services that still have records to read. `messages_per_second`: as
    measured by the caller; without it, the rate at which the topics were filled.

    Raises:
        UnreachableError: Kafka or PostgreSQL does not answer.
        TidewireError: the ledger cannot be read.
    """
    folder = ledger_folder or running.ledger_folder(settings)
    gathered = asyncio.run(gather(settings, folder, wait_seconds))
    return assess(settings, gathered, limit, known=folder is not None, rate=messages_per_second)


def assess(settings: Settings, gathered: Gathered, limit: int, known: bool, rate: float | None) -> Report:
    """The report of gathered evidence. `known`: a ledger says what was sent; `rate`: messages a second."""
    outcomes = {name: compare(evidence, limit) for name, evidence in gathered.channels.items()}
    counted = running.counters(settings)
    topics, names = [c.topic for c in CHANNELS], [c.name for c in CHANNELS]
    return Report(
        source="ledger" if known else "alpaca",
        channels=outcomes,
        filtered=counted.filtered,
        dropped=counted.dropped,
        letters=gathered.letters,
        other_letters=dead_letters.without_channel(gathered.letters, topics, names),
        other_problems=_other_problems(gathered, known),
        notes=_notes(gathered, outcomes, known),
        messages_per_second=rate if rate is not None else _rate(gathered, outcomes),
        limit=limit,
        orders=gathered.orders,
        activities=gathered.activities,
        exits=gathered.exits,
        completeness=gathered.completeness,
        coverage=_coverage(gathered),
    )


def _coverage(g: Gathered) -> dict[str, Coverage]:
    """The four words of every channel of which there is anything to say."""
    return cover_all([(channel, g.channels[channel.name].topic) for channel in CHANNELS], g.completeness)


def cover_all(events: Sequence[tuple[Channel, pl.DataFrame]], told: Completeness) -> dict[str, Coverage]:
    """The four words by channel, of the events that the topics hold; bars of days apart, as `daily_bars`."""
    spans, found = spans_of(events), dict[str, Coverage]()
    for channel, frame in events:
        found[channel.name] = cover_channel(channel, frame, told, spans.get(channel.venue))
        if channel in ALL_BARS:
            found[channel.name.replace("bars", "daily_bars")] = cover_days(channel, frame, told)
    return {name: covered for name, covered in found.items() if covered.states.height}


def spans_of(events: Iterable[tuple[Channel, pl.DataFrame]]) -> dict[str, Span]:
    """By venue the first and the last event time of all its channels, an hour more on both sides.

    A venue without events has none.
    """
    spans: dict[str, Span] = {}
    for channel, frame in events:
        if frame.height and channel not in ALL_BARS:  # a day's bar is as old as the day
            first, last = int(frame["ts"].min()), int(frame["ts"].max())  # type: ignore[arg-type]
            known = spans.get(channel.venue, (first, last))
            spans[channel.venue] = min(known[0], first), max(known[1], last)
    return {venue: (first - HOUR, last + HOUR) for venue, (first, last) in spans.items()}


def cover_channel(channel: Channel, events: pl.DataFrame, told: Completeness, span: Span | None) -> Coverage:
    """The words of one channel, of the events that its topic holds. Bars: those of a minute. `span`: of its
    venue's events.
    """
    if channel in ALL_BARS:
        events = events.filter(pl.col("interval") == "minute")
    if "symbol" not in events.columns:
        events = events.with_columns(pl.lit(EVERY).alias("symbol"))
    name = channel_name(channel)
    gaps = told.gaps_of(channel.venue, (name,))
    if channel in ALL_BARS:  # a bar comes when its minute has ended
        gaps = [_earlier(gap) for gap in gaps]
    return cover(minutes_of(events), gaps, told.audits_of(channel.venue, name), span=span)


def cover_days(channel: Channel, events: pl.DataFrame, told: Completeness) -> Coverage:
    """The words of daily bars: a day counts as one, as the minute with which it begins."""
    days = minutes_of(events.filter(pl.col("interval") == "day"))
    audits = told.audits_of(channel.venue, DAILY)
    begins = sorted({*days["minute"], *(audit["ts"] for audit in audits)})
    gaps = [
        replace(gap, from_ts=day, until_ts=day)
        for gap in told.gaps_of(channel.venue, (DAILY,))
        for day in begins
        if gap.from_ts < day + MINUTE and (gap.until_ts is None or gap.until_ts >= day)
    ]
    return cover(days, gaps, audits)


def _earlier(gap: Gap) -> Gap:
    until = None if gap.until_ts is None else gap.until_ts - MINUTE
    return replace(gap, from_ts=gap.from_ts - MINUTE, until_ts=until)


def _other_problems(g: Gathered, known: bool) -> list[str]:
    problems = []
    if fetched := len(g.completeness.fetchable):
        problems.append(f"{fetched} gaps are being fetched (`tidewire gaps --open`)")
    if not known and (lasting := g.completeness.lasting):
        feeds = ", ".join(sorted({gap.feed for gap in lasting}))
        problems.append(f"{len(lasting)} gaps are not over yet ({feeds})")
    if g.completeness.unreadable:
        problems.append(f"{g.completeness.unreadable} records of gaps and audits cannot be read")
    if lost := g.unknown_sent - g.unknown_given_up:
        problems.append(f"{lost} messages of unknown types were sent and no dead letter holds them")
    due = g.corrections_sent - g.corrections_lost
    if g.corrections_kept < due:
        problems.append(f"{due} corrections were sent, the topic holds {g.corrections_kept}")
    return problems


def _rate(gathered: Gathered, outcomes: Mapping[str, Outcome]) -> float | None:
    if gathered.received_seconds is None:
        return None
    return round(sum(o.topic for o in outcomes.values()) / gathered.received_seconds, 1)


def _notes(gathered: Gathered, outcomes: Mapping[str, Outcome], known: bool) -> list[str]:
    notes = []
    if not known:
        notes.append(
            "Nobody knows what Alpaca sent: this compares the topics, the table and PostgreSQL only."
        )
    if gathered.ledger_from:
        notes.append(
            f"The ledger no longer holds the first {gathered.ledger_from:,} messages: they show as extra."
        )
    if known and (lasting := gathered.completeness.lasting):
        notes.append(f"{len(lasting)} gaps are not over yet; the ledger says what is missing of them.")
    if lost := gathered.completeness.board.unrecoverable():
        notes.append(f"{len(lost)} gaps are unrecoverable, in whole or in part (`tidewire gaps` says why).")
    notes += [
        f"{o.doubled} of the extra {name} equal others that were sent: a frame of quotes of one time"
        " that comes twice cannot be told from true repeats."
        for name, o in outcomes.items()
        if o.doubled
    ]
    if any(e.arrived_meanwhile for e in gathered.channels.values()):
        notes.append("Events were still arriving; those of the last moments may show as missing.")
    return notes + ([] if gathered.orders is None else gathered.orders.notes)
