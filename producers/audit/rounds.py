"""One round of the audit: compare what is due of one kind of feed, and say what was found."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from producers.audit import comparison, findings
from producers.audit.asking import Asking, Place
from producers.audit.board import Gaps, Position
from producers.audit.cases import Case, Judged, Next, concerns, overlaps
from producers.audit.comparison import Bar, Look, Sums
from producers.audit.findings import Place as Audited
from producers.audit.station import Station
from schemas.gaps import Gap
from tidewire.clock import Clock
from tidewire.metrics import AUDIT_MINUTES, AUDIT_REPAIRS

Write = Callable[[dict[str, Any] | Gap], None]
"""Takes an audit record's content, or a gap; keeps it until Kafka has it."""


@dataclass(frozen=True, slots=True)
class _Ready:
    station: Station
    case: Case
    symbols: list[str]

    @property
    def places(self) -> list[Place]:
        return [(self.case.minute, symbol) for symbol in self.symbols]


@dataclass(slots=True)
class _Answers:
    bars: dict[Place, Bar]
    trades: dict[Place, Sums]
    quotes: dict[Place, list[tuple[Any, ...]]]


class Rounds:
    """The rounds of one feed over all its stations."""

    def __init__(
        self,
        feed: str,
        asking: Asking,
        gaps: Gaps,
        write: Write,
        position: Position,
        clock: Clock,
        owner_epoch: int,
        *,
        has_bars: bool = True,
    ) -> None:
        self._feed, self._asking, self._gaps, self._write = feed, asking, gaps, write
        self._position, self._clock, self._epoch, self._has_bars = position, clock, owner_epoch, has_bars
        self._last_ts = 0

    async def run(self, stations: Sequence[Station], read_on: Callable[[], Awaitable[None]]) -> int:
        """Compare everything that is ready; returns how many minutes of lanes came to their end.

        `read_on` returns once the log was read further than it is now. Raises HistoryError.
        """
        ready = self._ready(stations)
        if ready:
            answers = await self._ask(ready)
            await read_on()
            found: dict[Audited, list[Judged]] = {}
            for one in ready:
                if not one.station.has(one.case):
                    continue  # late records came meanwhile, it was given up, or is another's now
                place = Audited(self._feed, one.case.channel, one.case.minute, one.case.channel == "quotes")
                found.setdefault(place, []).extend(self._judge(one, answers))
            for place, judged in sorted(found.items(), key=lambda item: item[0].minute):
                self._tell(place, judged)
        return sum(station.settle() for station in stations)

    def _ready(self, stations: Sequence[Station]) -> list[_Ready]:
        now = self._clock()
        waiting = {c: self._gaps.waiting(self._feed, c, self._position) for c in ("trades", "bars", "quotes")}
        return [
            _Ready(station, case, symbols)
            for station in stations
            for cases in station.cases.values()
            for case in cases
            if (symbols := case.ready(now, waiting[case.channel]))
        ]

    async def _ask(self, ready: Sequence[_Ready]) -> _Answers:
        sums = [place for one in ready if one.case.channel != "quotes" for place in one.places]
        bars = await self._asking.bars(sums) if self._has_bars and sums else {}
        trades = await self._asking.trades(self._without_bar(ready, bars))
        sampled = [place for one in ready if one.case.channel == "quotes" for place in one.places]
        return _Answers(bars, trades, {place: await self._asking.quotes(place) for place in sampled})

    def _without_bar(self, ready: Sequence[_Ready], bars: dict[Place, Bar]) -> list[Place]:
        """Places where trades must be counted one by one: no bar says how many there were.

        Not of times in which nothing at all was going on, as at night.
        """
        if not self._has_bars:
            return [place for one in ready for place in one.places]
        busy = {minute for minute, _ in bars}
        return [
            place
            for one in ready
            if one.case.channel == "trades"
            for place in one.places
            if place not in bars
            and (place[0] in busy or place[1] in one.station.lane.held["trades"].of(place[0]))
        ]

    def _judge(self, one: _Ready, answers: _Answers) -> list[Judged]:
        now, minute = self._clock(), one.case.minute
        known: list[Gap] = []

        def gaps_of(symbol: str) -> list[Gap]:
            if not known:
                known.extend(
                    g
                    for g in self._gaps.known(self._feed, one.case.channel)
                    if overlaps(g, one.case.channel, minute)
                )
            return [gap for gap in known if concerns(gap, symbol)]

        held = one.station.lane.held[one.case.channel].of(minute)
        return [
            one.case.judge(
                _look(one.case.channel, (minute, symbol), held.get(symbol), answers),
                now,
                gaps_of,
                one.station.extent,
            )
            for symbol in one.symbols
        ]

    def _tell(self, place: Audited, judged: Sequence[Judged]) -> None:
        now = self._now()
        kind = place.feed.partition(":")[0]
        settled = [j for j in judged if j.next is not Next.AGAIN]
        if any(j.look.expected or j.look.held for j in settled):
            record = findings.record(place, judged, now, self._epoch)
            assert record is not None
            self._write(record)
            AUDIT_MINUTES.labels(kind, place.channel, "differing" if record["differing"] else "equal").inc()
        for gap in findings.repairs(place, judged, now, self._epoch):
            self._gaps.put(gap)
            self._write(gap)
            AUDIT_REPAIRS.labels(kind, place.channel).inc(len(gap.symbols))

    def _now(self) -> int:
        """The clock, never the same twice: the ids of gaps are made of it."""
        self._last_ts = max(self._clock(), self._last_ts + 1)
        return self._last_ts


def _look(channel: str, place: Place, held: Any, answers: _Answers) -> Look:
    symbol, bar = place[1], answers.bars.get(place)
    if channel == "bars":
        return comparison.bars(symbol, held, bar)
    if channel == "quotes":
        return comparison.contents(symbol, held, answers.quotes[place])
    if bar is not None:
        return comparison.trades(symbol, held, bar)
    return comparison.trade_lists(symbol, held, answers.trades.get(place))
