"""Minute bars, their late corrections and running daily bars, folded from trades by Alpaca's rules.

A trade belongs to the minute and to the New York day of its event time. What it updates is a matter of
`conditions.py`. Bars leave when the tape's clock passes a mark: b for the minute just ended and d at each
full minute, u at each half minute for minutes that were already out and changed since. A bar without
a price or volume never leaves. Crypto's bars have other rules for what is whole and when a day begins.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from simulator.conditions import ALWAYS, NEVER, Update
from simulator.wire import Message, timestamp

HALF_MINUTE = 30_000_000_000
MINUTE = 2 * HALF_MINUTE
DAY = 1440 * MINUTE
REMEMBERED_MINUTES = 10
_NEW_YORK = ZoneInfo("America/New_York")


@dataclass(slots=True)
class Bar:
    """One bar in the making. Prices in USD, volume in shares; 0 means not set yet."""

    open: float = 0.0
    high: float = 0.0
    low: float = 0.0
    close: float = 0.0
    volume: int = 0
    count: int = 0
    weighted: float = 0.0
    weight: int = 0
    changed: bool = False

    def add(self, price: float, size: int, update: Update) -> None:
        """Fold one trade in."""
        last, high_low, volume = update
        if last != NEVER:
            if not self.open:
                self.open = price
                self.changed = True
            if (last == ALWAYS or not self.close) and price != self.close:
                self.close = price
                self.changed = True
        if high_low:
            if price > self.high:
                self.high = price
                self.changed = True
            if price < self.low or not self.low:
                self.low = price
                self.changed = True
        if volume:
            self.volume += size
            self.count += 1
            self.changed = True
            if high_low:
                self.weighted += price * size
                self.weight += size

    @property
    def complete(self) -> bool:
        """Whether Alpaca would emit it: none of its values is 0."""
        return bool(self.open and self.high and self.low and self.close and self.volume)

    def message(self, kind: str, symbol: str, start: int) -> dict[str, Any]:
        """As Alpaca sends it; `start` in ns since 1970 UTC."""
        vwap = round(self.weighted / self.weight, 6) if self.weight else self.close
        return {
            "T": kind,
            "S": symbol,
            "o": self.open,
            "h": self.high,
            "l": self.low,
            "c": self.close,
            "v": self.volume,
            "n": self.count,
            "vw": vwap,
            "t": timestamp(start),
        }


def midnight(ns: int, zone: ZoneInfo) -> int:
    """Start of a zone's day of a time, both in ns since 1970 UTC."""
    day = datetime.fromtimestamp(ns // 1_000_000_000, UTC).astimezone(zone)
    return int(day.replace(hour=0, minute=0, second=0, microsecond=0).timestamp()) * 1_000_000_000


def new_york_midnight(ns: int) -> int:
    """Start of the New York day of a time, both in ns since 1970 UTC."""
    return midnight(ns, _NEW_YORK)


BarMessage = tuple[int, dict[str, Any]]
"""Start of the bar in ns, and the message."""


class BarFold:
    """The bars of all symbols. `mark` is the next half minute of the tape's clock at which bars may leave."""

    def __init__(self, bar: type[Bar] = Bar, day_start: Callable[[int], int] = new_york_midnight) -> None:
        self._bar = bar
        self._midnight = day_start
        self.mark = 0
        self._minutes: dict[int, dict[str, Bar]] = {}
        self._sent_until = 0
        self._days: dict[str, tuple[int, Bar]] = {}
        self._day_start = self._day_end = 0

    def start(self, clock: int) -> None:
        """Set the clock before the first trade; ns since 1970 UTC."""
        self.mark = clock - clock % HALF_MINUTE + HALF_MINUTE
        self._sent_until = clock - clock % MINUTE

    def add(self, messages: Iterable[Message]) -> None:
        """Fold trades in; they must have arrived before the next mark."""
        start = -MINUTE
        bars: dict[str, Bar] = {}
        for _, ns, stream, _, trade in messages:
            if trade is None:
                continue
            price, size, rule = trade
            symbol = stream.symbol
            if not start <= ns < start + MINUTE:
                start = ns - ns % MINUTE
                bars = self._minutes.setdefault(start, {})
            bar = bars.get(symbol)
            if bar is None:
                bar = bars[symbol] = self._bar()
            bar.add(price, size, rule.minute)
            self._day_bar(symbol, ns).add(price, size, rule.day)

    def pass_mark(self) -> Iterator[BarMessage]:
        """The clock reached the mark: what leaves now. Sets the next mark."""
        mark = self.mark
        self.mark = mark + HALF_MINUTE
        if mark % MINUTE:
            yield from self._corrections()
            return
        yield from self._ended(mark)
        yield from self._daily()
        self._forget(mark)

    def finish(self) -> Iterator[BarMessage]:
        """The tape is at its end: everything that has not left yet."""
        yield from self._corrections()
        yield from self._ended(1 << 63)
        yield from self._daily()

    @property
    def idle(self) -> bool:
        """Nothing would leave at the next mark."""
        return not self._minutes

    def skip_to(self, clock: int) -> None:
        """Move the mark over a time without trades; only when idle."""
        if clock >= self.mark:
            self.start(clock)

    def _day_bar(self, symbol: str, ns: int) -> Bar:
        if not self._day_start <= ns < self._day_end:
            self._day_start = self._midnight(ns)
            self._day_end = self._midnight(self._day_start + DAY + 2 * 60 * MINUTE)
        day, bar = self._days.get(symbol, (0, None))
        if bar is None or self._day_start > day:
            bar = self._bar()
            self._days[symbol] = (self._day_start, bar)
        elif self._day_start < day:
            return self._bar()  # a late print of an earlier day: that day's last d has left
        return bar

    def _ended(self, clock: int) -> Iterator[BarMessage]:
        for start in sorted(self._minutes):
            if self._sent_until <= start and start + MINUTE <= clock:
                yield from self._take(start, "b")
        self._sent_until = max(self._sent_until, min(clock, 1 << 62))

    def _corrections(self) -> Iterator[BarMessage]:
        for start in sorted(self._minutes):
            if start < self._sent_until:
                yield from self._take(start, "u")

    def _take(self, start: int, kind: str) -> Iterator[BarMessage]:
        for symbol, bar in sorted(self._minutes[start].items()):
            if bar.changed and bar.complete:
                bar.changed = False
                yield start, bar.message(kind, symbol, start)

    def _daily(self) -> Iterator[BarMessage]:
        for symbol, (start, bar) in sorted(self._days.items()):
            if bar.changed and bar.complete:
                bar.changed = False
                yield start, bar.message("d", symbol, start)

    def _forget(self, mark: int) -> None:
        for start in [s for s in self._minutes if s < mark - REMEMBERED_MINUTES * MINUTE]:
            del self._minutes[start]
