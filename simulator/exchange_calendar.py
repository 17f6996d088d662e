"""The New York Stock Exchange's sessions, for /v2/clock and /v2/calendar. Times in ns since 1970 UTC."""

from __future__ import annotations

import warnings
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from datetime import date, datetime, timedelta
from functools import cached_property
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

FIRST_DAY = "2007-01-01"
_NEW_YORK = ZoneInfo("America/New_York")


class TradingDay(NamedTuple):
    """One session."""

    day: date
    opens: int
    closes: int


class ExchangeCalendar:
    """XNYS from 2007 to a year from now; loaded when first asked, since that takes a second."""

    extended = ("0400", "2000")
    """When the extended hours of a session begin and end, in New York."""

    @cached_property
    def days(self) -> list[TradingDay]:
        """Every session, oldest first."""
        import exchange_calendars  # takes a second and most runs never ask

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it uses pandas in ways that newer ones warn about
            schedule: Any = exchange_calendars.get_calendar("XNYS", start=FIRST_DAY).schedule
        return [
            TradingDay(day.date(), int(opens.value), int(closes.value))
            for day, opens, closes in zip(schedule.index, schedule["open"], schedule["close"], strict=True)
        ]

    def is_open(self, now: int) -> bool:
        """Whether the regular session runs."""
        day = self.days[min(self._ending_after(now), len(self.days) - 1)]
        return day.opens <= now < day.closes

    def next_open(self, now: int) -> int:
        """The next opening strictly after now (the last known one beyond the calendar)."""
        index = bisect_right(self._opens, now)
        return self._opens[min(index, len(self.days) - 1)]

    def next_close(self, now: int) -> int:
        """The next closing strictly after now (the last known one beyond the calendar)."""
        return self._closes[min(self._ending_after(now), len(self.days) - 1)]

    def between(self, start: date, end: date) -> list[TradingDay]:
        """Sessions from start to end, both included."""
        first = bisect_left(self.days, start, key=lambda d: d.day)
        return self.days[first : bisect_right(self.days, end, key=lambda d: d.day)]

    @cached_property
    def _opens(self) -> list[int]:
        return [day.opens for day in self.days]

    @cached_property
    def _closes(self) -> list[int]:
        return [day.closes for day in self.days]

    def _ending_after(self, now: int) -> int:
        return bisect_right(self._closes, now)


class AlwaysOpen:
    """A market that never rests: every day is a session, from midnight to midnight in New York."""

    extended = ("0000", "2359")
    days: Sequence[TradingDay] = ()

    def is_open(self, now: int) -> bool:
        """Always."""
        return True

    def next_open(self, now: int) -> int:
        """The next midnight strictly after now."""
        return _ns(new_york(now).replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1))

    def next_close(self, now: int) -> int:
        """The next midnight strictly after now."""
        return self.next_open(now)

    def between(self, start: date, end: date) -> list[TradingDay]:
        """Every day from start to end, both included; its last minute is 23:59."""
        days = [start + timedelta(days=i) for i in range((end - start).days + 1)]
        return [TradingDay(day, _ns(_at(day, 0, 0)), _ns(_at(day, 23, 59))) for day in days]


def _at(day: date, hour: int, minute: int) -> datetime:
    return datetime(day.year, day.month, day.day, hour, minute, tzinfo=_NEW_YORK)


def _ns(moment: datetime) -> int:
    return int(moment.timestamp()) * 1_000_000_000


def new_york(ns: int) -> datetime:
    """A time on New York's clock, to the microsecond."""
    moment = datetime.fromtimestamp(ns // 1_000_000_000, _NEW_YORK)
    return moment.replace(microsecond=ns % 1_000_000_000 // 1_000)
