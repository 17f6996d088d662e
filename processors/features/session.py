"""Trading days: the New York calendar date of an event time, in columns."""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl

from processors.columns.matrix import Ints

_ZONE = ZoneInfo("America/New_York")
_NS = 1_000_000_000


def session_days(ts: Ints) -> Ints:
    """New York dates as yyyymmdd of event times in ns since 1970 UTC."""
    begin, end, day = day_of(int(ts.min()))
    if begin <= int(ts.min()) and int(ts.max()) < end:  # nearly every batch is of one day
        return np.full(len(ts), day, np.int64)
    local = pl.Series(ts).cast(pl.Datetime("ns", "UTC")).dt.convert_time_zone("America/New_York").dt
    days = (
        local.year().cast(pl.Int64) * 10_000 + local.month().cast(pl.Int64) * 100 + local.day().cast(pl.Int64)
    )
    result: Ints = days.to_numpy()
    return result


def session_day(ts: int) -> int:
    """The same for one event time."""
    return day_of(ts)[2]


def day_of(ts: int) -> tuple[int, int, int]:
    """Begin and end (ns) and yyyymmdd of the New York day of an event time."""
    return _day_of_hour(ts // (3600 * _NS))


@lru_cache(maxsize=4096)
def _day_of_hour(hour: int) -> tuple[int, int, int]:
    """The day of an hour; days there begin on UTC's hours."""
    local = datetime.fromtimestamp(hour * 3600, _ZONE)
    midnight = datetime(local.year, local.month, local.day, tzinfo=_ZONE)
    following = midnight + timedelta(days=1)  # wall-clock arithmetic: 23 to 25 hours
    day = local.year * 10_000 + local.month * 100 + local.day
    return int(midnight.timestamp()) * _NS, int(following.timestamp()) * _NS, day
