"""How long a channel is usually silent. Pure."""

from __future__ import annotations

from tidewire.clock import NS_PER_SECOND

SHORTEST_NS = 5 * NS_PER_SECOND
LONGEST_NS = 15 * NS_PER_SECOND
"""Whatever the rhythm: a mute socket is to be found within 30 s of newer data in REST."""
TIMES = 4
"""Silence of so many usual intervals is suspected."""
_MEMORY = 8


class Rhythm:
    """The mean interval between arrivals, the last ones counting most."""

    def __init__(self) -> None:
        self._mean = 0.0
        self._last_ns: int | None = None

    def arrived(self, now_ns: int) -> None:
        """Something came. An interval longer than a minute is a pause of the market, not its rhythm."""
        if self._last_ns is not None:
            interval = min(now_ns - self._last_ns, 60 * NS_PER_SECOND)
            self._mean += (interval - self._mean) / _MEMORY
        self._last_ns = now_ns

    @property
    def patience_ns(self) -> int:
        """Silence up to this is usual."""
        return min(max(SHORTEST_NS, int(TIMES * self._mean)), LONGEST_NS)
