"""The newest state of each bar, for REST, whoever was subscribed. Bounded per symbol."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from simulator.bars import MINUTE, new_york_midnight
from simulator.wire import timestamp

KEPT_MINUTES = 10_000
_FRAME = re.compile(r"(\d{0,2})(Min|T|Hour|H|Day|D)")
_UNITS = {"Min": 1, "T": 1, "Hour": 60, "H": 60, "Day": 1440, "D": 1440}
_MOST = {1: 59, 60: 23, 1440: 1}

Bars = dict[int, dict[str, Any]]
"""Start in ns -> bar message."""


def parse_timeframe(text: str) -> int:
    """A timeframe (1Min, 5T, 1Hour, 1Day) in minutes.

    Raises:
        ValueError: not one of these; weeks and months are not simulated.
    """
    match = _FRAME.fullmatch(text)
    unit = _UNITS[match[2]] if match else 0
    count = int(match[1] or 1) if match else 0
    if match is None or not 1 <= count <= _MOST[unit]:
        raise ValueError(f"invalid timeframe: {text}")
    return unit * count


class BarBook:
    """Minute and daily bars by symbol; longer bars start at multiples since `day_start` of their time."""

    def __init__(self, day_start: Callable[[int], int] = new_york_midnight) -> None:
        self._day_start = day_start
        self._minutes: dict[str, Bars] = {}
        self._days: dict[str, Bars] = {}

    def add(self, start: int, bar: dict[str, Any]) -> None:
        """Note a bar that left: b, u or d."""
        book = self._days if bar["T"] == "d" else self._minutes
        bars = book.setdefault(bar["S"], {})
        bars[start] = bar
        if len(bars) > KEPT_MINUTES:
            del bars[min(bars)]

    def symbols(self) -> list[str]:
        """Every symbol that has a bar, sorted."""
        return sorted(self._minutes)

    def bars(self, symbol: str, minutes: int) -> list[tuple[int, dict[str, Any]]]:
        """All bars of a length (in minutes), by start."""
        if minutes == 1440:
            return sorted(self._days.get(symbol, {}).items())
        bars = sorted(self._minutes.get(symbol, {}).items())
        return bars if minutes == 1 else self._aggregate(bars, minutes)

    def _aggregate(
        self, bars: list[tuple[int, dict[str, Any]]], minutes: int
    ) -> list[tuple[int, dict[str, Any]]]:
        """Longer bars from minute bars, by Alpaca's rules."""
        groups: dict[int, list[dict[str, Any]]] = {}
        for start, bar in bars:
            begin = start - (start - self._day_start(start)) % (minutes * MINUTE)
            groups.setdefault(begin, []).append(bar)
        return [(start, _join(start, group)) for start, group in groups.items()]


def _join(start: int, group: list[dict[str, Any]]) -> dict[str, Any]:
    volume = round(sum(bar["v"] for bar in group), 9)  # crypto's volumes are fractions
    return {
        **group[0],
        "h": max(bar["h"] for bar in group),
        "l": min(bar["l"] for bar in group),
        "c": group[-1]["c"],
        "v": volume,
        "n": sum(bar["n"] for bar in group),
        "vw": round(sum(bar["vw"] * bar["v"] for bar in group) / volume, 6) if volume else 0.0,
        "t": timestamp(start),
    }
