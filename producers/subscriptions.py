"""Which subscriptions to ask for, in which pieces, and what Alpaca refused. Pure.

Alpaca answers a subscription that exceeds the plan (405) or holds a bad symbol (400) by refusing all of it.
So a refused piece is halved and asked for again, until what remains refused is one symbol on one channel;
that is reported, and everything else is subscribed. One piece is in the air at a time, because an answer
names no question.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

CHANNELS = ("trades", "quotes", "bars", "updatedBars", "dailyBars")
TEST_CHANNELS = ("trades", "quotes", "bars")
"""Alpaca's test stream has no others."""
AUTOMATIC = ("corrections", "cancelErrors")
"""Alpaca adds these to trades by itself."""
PIECE = 500


@dataclass(frozen=True, slots=True)
class Piece:
    """One subscribe message: every symbol on every channel."""

    channels: tuple[str, ...]
    symbols: tuple[str, ...]

    def halves(self) -> tuple[Piece, ...]:
        """Two smaller pieces, by symbols first; none when it cannot be split."""
        if len(self.symbols) > 1:
            middle = len(self.symbols) // 2
            parts = self.symbols[:middle], self.symbols[middle:]
            return tuple(Piece(self.channels, part) for part in parts)
        if len(self.channels) > 1:
            return tuple(Piece((channel,), self.symbols) for channel in self.channels)
        return ()

    def message(self) -> dict[str, Any]:
        """What Alpaca is sent."""
        return {"action": "subscribe", **{channel: list(self.symbols) for channel in self.channels}}


class Subscriptions:
    """The subscriptions of one connection; `restart` for the next one."""

    def __init__(self, symbols: Sequence[str], channels: Sequence[str] = CHANNELS) -> None:
        # "*" holds every symbol; beside it, names only cost room in the plan.
        self._symbols = ("*",) if "*" in symbols else tuple(symbols)
        self._channels = tuple(channels)
        self._waiting: deque[Piece] = deque()
        self._asked: Piece | None = None
        self.confirmed: dict[str, tuple[str, ...]] = {}
        """Channel to symbols, as Alpaca said last."""
        self.refused: dict[str, tuple[str, ...]] = {}
        """Channel to symbols that Alpaca would not take on this connection."""

    def restart(self) -> None:
        """A new connection: nothing is subscribed."""
        self._waiting = deque(
            Piece(self._channels, self._symbols[i : i + PIECE]) for i in range(0, len(self._symbols), PIECE)
        )
        self._asked = None
        self.confirmed, self.refused = {}, {}

    def forget(self) -> None:
        """The connection is gone: nothing is subscribed; what was refused is kept to be shown."""
        self._asked = None
        self.confirmed = {}

    @property
    def channels(self) -> tuple[str, ...]:
        """The channels asked for, and those that Alpaca adds."""
        return (*self._channels, *AUTOMATIC)

    @property
    def asking(self) -> bool:
        """Whether an answer is due."""
        return self._asked is not None

    @property
    def settled(self) -> bool:
        """Whether everything has been asked for and answered."""
        return self._asked is None and not self._waiting

    @property
    def symbols(self) -> tuple[str, ...]:
        """Every symbol that is confirmed on some channel, sorted."""
        return tuple(sorted({s for symbols in self.confirmed.values() for s in symbols}))

    def next(self) -> Piece | None:
        """The piece to ask for now; None when an answer is due or nothing is left."""
        if self._asked is None and self._waiting:
            self._asked = self._waiting.popleft()
            return self._asked
        return None

    def acknowledged(self, message: Mapping[Any, Any]) -> None:
        """Alpaca's answer: always the full list of what is subscribed."""
        lists = {c: message.get(c) for c in (*CHANNELS, *AUTOMATIC)}
        self.confirmed = {c: tuple(map(str, s)) for c, s in lists.items() if isinstance(s, list)}
        self._asked = None

    def rejected(self) -> Piece | None:
        """Alpaca refused the piece in the air; returns it when it is refused for good."""
        piece, self._asked = self._asked, None
        if piece is None:
            return None
        halves = piece.halves()
        self._waiting.extendleft(reversed(halves))
        if halves:
            return None
        channel = piece.channels[0]
        self.refused[channel] = (*self.refused.get(channel, ()), *piece.symbols)
        return piece
