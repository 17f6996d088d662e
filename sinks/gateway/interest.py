"""The tape's watchers as entries of control.subscriptions: who watches what, as records. Pure.

One entry a symbol, however many watch it. It expires after 60 s unless renewed, so that a gateway that was
killed holds nothing; it is released by a tombstone when the last watcher leaves.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from schemas.event_id import subscription_id
from sinks.gateway.tape_messages import feed_of
from tidewire.clock import NS_PER_SECOND

CHANNEL = "trades"
EXPIRES_SECONDS = 60
RENEW_SECONDS = 20.0


class Interest:
    """Counts the watchers of each symbol. `holder`: the name of this gateway in the log."""

    def __init__(self, holder: str) -> None:
        self.holder = holder
        self._watchers: Counter[str] = Counter()
        self._changed: dict[str, None] = {}

    def add(self, symbol: str) -> None:
        """One more watches."""
        self._watchers[symbol] += 1
        if self._watchers[symbol] == 1:
            self._changed[symbol] = None

    def remove(self, symbol: str) -> None:
        """One less watches."""
        self._watchers[symbol] -= 1
        if not self._watchers[symbol]:
            del self._watchers[symbol]
            self._changed[symbol] = None

    @property
    def symbols(self) -> set[str]:
        """What somebody watches."""
        return set(self._watchers)

    def changed(self) -> list[str]:
        """Symbols that got their first watcher, or lost their last, since the last call."""
        changed, self._changed = list(self._changed), {}
        return changed

    def again(self, symbols: Iterable[str]) -> None:
        """These could not be written: name them as changed once more."""
        self._changed = dict.fromkeys([*symbols, *self._changed])

    def entry(self, symbol: str, now: int) -> tuple[bytes, dict[str, Any] | None]:
        """Key and record of a symbol as it stands now; no record: a tombstone. `now` in ns."""
        feed = feed_of(symbol) or "stocks"
        key = f"{feed}:{CHANNEL}:{symbol}:{self.holder}".encode()
        if symbol not in self._watchers:
            return key, None
        return key, {
            "feed": feed,
            "channel": CHANNEL,
            "symbol": symbol,
            "holder": self.holder,
            "ts": now,
            "priority": "client",
            "expires_ts": now + EXPIRES_SECONDS * NS_PER_SECOND,
            "received_ts": now,
            "source": "ws",
            "event_id": subscription_id(feed, CHANNEL, symbol, self.holder, now),
        }
