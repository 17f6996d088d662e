"""How long to wait between a broker's answer and the next question to it, by what answers cost. Pure."""

from __future__ import annotations

from dataclasses import dataclass

_NEWEST = 0.2
"""How much the last round counts beside those before it."""


@dataclass(frozen=True, slots=True)
class Fetch:
    """How often brokers are asked for records. They answer as soon as they have any; a batch has a fixed
    cost, so many small ones an instant apart would use up the machine and be late for it.

    `least_ms` and `most_ms`: of the pause between an answer and the next question. Within these it is chosen
    so that the process uses about `share` of a core.
    """

    least_ms: float = 5
    most_ms: float = 30
    share: float = 0.15


DEFAULT_FETCH = Fetch()
"""For streams of many records."""


class Pacer:
    """Chooses the pause of each round: question, answer, reading and folding, pause."""

    def __init__(self, at: float, used: float) -> None:
        self._at, self._used = at, used
        self._pause = 0.0
        self._cost = self._work = 0.0

    def pause(self, fetch: Fetch, at: float, used: float) -> float:
        """Of the round that begins with an answer at `at`; `used`: the process's CPU time until then (s)."""
        self._cost += _NEWEST * (used - self._used - self._cost)
        self._work += _NEWEST * (max(0.0, at - self._at - self._pause) - self._work)
        self._at, self._used = at, used
        wanted = self._cost / fetch.share - self._work
        self._pause = min(max(wanted, fetch.least_ms / 1000), fetch.most_ms / 1000)
        return self._pause
