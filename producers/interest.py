"""Who wants what of a feed: the records of control.subscriptions, and what follows from them. Pure.

A subscription lasts until its holder releases it (a tombstone) or does not renew it in time. A symbol is
wanted on a channel as long as one holder is left.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

PRIORITIES = ("position", "watchlist", "client")
"""What stays when the plan's limit is reached, in this order."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One holder's wish. `expires_ts` in ns since 1970; None: never."""

    feed: str
    channel: str
    symbol: str
    holder: str
    priority: str
    expires_ts: int | None

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> Entry:
        """The entry that a subscription record speaks of."""
        names = ("feed", "channel", "symbol", "holder", "priority", "expires_ts")
        return cls(*(record[name] for name in names))

    def live(self, now_ns: int) -> bool:
        """Whether it still holds at this time."""
        return self.expires_ts is None or self.expires_ts > now_ns


def wanted(entries: Iterable[Entry], feed: str, now_ns: int) -> dict[str, tuple[str, ...]]:
    """Channel to the symbols that some live entry of the feed holds, by the best priority among their
    holders, then by name.
    """
    best: dict[str, dict[str, int]] = {}
    for entry in entries:
        if entry.feed == feed and entry.live(now_ns):
            symbols = best.setdefault(entry.channel, {})
            rank = PRIORITIES.index(entry.priority)
            symbols[entry.symbol] = min(rank, symbols.get(entry.symbol, rank))
    return {
        channel: tuple(sorted(symbols, key=lambda symbol: (symbols[symbol], symbol)))
        for channel, symbols in best.items()
    }


def urgent(entries: Iterable[Entry], feed: str, now_ns: int) -> dict[str, frozenset[str]]:
    """Channel to the symbols that some live entry of the feed holds for an open position."""
    found: dict[str, set[str]] = {}
    for entry in entries:
        if entry.feed == feed and entry.priority == PRIORITIES[0] and entry.live(now_ns):
            found.setdefault(entry.channel, set()).add(entry.symbol)
    return {channel: frozenset(symbols) for channel, symbols in found.items()}


class Interest:
    """The newest entry of each key."""

    def __init__(self) -> None:
        self._entries: dict[bytes, Entry] = {}

    def put(self, key: bytes, entry: Entry | None) -> None:
        """A record of the topic: an entry, or None for a tombstone."""
        if entry is None:
            self._entries.pop(key, None)
        else:
            self._entries[key] = entry

    def sweep(self, now_ns: int) -> int:
        """Forget what has expired; returns how many."""
        expired = [key for key, entry in self._entries.items() if not entry.live(now_ns)]
        for key in expired:
            del self._entries[key]
        return len(expired)

    def wanted(self, feed: str, now_ns: int) -> dict[str, tuple[str, ...]]:
        """See the function of this name."""
        return wanted(self._entries.values(), feed, now_ns)

    def urgent(self, feed: str, now_ns: int) -> dict[str, frozenset[str]]:
        """See the function of this name."""
        return urgent(self._entries.values(), feed, now_ns)

    def __len__(self) -> int:
        return len(self._entries)
