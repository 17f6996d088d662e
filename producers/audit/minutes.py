"""What the log holds of each minute of event time, and which minutes are still to be compared. Pure, bounded.

A lane is one kind of feed and one number of partition: the symbols' trades, bars and quotes lie in
partitions of the same number. `floor` moves over minutes that are done; what is read again after a restart
begins with the first record of the minutes from there on. A few minutes below the floor are kept: a late
print or a corrected bar opens its minute again.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

MINUTE = 60_000_000_000
KEPT_MINUTES = 10
"""Minutes below the floor that late records can open again."""
MOST_ENTRIES = 200_000
"""Symbols times minutes that a channel of a lane holds."""
NEAR_MINUTES = 5
"""So far from a minute others must show that a symbol was subscribed all through it."""


class Piece(NamedTuple):
    """What some records say of one symbol and minute (its start in ns); `offset` of the first of them."""

    minute: int
    symbol: str
    value: Any
    offset: int


def minute_of(ts: int) -> int:
    """The start of the minute of an event time, both in ns."""
    return ts - ts % MINUTE


@dataclass(slots=True)
class Held:
    """One channel: minute -> symbol -> what the log holds; and the first offset of each minute."""

    fold: Callable[[Any, Any], Any]
    minutes: dict[int, dict[str, Any]] = field(default_factory=dict)
    offsets: dict[int, int] = field(default_factory=dict)
    entries: int = 0

    def add(self, piece: Piece) -> None:
        """Fold a piece in."""
        symbols = self.minutes.setdefault(piece.minute, {})
        known = symbols.get(piece.symbol)
        self.entries += known is None
        symbols[piece.symbol] = self.fold(known, piece.value)
        first = self.offsets.get(piece.minute)
        if first is None or piece.offset < first:
            self.offsets[piece.minute] = piece.offset

    def of(self, minute: int) -> Mapping[str, Any]:
        """What it holds of a minute, by symbol."""
        return self.minutes.get(minute, {})

    def drop(self, below: int) -> None:
        """Forget the minutes before this one."""
        for minute in [m for m in self.minutes if m < below]:
            self.entries -= len(self.minutes.pop(minute))
            self.offsets.pop(minute, None)


class Lane:
    """The minutes of one lane. `channels`: channel -> how its pieces are folded."""

    def __init__(
        self,
        channels: Mapping[str, Callable[[Any, Any], Any]],
        floor: int | None = None,
        most: int = MOST_ENTRIES,
        begins_with: str | None = None,
    ) -> None:
        """`begins_with`: the channel whose first record begins the lane; its minute is not whole and left
        out. None: the first record of any channel does, in its minute.
        """
        self.held = {channel: Held(fold) for channel, fold in channels.items()}
        self.floor = floor
        """Everything before this minute is done; None: not one record yet."""
        self._known_from = floor
        self._done: set[int] = set()
        self._reopened: set[int] = set()
        self._most, self._begins_with = most, begins_with
        self.late = 0
        """Pieces of minutes that are no longer kept."""
        self.given_up = 0
        """Minutes that stay unaudited because too many waited."""

    def begin(self, minute: int) -> None:
        """The first minute that is to be compared, where nothing is known of the lane yet."""
        if self.floor is None:
            self.floor = self._known_from = minute
            for held in self.held.values():
                held.drop(minute)

    def add(self, channel: str, pieces: Sequence[Piece]) -> set[int]:
        """Take what was read of one channel; returns the minutes that it opened again."""
        if pieces and self.floor is None:
            self._begin(channel, min(piece.minute for piece in pieces))
        opened = set()
        for piece in pieces:
            if self._known_from is not None and piece.minute < self._known_from:
                self.late += 1
                continue
            self.held[channel].add(piece)
            if self.floor is not None and self._is_done(piece.minute):
                self._done.discard(piece.minute)
                if piece.minute < self.floor:
                    self._reopened.add(piece.minute)
                opened.add(piece.minute)
        self._bound()
        return opened

    def _begin(self, channel: str, minute: int) -> None:
        if self._begins_with is None:
            self.begin(minute)
        elif channel == self._begins_with:
            self.begin(minute + MINUTE)

    def open_minutes(self, before: int, most: int, known: Container[int] = ()) -> list[int]:
        """Minutes before this one that are neither done nor `known`, at most so many, the oldest first."""
        found = [minute for minute in sorted(self._reopened) if minute not in known][:most]
        minute = before if self.floor is None else self.floor
        while minute < before and len(found) < most:
            if minute not in self._done and minute not in known:
                found.append(minute)
            minute += MINUTE
        return found

    def is_open(self, minute: int) -> bool:
        """Whether a minute is still to be compared."""
        return self.floor is not None and not self._is_done(minute)

    def finish(self, minute: int) -> None:
        """A minute has been compared for good."""
        if self.floor is None or minute < self.floor:
            self._reopened.discard(minute)
            return
        self._done.add(minute)
        self._raise_floor(self.floor)

    def skip_to(self, minute: int) -> int:
        """Give up every minute before this one; returns how many they were."""
        if self.floor is None or minute <= self.floor:
            return 0
        left = (minute - self.floor) // MINUTE - sum(1 for m in self._done if m < minute)
        self._done = {m for m in self._done if m >= minute}
        self.given_up += left
        self._raise_floor(minute)
        return left

    def resume_offset(self, channel: str, position: int) -> int:
        """Where a restart has to begin with this channel, so that it finds all minutes from the floor on."""
        if self.floor is None:
            return position
        offsets = self.held[channel].offsets
        return min((o for m, o in offsets.items() if m >= self.floor), default=position)

    def seen_about(self, minute: int) -> set[str]:
        """Symbols that were surely subscribed all through a minute: the log has them before and after it."""
        before = self._symbols(minute - NEAR_MINUTES * MINUTE, minute)
        return before & self._symbols(minute + MINUTE, minute + (NEAR_MINUTES + 1) * MINUTE)

    def seen_until(self, minute: int) -> set[str]:
        """Symbols that the log has in this minute or in those kept before it."""
        return self._symbols(minute - KEPT_MINUTES * MINUTE, minute + MINUTE)

    def empty(self, minute: int) -> bool:
        """Whether the log holds nothing at all of a minute."""
        return not any(held.of(minute) for held in self.held.values())

    def _symbols(self, start: int, end: int) -> set[str]:
        found: set[str] = set()
        for held in self.held.values():
            for minute in range(start, end, MINUTE):
                found.update(held.of(minute))
        return found

    def _is_done(self, minute: int) -> bool:
        if minute < (self.floor or 0):
            return minute not in self._reopened
        return minute in self._done

    def _raise_floor(self, floor: int) -> None:
        while floor in self._done:
            self._done.discard(floor)
            floor += MINUTE
        self.floor = floor
        kept = floor - KEPT_MINUTES * MINUTE
        if self._known_from is None or kept > self._known_from:
            self._known_from = kept
            self._reopened = {m for m in self._reopened if m >= kept}
            for held in self.held.values():
                held.drop(kept)

    def _bound(self) -> None:
        while self.floor is not None and any(h.entries > self._most for h in self.held.values()):
            oldest = min(m for h in self.held.values() for m in h.minutes)
            if oldest < self.floor:  # kept only for late records
                self._known_from = oldest + MINUTE
                self._reopened.discard(oldest)
                for held in self.held.values():
                    held.drop(oldest + MINUTE)
            else:
                self.skip_to(oldest + MINUTE)
