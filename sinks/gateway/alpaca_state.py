"""What control.connections says of our connections to Alpaca, and when data counts as stale (D3). Pure.

Market data is stale after 30 s in which no market feed brought a message; an account is stale when its
trading connection has not been CONNECTED for 30 s (it is silent by nature, so its messages say nothing). The
state of each connection is written every ten seconds: with none for 30 s its producer is gone.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from tidewire.clock import NS_PER_SECOND

STALE_SECONDS = 30
CONNECTED = "CONNECTED"
_MARKET = ("stocks", "crypto", "options")


@dataclass(frozen=True, slots=True)
class _Connection:
    state: str
    ts: int
    last_message_ts: int | None
    connected_ts: int | None
    epoch: int


class Connections:
    """The newest record of each connection. Times in ns."""

    def __init__(self) -> None:
        self._known: dict[str, _Connection] = {}

    def take(self, feed: str, record: Mapping[str, Any] | None) -> bool:
        """A record of control.connections; None: a tombstone. False: it is a former owner's, and left out."""
        if record is None:
            self._known.pop(feed, None)
            return True
        former, epoch = self._known.get(feed), record.get("owner_epoch", 0)
        if former is not None and epoch < former.epoch:
            return False
        connected = record["ts"] if record["state"] == CONNECTED else former.connected_ts if former else None
        self._known[feed] = _Connection(
            record["state"], record["ts"], record["last_message_ts"], connected, epoch
        )
        return True

    def connected(self, kind: str, now: int) -> bool:
        """Whether a connection of this kind (stocks, crypto) is up."""
        return any(
            _kind(feed) == kind and c.state == CONNECTED and _fresh(c.ts, now)
            for feed, c in self._known.items()
        )

    def any_market(self, now: int) -> bool:
        """Whether any market feed is up."""
        return any(self.connected(kind, now) for kind in _MARKET)

    def stale(self, accounts: Collection[str], now: int) -> list[str]:
        """What is stale for a user of these accounts: "market data", "trading"; nothing known: nothing."""
        reasons = []
        heard = [c.last_message_ts or c.connected_ts for f, c in self._known.items() if _kind(f) in _MARKET]
        if heard and not any(_fresh(ts, now) for ts in heard):
            reasons.append("market data")
        own = [c for feed, c in self._known.items() if feed.removeprefix("trading:") in accounts]
        if any(not _fresh(c.connected_ts, now) for c in own):
            reasons.append("trading")
        return reasons

    def health(self, now: int) -> dict[str, Any]:
        """For /api/health, which anybody may read: market feeds by name, trading connections only counted."""
        feeds = {
            feed: {
                "state": c.state if _fresh(c.ts, now) else "UNKNOWN",
                "silentSeconds": _seconds(c.last_message_ts, now),
            }
            for feed, c in sorted(self._known.items())
            if _kind(feed) != "trading"
        }
        trading = [c for feed, c in self._known.items() if _kind(feed) == "trading"]
        up = sum(c.state == CONNECTED and _fresh(c.ts, now) for c in trading)
        return {"feeds": feeds, "trading": {"connected": up, "of": len(trading)}}


def _kind(feed: str) -> str:
    return feed.partition(":")[0]


def _fresh(ts: int | None, now: int) -> bool:
    return ts is not None and now - ts < STALE_SECONDS * NS_PER_SECOND


def _seconds(ts: int | None, now: int) -> float | None:
    return None if ts is None else round(max(0, now - ts) / NS_PER_SECOND, 1)
