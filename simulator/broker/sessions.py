"""When the simulated market trades: what decides over day orders, extended hours and the closing. Pure.

A synthetic market never rests, so its orders trade at any hour and on every day; its days still end at 16:00
in New York. Recorded ticks follow the exchange's calendar.
"""

from __future__ import annotations

from typing import Protocol

from simulator.bars import DAY, MINUTE, new_york_midnight
from simulator.exchange_calendar import ExchangeCalendar

OPENING, CLOSING = 570 * MINUTE, 960 * MINUTE
EARLIEST, LATEST = 240 * MINUTE, 1200 * MINUTE


class Sessions(Protocol):
    """Times are ns since 1970 UTC."""

    def regular(self, now: int) -> bool:
        """Whether ordinary stock orders trade."""

    def extended(self, now: int) -> bool:
        """Whether orders for extended hours trade."""

    def next_open(self, now: int) -> int:
        """The next opening strictly after now."""

    def next_close(self, now: int) -> int:
        """The next closing strictly after now."""


class RoundTheClock:
    """A market that never rests; every day closes at 16:00 in New York."""

    def regular(self, now: int) -> bool:
        """Always."""
        return True

    def extended(self, now: int) -> bool:
        """Always."""
        return True

    def next_open(self, now: int) -> int:
        """09:30 in New York."""
        return _next(now, OPENING)

    def next_close(self, now: int) -> int:
        """16:00 in New York."""
        return _next(now, CLOSING)


class ExchangeSessions:
    """The exchange's own days; extended hours are 04:00 to 20:00 of these."""

    def __init__(self, calendar: ExchangeCalendar) -> None:
        self._calendar = calendar

    def regular(self, now: int) -> bool:
        """Between opening and closing."""
        return self._calendar.is_open(now)

    def extended(self, now: int) -> bool:
        """From 04:00 to 20:00 of a trading day."""
        midnight = new_york_midnight(now)
        opens = self._calendar.next_open(midnight)
        return opens < midnight + DAY and EARLIEST <= now - midnight < LATEST

    def next_open(self, now: int) -> int:
        """By the calendar."""
        return self._calendar.next_open(now)

    def next_close(self, now: int) -> int:
        """By the calendar."""
        return self._calendar.next_close(now)


def _next(now: int, offset: int) -> int:
    at = new_york_midnight(now) + offset
    return at if at > now else new_york_midnight(now + DAY) + offset
