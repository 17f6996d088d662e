"""What the portfolio topics say, by account: the newest of every key, as payloads of D1. Pure.

Of orders that have ended only the newest MOST_ENDED an account are kept; PostgreSQL has them all.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any, Literal, NamedTuple
from zoneinfo import ZoneInfo

from sinks.gateway.messages import Payload
from sinks.gateway.subscriptions import Wanted
from tidewire.clock import NS_PER_SECOND

Channel = Literal["positions", "orders", "account"]

ENDED = frozenset({"filled", "canceled", "expired", "rejected", "replaced"})
MOST_ENDED = 500
_NEW_YORK = ZoneInfo("America/New_York")


class Key(NamedTuple):
    """Names one object of one account: a position by symbol, an order by Alpaca's id, the account by ""."""

    channel: Channel
    name: str


@dataclass(frozen=True, slots=True)
class Held:
    """One object. `traded`: what only fills change of a position; times in ns."""

    payload: Payload
    symbol: str
    ts: int
    received_ts: int
    traded: tuple[Any, ...] = ()

    @property
    def ended(self) -> bool:
        """Whether it is an order that nothing follows."""
        return self.payload.get("status") in ENDED

    @property
    def flat(self) -> bool:
        """Whether it is a closed position."""
        return self.payload.get("quantity") == "0"


@dataclass(slots=True)
class Account:
    """The objects of one account."""

    objects: dict[Key, Held] = field(default_factory=dict)
    newest_ts: int = 0
    _ended: dict[Key, None] = field(default_factory=dict)

    def put(self, key: Key, held: Held) -> Held | None:
        """Take the newest state of an object; returns the former one."""
        former = self.objects.get(key)
        self.objects[key] = held
        self.newest_ts = max(self.newest_ts, held.ts)
        if key.channel == "orders":
            self._ended.pop(key, None)
            if held.ended:
                self._ended[key] = None
                self._forget_old()
        return former

    def drop(self, key: Key) -> None:
        """The object is gone from the log (a tombstone)."""
        self.objects.pop(key, None)
        self._ended.pop(key, None)

    def positions(self) -> list[Held]:
        """Open positions, by symbol."""
        return self._of("positions", lambda held: not held.flat)

    def orders(self, everything: bool) -> list[Held]:
        """Open orders, and with `everything` the ended ones that are kept."""
        return self._of("orders", lambda held: everything or not held.ended)

    def account(self) -> Held | None:
        """The account's own figures."""
        return self.objects.get(Key("account", ""))

    def snapshot(self, wanted: Wanted) -> Payload:
        """BatchUpdate of everything that a client wants: open positions, open orders and those of today."""
        today = _day(self.newest_ts)
        picked = {
            "positions": self.positions(),
            "orders": self._of("orders", lambda held: not held.ended or _day(held.ts) == today),
        }
        batch: Payload = {
            name: [held.payload for held in found if wanted.hears(name, held.symbol)]
            for name, found in picked.items()
            if name in wanted.channels()
        }
        if (own := self.account()) is not None and wanted.hears("account", ""):
            batch["account"] = own.payload
        return batch

    def batch(self, keys: Iterable[Key], wanted: Wanted) -> Payload:
        """BatchUpdate of the newest state of these objects, as far as they are wanted."""
        batch: Payload = {}
        for key in keys:
            held = self.objects.get(key)
            if held is None or not wanted.hears(key.channel, held.symbol):
                continue
            if key.channel == "account":
                batch["account"] = held.payload
            else:
                batch.setdefault(key.channel, []).append(held.payload)
        return batch

    def _of(self, channel: Channel, test: Any) -> list[Held]:
        found = [held for key, held in self.objects.items() if key.channel == channel and test(held)]
        return sorted(found, key=lambda held: (held.symbol, held.ts))

    def _forget_old(self) -> None:
        while len(self._ended) > MOST_ENDED:
            oldest = next(iter(self._ended))
            del self._ended[oldest]
            self.objects.pop(oldest, None)


def _day(ts: int) -> date:
    return datetime.fromtimestamp(ts // NS_PER_SECOND, UTC).astimezone(_NEW_YORK).date()
