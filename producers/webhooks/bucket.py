"""How many requests an address may send. Pure; the clock is passed in."""

from __future__ import annotations

from collections import OrderedDict

from tidewire.clock import NS_PER_SECOND, Clock

PER_SECOND = 50.0
BURST = 100.0
MOST_ADDRESSES = 1_000


class Buckets:
    """A bucket of tokens for each address; the addresses heard longest ago are forgotten."""

    def __init__(self, clock: Clock, *, per_second: float = PER_SECOND, burst: float = BURST) -> None:
        self._clock, self._per_second, self._burst = clock, per_second, burst
        self._left: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def take(self, address: str) -> bool:
        """Whether one more request of this address may be looked at."""
        now = self._clock()
        left, at = self._left.pop(address, (self._burst, now))
        left = min(self._burst, left + max(0, now - at) / NS_PER_SECOND * self._per_second)
        self._left[address] = (left - 1 if left >= 1 else left, now)
        if len(self._left) > MOST_ADDRESSES:
            self._left.popitem(last=False)
        return left >= 1
