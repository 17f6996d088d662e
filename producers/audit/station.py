"""One lane at work: what was read of it, what time it is there, and its open cases."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from producers.audit.cases import UNKNOWN, Case, Extent
from producers.audit.comparison import add_contents, add_sums, newest
from producers.audit.days import Days
from producers.audit.event_clock import EventClock
from producers.audit.minutes import Lane, minute_of
from producers.audit.scope import Audited
from tidewire.clock import NS_PER_DAY
from tidewire.fence import LogFence

FOLDS: Mapping[str, Callable[[Any, Any], Any]] = {"trades": add_sums, "bars": newest, "quotes": add_contents}
QUIET_NS = 10_000_000_000
"""A recording that says nothing for so long has stopped, or is at its end."""
RECORDED_NS = 7 * NS_PER_DAY
"""Events that are older than this when they are read are those of a recording."""
MOST_MINUTES = 240
"""Minutes of one lane that are compared at once."""

Sampled = Callable[[str, int], bool]


@dataclass(slots=True)
class Station:
    """A lane with its clock, fences and cases. `caught_up`: its part of the log was read to the end."""

    scope: Audited
    partition: int
    partitions: int
    lane: Lane
    clock: EventClock = field(default_factory=EventClock)
    fences: dict[str, LogFence] = field(default_factory=dict)
    cases: dict[int, list[Case]] = field(default_factory=dict)
    days: Days = field(default_factory=Days)
    caught_up: bool = False
    extent: Extent = UNKNOWN
    newest: dict[str, int] = field(default_factory=dict)
    told_given_up: int = 0

    def due_before(self, market: EventClock, now_ns: int) -> int | None:
        """Minutes before this one have rested long enough; None: no time is known yet."""
        time = self.clock.newest
        quiet = self.caught_up and self.clock.quiet_ns(now_ns) >= QUIET_NS
        if time is not None and now_ns - time > RECORDED_NS and not quiet:
            # A recording may play at a thousand times its speed, and its channels do not arrive abreast.
            time = min(self.newest.values(), default=time)
        elif self.caught_up:
            times = [t for t in (self.clock.time(now_ns), market.time(now_ns)) if t is not None]
            time = max(times, default=None)
        return None if time is None else minute_of(time - self.scope.delay_ns)

    def open_cases(self, before: int, sampled: Sampled) -> None:
        """Make the cases of minutes that are due; a minute in which nobody is to be compared is done."""
        for minute in self.lane.open_minutes(before, MOST_MINUTES, self.cases):
            self._open(minute, sampled)
            if not self.cases[minute]:
                self._finish(minute)

    def _open(self, minute: int, sampled: Sampled) -> None:
        lane, scope = self.lane, self.scope
        symbols = scope.symbols_of(lane, self.partition, self.partitions, minute)
        by_channel: dict[str, Iterable[str]] = {c: symbols for c in scope.topics if c != "quotes"}
        if "quotes" in scope.topics:
            by_channel["quotes"] = {symbol for symbol in symbols if sampled(symbol, minute)}
        self.cases[minute] = [Case.of(c, minute, who) for c, who in by_channel.items() if who]

    def settle(self) -> int:
        """Finish the minutes whose cases have come to an end; returns how many."""
        over = [minute for minute, cases in self.cases.items() if not any(case.todo for case in cases)]
        for minute in over:
            self._finish(minute)
        return len(over)

    def newly_given_up(self) -> int:
        """Drop the cases of minutes that the lane has given up; returns how many more those are by now."""
        for minute in [m for m in self.cases if not self.lane.is_open(m)]:
            del self.cases[minute]
        told, self.told_given_up = self.told_given_up, self.lane.given_up
        return self.lane.given_up - told

    def has(self, case: Case) -> bool:
        """Whether a case is one of those that are open here."""
        return any(case is one for one in self.cases.get(case.minute, ()))

    def reopened(self, minutes: Iterable[int]) -> None:
        """Late records came: what was found of these minutes is void."""
        for minute in minutes:
            self.cases.pop(minute, None)

    def lag_ns(self, now_ns: int) -> int:
        """Event time from the end of the last minute that is done to now."""
        time = self.clock.time(now_ns)
        return 0 if time is None or self.lane.floor is None else max(0, time - self.lane.floor)

    def _finish(self, minute: int) -> None:
        self.cases.pop(minute, None)
        self.lane.finish(minute)


def limit_age(station: Station, before: int, longest_ns: int) -> None:
    """Give up minutes further back than this."""
    station.lane.skip_to(minute_of(max(0, before - longest_ns)))
