"""Turns of rules that are not told yet. Bounded: a flapping gate tells of its first and last turn. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

Event = dict[str, Any]

_FLAPPING = ("held", "released")
MOST = 10_000
"""Events of a partition that wait; beyond that gates tell of their last turn only."""


class Turns:
    """Takes exit events as they come and gives out what is to be sent.

    Between two sends a gate may hold and release a rule many times, at the pace of the market: the first and
    the newest of these turns are kept. Every other kind of event is kept always.
    """

    def __init__(self) -> None:
        self._waiting: dict[tuple[Any, ...], Event] = {}
        self._count = 0
        self.conflated = 0
        """How many turns were replaced by newer ones."""

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def add(self, events: Iterable[Event]) -> None:
        """More turns, in order."""
        for event in events:
            place = self._place(event)
            if self._waiting.pop(place, None) is not None:
                self.conflated += 1
            self._waiting[place] = event

    def urgent(self) -> bool:
        """Whether something waits that is no mere flapping of a gate."""
        return any(event["event"] not in _FLAPPING for event in self._waiting.values())

    def take(self) -> list[Event]:
        """All that waits, in order of its last change."""
        waiting, self._waiting = self._waiting, {}
        return list(waiting.values())

    def _place(self, event: Mapping[str, Any]) -> tuple[Any, ...]:
        if event["event"] not in _FLAPPING:
            self._count += 1
            return (self._count,)
        names = ("account", "symbol", "position_epoch", "exit_epoch", "rule", "gate")
        turn = tuple(event[name] for name in names)
        first = (*turn, "first")
        if first not in self._waiting and len(self._waiting) < MOST:
            return first
        return (*turn, "last")
