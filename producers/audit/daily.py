"""The audit of daily bars: once a day's session is over, its bars beside those of the history."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from producers.audit import comparison, findings
from producers.audit.asking import Asking, Place
from producers.audit.board import Gaps, Position
from producers.audit.cases import Case, Judged, Next, concerns, overlaps
from producers.audit.comparison import Bar
from producers.audit.days import CHANNEL, OVER_AFTER
from producers.audit.event_clock import EventClock
from producers.audit.findings import Place as Audited
from producers.audit.rounds import Write
from producers.audit.scope import EVERY
from producers.audit.station import Station
from schemas.gaps import Gap
from tidewire.clock import Clock
from tidewire.metrics import AUDIT_MINUTES, AUDIT_REPAIRS
from tidewire.placing import partition_of


class DailyRounds:
    """The daily bars of one feed over all its stations: of the configured symbols, whose bars never pause."""

    def __init__(
        self,
        feed: str,
        asking: Asking,
        gaps: Gaps,
        write: Write,
        position: Position,
        clock: Clock,
        epoch: int,
    ) -> None:
        """`epoch` is our own, as the owner of what is written."""
        self._feed, self._asking, self._gaps, self._write = feed, asking, gaps, write
        self._position, self._clock, self._epoch = position, clock, epoch
        self._last_ts = 0

    async def run(
        self, stations: Sequence[Station], market: EventClock, read_on: Callable[[], Awaitable[None]]
    ) -> None:
        """Compare every day that is over and ready; `read_on` as in `Rounds.run`. Raises HistoryError."""
        days = set().union(*(station.days.known() for station in stations))
        for station in stations:
            self._open(station, sorted(days), station.due_before(market, self._clock()))
        ready = self._ready(stations)
        if not ready:
            return
        bars = await self._asking.days([(case.minute, who) for _, case, some in ready for who in some])
        await read_on()
        found: dict[int, list[Judged]] = {}
        for station, case, symbols in ready:
            if station.days.cases.get(case.minute) is case:
                found.setdefault(case.minute, []).extend(self._judge(station, case, symbols, bars))
        for day, judged in found.items():
            self._tell(Audited(self._feed, CHANNEL, day), judged)
        for station in stations:
            for day in [day for day, case in station.days.cases.items() if not case.todo]:
                station.days.finish(day)

    def _open(self, station: Station, days: Sequence[int], before: int | None) -> None:
        length = OVER_AFTER[station.scope.kind]
        for day in days:
            if before is None or day + length > before or day < station.days.floor:
                continue
            if day not in station.days.cases:
                station.days.cases[day] = Case.of(CHANNEL, day, _whom(station, day))

    def _ready(self, stations: Sequence[Station]) -> list[tuple[Station, Case, list[str]]]:
        waiting, now = self._gaps.waiting(self._feed, CHANNEL, self._position), self._clock()
        found = [
            (station, case, case.ready(now, waiting))
            for station in stations
            for case in station.days.cases.values()
        ]
        return [(station, case, symbols) for station, case, symbols in found if symbols or not case.todo]

    def _judge(
        self, station: Station, case: Case, symbols: Sequence[str], bars: dict[Place, Bar]
    ) -> list[Judged]:
        held, now = station.days.of(case.minute), self._clock()
        known = [g for g in self._gaps.known(self._feed, CHANNEL) if overlaps(g, CHANNEL, case.minute)]

        def gaps_of(symbol: str) -> list[Gap]:
            return [gap for gap in known if concerns(gap, symbol)]

        return [
            case.judge(
                comparison.bars(symbol, held.get(symbol), bars.get((case.minute, symbol))),
                now,
                gaps_of,
                station.extent,
            )
            for symbol in symbols
        ]

    def _tell(self, place: Audited, judged: Sequence[Judged]) -> None:
        self._last_ts = max(self._clock(), self._last_ts + 1)  # the ids of gaps are made of it
        kind = place.feed.partition(":")[0]
        settled = [j for j in judged if j.next is not Next.AGAIN and (j.look.expected or j.look.held)]
        record = findings.record(place, settled, self._last_ts, self._epoch)
        if record is not None:
            self._write(record)
            AUDIT_MINUTES.labels(kind, CHANNEL, "differing" if record["differing"] else "equal").inc()
        for gap in findings.repairs(place, judged, self._last_ts, self._epoch):
            self._gaps.put(gap)
            self._write(gap)
            AUDIT_REPAIRS.labels(kind, CHANNEL).inc(len(gap.symbols))


def _whom(station: Station, day: int) -> set[str]:
    if EVERY in station.scope.symbols:
        return set(station.days.of(day))
    return {
        s for s in station.scope.symbols if partition_of(s.encode(), station.partitions) == station.partition
    }
