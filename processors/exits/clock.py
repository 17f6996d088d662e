"""Event time of a partition: it only rises, and one wild time stamp does not carry it away. Pure."""

from __future__ import annotations

JUMP_NS = 100 * 3600 * 1_000_000_000
"""A step ahead by more than this (a long weekend) counts once a second event has gone as far."""


class Watermark:
    """The greatest event time (ns) that can be believed."""

    __slots__ = ("ahead", "now")

    def __init__(self, now: int = 0, ahead: int = 0) -> None:
        self.now = now
        self.ahead = ahead
        """Where an unconfirmed jump would lead; 0: there is none."""

    def see(self, ts: int) -> int:
        """The time after an event of `ts`."""
        if ts <= self.now:
            return self.now
        if ts - self.now <= JUMP_NS or not self.now:
            self.now, self.ahead = ts, 0
        elif self.ahead:
            self.now, self.ahead = min(self.ahead, ts), max(self.ahead, ts)
            if self.ahead - self.now <= JUMP_NS:
                self.now, self.ahead = self.ahead, 0
        else:
            self.ahead = ts
        return self.now
