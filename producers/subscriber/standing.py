"""What the subscriber knows of the two topics that it reads: positions, and the entries that stand. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from producers.interest import Entry
from producers.subscriber.entries import HOLDERS, MOVERS, POSITIONS, Change, changes, slots
from producers.subscriber.holdings import Holdings


class Book:
    """Folds both topics and says what must be written. Times are wall clock, ns."""

    def __init__(self, grace_ns: int) -> None:
        self.holdings = Holdings(grace_ns)
        self._places: dict[bytes, tuple[str, str, str]] = {}
        self._own: dict[bytes, Entry] = {}
        self._others: dict[bytes, str] = {}
        self._former: set[bytes] | None = None
        self._keys: set[bytes] | None = None

    def position(self, key: bytes, record: Mapping[str, Any] | None, now: int) -> None:
        """A record of portfolio.positions; None: a tombstone, which closes it."""
        if record is not None:
            account, symbol, of_class = record["account"], record["symbol"], record["asset_class"]
            self._places[key] = account, symbol, of_class
            # When its newest input was received: a position that is told again says the same.
            at = min(record["received_ts"], now)
            self.holdings.put(account, symbol, of_class, is_open=bool(record["quantity"]), at=at)
        elif key in self._places:
            self.holdings.put(*self._places.pop(key), is_open=False, at=now)

    def entry(self, key: bytes, entry: Entry | None) -> None:
        """A record of control.subscriptions; None: a tombstone, or one that nobody can read."""
        self._own.pop(key, None)
        self._others.pop(key, None)
        if entry is None:
            return
        if entry.holder in (holder.name for holder in HOLDERS):
            self._own[key] = entry
        elif entry.feed == "stocks" and entry.symbol != "*":
            self._others[key] = entry.symbol

    def stocks(self) -> set[str]:
        """Stocks that somebody else wants, or that are or were held."""
        known = self.holdings.known().items()
        held = {s for s, of_class in known if any(slot.feed == "stocks" for slot in slots(s, of_class))}
        return held | set(self._others.values())

    def changes(self, now: int, *, positions: bool, rising: Iterable[str]) -> list[Change]:
        """What must be written now; without `positions` the entries of positions are released."""
        held = self.holdings.held(now) if positions else {}
        wanted = {
            POSITIONS: [slot for symbol, of_class in held.items() for slot in slots(symbol, of_class)],
            MOVERS: [slot for symbol in rising for slot in slots(symbol, "us_equity")],
        }
        found = [c for holder, those in wanted.items() for c in changes(holder, those, self._own, now)]
        keys = {holder.key(slot) for holder, those in wanted.items() for slot in those}
        self._former, self._keys = self._keys, keys
        return found

    def is_repair(self, change: Change) -> bool:
        """Whether one of the last `changes` mends the topic rather than follow what has become wanted: an
        entry was missing that was wanted before, or stood though it was not.
        """
        if self._former is None or change.what == "renewed":
            return False
        return (change.key in self._former) == (change.what == "opened")

    def standing(self) -> dict[str, int]:
        """How many entries each holder has in the topic."""
        names = [entry.holder for entry in self._own.values()]
        return {holder.name: names.count(holder.name) for holder in HOLDERS}
