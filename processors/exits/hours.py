"""When a market is open: stocks and options by the exchange's calendar, crypto always. Pure."""

from __future__ import annotations

import warnings
from datetime import date, datetime, timedelta
from functools import lru_cache
from typing import Any, NamedTuple, Protocol
from zoneinfo import ZoneInfo

STOCK, OPTION, CRYPTO = "us_equity", "us_option", "crypto"

_NEW_YORK = ZoneInfo("America/New_York")
_NS = 1_000_000_000
_HOUR = 3600 * _NS
_EXTENDED = 4, 20  # o'clock in New York; on a day that closes early the late session ends early as well
_LATE_HOURS = 4 * _HOUR


class Session(NamedTuple):
    """One trading day; all ns since 1970 UTC. `begins` and `ends` are those of the extended hours."""

    begins: int
    opens: int
    closes: int
    ends: int


ALWAYS = Session(0, 0, 1 << 62, 1 << 62)
"""A market that never closes."""


class Hours(Protocol):
    """Sessions of an asset class."""

    def session(self, asset_class: str, ts: int) -> Session | None:
        """The session of the New York day of an event time (ns), None where it has none."""
        ...


class AlwaysOpen:
    """For a synthetic market that plays at any hour."""

    def session(self, asset_class: str, ts: int) -> Session | None:
        """Always the same."""
        return ALWAYS


class NewYork:
    """XNYS for stocks and options. Beyond the calendar's end: weekdays, 9:30 to 16:00."""

    def session(self, asset_class: str, ts: int) -> Session | None:
        """See Hours. The first call for a year loads its calendar, which takes a while."""
        return ALWAYS if asset_class == CRYPTO else _session(day_of(ts))


def day_of(ts: int) -> date:
    """The New York day of an event time (ns)."""
    return _day_of_hour(ts // _HOUR)  # days there begin on UTC's hours


def day_bounds(ts: int) -> tuple[int, int]:
    """Begin and end (ns) of the New York day of an event time."""
    return _bounds(day_of(ts))


def close_of(session: Session | None, ts: int) -> int | None:
    """When the regular hours of the day of `ts` end: where a market never closes, at New York's midnight."""
    if session is None:
        return None
    return day_bounds(ts)[1] if session.closes == ALWAYS.closes else session.closes


def is_open(session: Session | None, ts: int, extended: bool) -> bool:
    """Whether orders can fill at `ts` (ns); `extended`: before and after the regular hours too."""
    if session is None:
        return False
    if extended:
        return session.begins <= ts < session.ends
    return session.opens <= ts < session.closes


@lru_cache(maxsize=4096)
def _day_of_hour(hour: int) -> date:
    return datetime.fromtimestamp(hour * 3600, _NEW_YORK).date()


@lru_cache(maxsize=4096)
def _bounds(day: date) -> tuple[int, int]:
    return _at(day, 0), _at(day + timedelta(days=1), 0)


@lru_cache(maxsize=4096)
def _session(day: date) -> Session | None:
    found = _year(day.year).get(day, ...)
    if found is ...:
        if day.weekday() >= 5 or _year(day.year):
            return None
        found = _at(day, 9, 30), _at(day, 16)
    opens, closes = found
    return Session(_at(day, _EXTENDED[0]), opens, closes, min(_at(day, _EXTENDED[1]), closes + _LATE_HOURS))


@lru_cache(maxsize=64)
def _year(year: int) -> dict[date, tuple[int, int]]:
    """Openings and closings of a year; empty where the calendar does not know them."""
    import exchange_calendars  # takes a second, and a service without stocks never asks

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it uses pandas in ways that newer ones warn about
        try:
            calendar: Any = exchange_calendars.get_calendar(
                "XNYS", start=f"{year}-01-01", end=f"{year}-12-31"
            )
        except ValueError:
            return {}
        schedule = calendar.schedule
    return {
        day.date(): (int(opens.value), int(closes.value))
        for day, opens, closes in zip(schedule.index, schedule["open"], schedule["close"], strict=True)
    }


def _at(day: date, hour: int, minute: int = 0) -> int:
    return int(datetime(day.year, day.month, day.day, hour, minute, tzinfo=_NEW_YORK).timestamp()) * _NS
