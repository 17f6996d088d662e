"""When events of a feed are to be expected, by Alpaca's calendar. Pure; times in ns since 1970 UTC."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, time
from zoneinfo import ZoneInfo

from producers.history.market_days import TradingDay
from tidewire.clock import NS_PER_SECOND

NEW_YORK = ZoneInfo("America/New_York")
AFTER_CLOSE_NS = 15 * 60 * NS_PER_SECOND
"""Options on indices trade so long after the close."""
_FIRST, _LAST = time(4), time(20)

Expected = Callable[[int], bool]
"""Whether events are expected at a time."""


def always(now_ns: int) -> bool:
    """Crypto and news never close."""
    return True


def weekdays(now_ns: int) -> bool:
    """Without a calendar: the extended hours of every weekday. A holiday is then a quiet day."""
    moment = datetime.fromtimestamp(now_ns // NS_PER_SECOND, UTC).astimezone(NEW_YORK)
    return moment.weekday() < 5 and _FIRST <= moment.time() < _LAST


class MarketHours:
    """The sessions of a calendar; beyond its last day, `weekdays`."""

    def __init__(self, kind: str, days: Iterable[TradingDay]) -> None:
        regular = kind == "options"
        spans = sorted(
            (day.opens, day.closes + AFTER_CLOSE_NS) if regular else (day.first, day.last) for day in days
        )
        self._starts = [start for start, _ in spans]
        self._ends = [end for _, end in spans]

    def expected(self, now_ns: int) -> bool:
        """Whether a session runs, extended hours of stocks included."""
        index = bisect_right(self._starts, now_ns) - 1
        if index < 0 or (index == len(self._starts) - 1 and now_ns >= self._ends[-1]):
            return weekdays(now_ns)
        return now_ns < self._ends[index]
