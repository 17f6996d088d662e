"""Alpaca's clock and calendar as values. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any
from zoneinfo import ZoneInfo

from producers.history import times
from tidewire.clock import NS_PER_SECOND

NEW_YORK = ZoneInfo("America/New_York")


@dataclass(frozen=True, slots=True)
class MarketClock:
    """The stock market's state; times in ns since 1970 UTC."""

    ts: int
    is_open: bool
    next_open: int
    next_close: int


@dataclass(frozen=True, slots=True)
class TradingDay:
    """One session; times in ns since 1970 UTC. The extended hours go from `first` to `last`."""

    day: date
    opens: int
    closes: int
    first: int
    last: int


def market_clock(answer: Mapping[str, Any]) -> MarketClock:
    """From the body of /v2/clock. Raises KeyError, TypeError or ValueError for anything else."""
    return MarketClock(
        times.parse(answer["timestamp"]),
        bool(answer["is_open"]),
        times.parse(answer["next_open"]),
        times.parse(answer["next_close"]),
    )


def trading_day(answer: Mapping[str, Any]) -> TradingDay:
    """From one entry of /v2/calendar. Raises KeyError, TypeError or ValueError for anything else."""
    day = date.fromisoformat(answer["date"])
    return TradingDay(
        day,
        _at(day, answer["open"]),
        _at(day, answer["close"]),
        _at(day, answer.get("session_open", "0400")),
        _at(day, answer.get("session_close", "2000")),
    )


def _at(day: date, text: str) -> int:
    plain = text.replace(":", "")
    moment = datetime(day.year, day.month, day.day, int(plain[:2]), int(plain[2:]), tzinfo=NEW_YORK)
    return int(moment.timestamp()) * NS_PER_SECOND
