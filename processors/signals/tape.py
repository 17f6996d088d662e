"""What a symbol has traded lately, in buckets of event time. Pure; integers only.

A trade of an older bucket than the newest is late and does not count, so a bucket that has been closed never
changes; what is concluded from closed buckets is the same whenever it is concluded. The newest `KEPT` buckets
with trades are kept. Prices are micro-dollars, sizes millionths of a share or coin, moves ppm.
"""

from __future__ import annotations

from typing import Any, NamedTuple

BUCKET_NS = 5_000_000_000
WINDOW = 12
"""Buckets of a window: a minute."""
PRIOR = 10
"""Windows before the present one that say what is usual."""
LEAST = 5
"""So many of them must have trades."""
KEPT = 192
PPM = 1_000_000
MICROS = 1_000_000

State = dict[str, Any]


class Trade(NamedTuple):
    """A trade that may set the last price; times in ns, price in micro-dollars, size in millionths."""

    ts: int
    price: int
    size: int
    received_ts: int
    source: str


class Bucket(NamedTuple):
    """The trades of stretch number `n` of BUCKET_NS; `received_ts` and `source` are those of the last."""

    n: int
    high: int
    low: int
    last: int
    size: int
    received_ts: int
    source: str

    def with_trade(self, trade: Trade) -> Bucket:
        """One more trade."""
        return Bucket(
            self.n,
            max(self.high, trade.price),
            min(self.low, trade.price),
            trade.price,
            self.size + trade.size,
            trade.received_ts,
            trade.source,
        )


class Tape:
    """The buckets of one symbol, oldest first; `pruned`: older ones have been forgotten."""

    def __init__(self, buckets: list[list[Any]], *, pruned: bool) -> None:
        self.buckets = [Bucket(*bucket) for bucket in buckets]
        self.pruned = pruned

    @property
    def newest(self) -> int:
        """Number of the newest bucket, -1 before the first trade."""
        return self.buckets[-1].n if self.buckets else -1

    def add(self, trade: Trade) -> bool:
        """Count a trade; returns whether it counted."""
        n = trade.ts // BUCKET_NS
        if n < self.newest:
            return False
        if n == self.newest:
            self.buckets[-1] = self.buckets[-1].with_trade(trade)
            return True
        price, size = trade.price, trade.size
        self.buckets.append(Bucket(n, price, price, price, size, trade.received_ts, trade.source))
        if len(self.buckets) > KEPT:
            del self.buckets[: len(self.buckets) - KEPT]
            self.pruned = True
        return True

    def knows(self, n: int) -> bool:
        """Whether nothing from bucket `n` on has been forgotten."""
        return not self.pruned or self.buckets[0].n <= n

    def between(self, first: int, last: int) -> list[Bucket]:
        """Those of [first, last] that have trades."""
        return [bucket for bucket in self.buckets if first <= bucket.n <= last]

    def usual_range(self, n: int) -> int | None:
        """Median of the ranges (high less low, ppm of the high) of the PRIOR windows up to bucket `n`.

        The lower one of two middle values; None: too few of them have trades.
        """
        found = []
        buckets = self.between(n - PRIOR * WINDOW + 1, n)
        for k in range(PRIOR):
            last = n - k * WINDOW
            inside = [b for b in buckets if last - WINDOW < b.n <= last]
            if inside:
                high = max(b.high for b in inside)
                found.append((high - min(b.low for b in inside)) * PPM // high)
        return sorted(found)[(len(found) - 1) // 2] if len(found) >= LEAST else None
