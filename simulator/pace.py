"""How fast the tape may run: messages a second, or as far apart as their times. The clock is passed in."""

from __future__ import annotations

LAG_FORGIVEN = 1.0
"""Seconds behind which the tape does not catch up: a suspended machine must not cause a flood."""


class SteadyPace:
    """`rate` messages a second, however they are grouped."""

    def __init__(self, rate: float, now: float) -> None:
        self._rate = rate
        self._since = now
        self._taken = 0

    def allowance(self, now: float) -> int:
        """Messages that may go now; `now` in seconds of a monotonic clock."""
        due = int((now - self._since) * self._rate) - self._taken
        if due > self._rate * LAG_FORGIVEN + 1:
            self._since, self._taken, due = now, 0, 1
        return max(0, due)

    def took(self, count: int) -> None:
        """Messages went."""
        self._taken += count

    def wait(self, now: float) -> float:
        """Seconds until the next message may go."""
        return max(0.0, self._since + (self._taken + 1) / self._rate - now)


class RealPace:
    """As far apart as the arrival times on the tape (ns)."""

    def __init__(self, first: int, now: float) -> None:
        self._first = first
        self._since = now

    def reach(self, now: float) -> int:
        """The arrival time up to which messages may go now."""
        return self._first + int((now - self._since) * 1e9)

    def wait(self, arrival: int, now: float) -> float:
        """Seconds until a message of this arrival time may go."""
        return max(0.0, (arrival - self.reach(now)) / 1e9)


class Meter:
    """The rate of the last full second with anybody connected, for the time when nobody is."""

    def __init__(self, now: float, guess: float = 10_000.0) -> None:
        self.rate = guess
        self._since = now
        self._count = 0

    def count(self, messages: int, now: float) -> None:
        """Messages were delivered."""
        self._count += messages
        if now - self._since >= 1.0:
            self.rate = max(1.0, self._count / (now - self._since))
            self._since, self._count = now, 0

    def restart(self, now: float) -> None:
        """Nobody was connected until now."""
        self._since, self._count = now, 0
