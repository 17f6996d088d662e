"""What comes about by event time alone: time rules that are due, holds that last too long. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from math import inf

from processors.exits.hours import Hours, close_of, day_bounds
from processors.exits.rules import Rule
from processors.exits.state import HELD, Guard

_DAYS = 12
"""So many days ahead there is a session for sure."""


class Schedule:
    """`next_time`: nothing is due before that event time (ns)."""

    def __init__(self, hours: Hours) -> None:
        self._hours = hours
        self.next_time: float = inf

    def armed(self, guard: Guard, now: int) -> None:
        """A rule began to watch."""
        if guard.rule is not None and guard.rule.timed:
            self.next_time = min(self.next_time, self.due_at(guard.rule, now))

    def held(self, guard: Guard) -> None:
        """A gate began to hold it."""
        self.next_time = min(self.next_time, self._alert_at(guard))

    def due(self, guards: Iterable[Guard], now: int) -> list[Guard]:
        """Time rules whose time has come."""
        timed = [g for g in guards if g.live and g.rule is not None and g.rule.timed]
        due = [g for g in timed if g.rule is not None and self.due_at(g.rule, now) <= now]
        return sorted(due, key=_by_key)

    def overdue(self, guards: Iterable[Guard], now: int) -> list[Guard]:
        """Holds that last too long and are not told of. A hold from before the first event begins now."""
        found = []
        for guard in guards:
            if guard.state == HELD and not guard.alerted:
                guard.since = guard.since or now
                if self._alert_at(guard) <= now:
                    found.append(guard)
        return sorted(found, key=_by_key)

    def plan(self, guards: Iterable[Guard], now: int) -> None:
        """Work out `next_time`. A rule that is due and held is judged with each event of its symbol."""
        times: list[float] = [inf]
        for guard in guards:
            if guard.state == HELD and not guard.alerted:
                times.append(self._alert_at(guard))
            if guard.live and guard.rule is not None and guard.rule.timed:
                at = self.due_at(guard.rule, now)
                if at <= now:  # it is held, unless it waits for its prices to come as far as it had come
                    at = self._after(guard.rule, now) if guard.state == HELD else now
                times.append(at)
        self.next_time = min(times)

    def due_at(self, rule: Rule, now: int) -> float:
        """When it is due, ns: not after `now` if it is due."""
        if rule.due_ts is not None:
            return rule.due_ts
        assert rule.before_close is not None, "a time rule has a time"
        ts = now
        for _ in range(_DAYS):
            close = close_of(self._hours.session(rule.asset_class, ts), ts)
            if close is not None and now < close:
                return close - rule.before_close
            ts = day_bounds(ts)[1]
        return inf

    def _after(self, rule: Rule, now: int) -> float:
        if rule.before_close is None:
            return inf
        at = self.due_at(rule, day_bounds(now)[1])
        return at if at > now else inf

    def _alert_at(self, guard: Guard) -> float:
        limit = guard.rule.max_hold if guard.rule is not None else 0
        return guard.since + limit


def _by_key(guard: Guard) -> str:
    return guard.key
