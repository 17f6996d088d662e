"""What should stand in control.subscriptions against what does: the records that are missing. Pure.

Entries expire, so that a subscriber that died holds nothing for ever, and are renewed long before. Those of
this service's holders that nobody needs any more are released, whoever wrote them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from producers.interest import Entry
from schemas.event_id import subscription_id
from schemas.fills import asset_class
from tidewire.clock import NS_PER_SECOND

_CHANNELS = {
    "us_equity": ("stocks", ("trades", "quotes", "bars")),
    "crypto": ("crypto", ("trades", "quotes", "bars")),
    "us_option": ("options", ("trades", "quotes")),
}


@dataclass(frozen=True, slots=True)
class Slot:
    """One symbol on one channel of a feed."""

    feed: str
    channel: str
    symbol: str


@dataclass(frozen=True, slots=True)
class Holder:
    """One reason to hold symbols. An entry ends after `lasts_ns` unless renewed `renew_ns` after its write.

    `fades`: an entry that nobody needs any more is left to its end, so that a reason which comes and goes
    does not make a subscription come and go.
    """

    name: str
    priority: str
    lasts_ns: int
    renew_ns: int
    fades: bool = False

    def key(self, slot: Slot) -> bytes:
        """The Kafka key of its entry for a slot."""
        return f"{slot.feed}:{slot.channel}:{slot.symbol}:{self.name}".encode("utf-8", "backslashreplace")


POSITIONS = Holder("positions", "position", 3600 * NS_PER_SECOND, 1200 * NS_PER_SECOND)
MOVERS = Holder("movers", "client", 900 * NS_PER_SECOND, 300 * NS_PER_SECOND, fades=True)
HOLDERS = (POSITIONS, MOVERS)


@dataclass(frozen=True, slots=True)
class Change:
    """One record to write; `record` None is a tombstone. `what`: opened, renewed or released."""

    holder: str
    what: str
    key: bytes
    record: dict[str, Any] | None


def slots(symbol: str, of_class: str = "") -> tuple[Slot, ...]:
    """The channels on which a symbol is followed; none for a class that no feed has."""
    feed, channels = _CHANNELS.get(asset_class(symbol, of_class), ("", ()))
    return tuple(Slot(feed, channel, symbol) for channel in channels)


def changes(holder: Holder, wanted: Iterable[Slot], entries: Mapping[bytes, Entry], now: int) -> list[Change]:
    """What must be written at `now` (ns), so that the holder's entries are those wanted and no others.

    `entries`: what the topic holds, by key; those of other holders are left alone.
    """
    by_key = {holder.key(slot): slot for slot in wanted}
    found = []
    for key, slot in by_key.items():
        entry = entries.get(key)
        stands = entry is not None and _same(holder, slot, entry) and entry.live(now)
        if not stands or entry is None or _is_due(holder, entry, now):
            what = "renewed" if stands else "opened"
            found.append(Change(holder.name, what, key, record(holder, slot, now)))
    found += [
        Change(holder.name, "released", key, None)
        for key, entry in entries.items()
        if entry.holder == holder.name
        and key not in by_key
        and not (holder.fades and _fading(holder, entry, now))
    ]
    return found


def record(holder: Holder, slot: Slot, now: int) -> dict[str, Any]:
    """The subscription record of a slot as written at `now` (ns)."""
    return {
        "feed": slot.feed,
        "channel": slot.channel,
        "symbol": slot.symbol,
        "holder": holder.name,
        "ts": now,
        "priority": holder.priority,
        "expires_ts": now + holder.lasts_ns,
        "received_ts": now,
        "source": "ws",
        "event_id": subscription_id(slot.feed, slot.channel, slot.symbol, holder.name, now),
    }


def _same(holder: Holder, slot: Slot, entry: Entry) -> bool:
    at = (entry.feed, entry.channel, entry.symbol)
    right = at == (slot.feed, slot.channel, slot.symbol)
    return right and (entry.holder, entry.priority) == (holder.name, holder.priority)


def _fading(holder: Holder, entry: Entry, now: int) -> bool:
    return entry.expires_ts is not None and now < entry.expires_ts <= now + holder.lasts_ns


def _is_due(holder: Holder, entry: Entry, now: int) -> bool:
    # One that never expires, or too late, is not of this holder's making: a rewrite gives it an end.
    if entry.expires_ts is None:
        return True
    left = entry.expires_ts - now
    return left <= holder.lasts_ns - holder.renew_ns or left > holder.lasts_ns
