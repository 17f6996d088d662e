"""Which subscriptions to ask for, in which pieces, and what Alpaca refused. Pure.

Alpaca answers a subscription that exceeds the plan (405) or holds a bad symbol (400) by refusing all of it.
So a refused piece is halved and asked for again, until what remains refused is one symbol on one channel;
that is reported, and everything else is subscribed. One piece is in the air at a time, because an answer
names no question.

Beside the configured symbols, which are asked for on every channel, stand those that somebody wants for a
while (`want`): they come and go while the connection stands.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

CHANNELS = ("trades", "quotes", "bars", "updatedBars", "dailyBars")
TEST_CHANNELS = ("trades", "quotes", "bars")
"""Alpaca's test stream has no others."""
AUTOMATIC = ("corrections", "cancelErrors")
"""Alpaca adds these to trades of stocks by itself."""
PIECE = 500

Wanted = Mapping[str, Sequence[str]]
"""Channel to symbols, the most important first."""


@dataclass(frozen=True, slots=True)
class Piece:
    """One subscribe (or unsubscribe) message: every symbol on every channel."""

    channels: tuple[str, ...]
    symbols: tuple[str, ...]
    action: str = "subscribe"

    def halves(self) -> tuple[Piece, ...]:
        """Two smaller pieces, by symbols first; none when it cannot be split."""
        if len(self.symbols) > 1:
            middle = len(self.symbols) // 2
            parts = self.symbols[:middle], self.symbols[middle:]
            return tuple(replace(self, symbols=part) for part in parts)
        if len(self.channels) > 1:
            return tuple(replace(self, channels=(channel,)) for channel in self.channels)
        return ()

    def message(self) -> dict[str, Any]:
        """What Alpaca is sent."""
        return {"action": self.action, **{channel: list(self.symbols) for channel in self.channels}}


class Subscriptions:
    """The subscriptions of one connection; `restart` for the next one."""

    def __init__(
        self, symbols: Sequence[str], channels: Sequence[str] = CHANNELS, automatic: Sequence[str] = AUTOMATIC
    ) -> None:
        # "*" holds every symbol; beside it, names only cost room in the plan.
        self._symbols = ("*",) if "*" in symbols else tuple(symbols)
        self._channels, self._automatic = tuple(channels), tuple(automatic)
        self._wanted: dict[str, tuple[str, ...]] = {}
        self._waiting: deque[Piece] = deque()
        self._asked: Piece | None = None
        self._connected = False
        self.confirmed: dict[str, tuple[str, ...]] = {}
        """Channel to symbols, as Alpaca said last."""
        self.refused: dict[str, tuple[str, ...]] = {}
        """Channel to symbols that Alpaca would not take on this connection."""

    def restart(self) -> None:
        """A new connection: nothing is subscribed."""
        self._waiting = deque(_pieces(self._channels, self._symbols))
        for channel, symbols in self._wanted.items():
            self._waiting.extend(_pieces((channel,), symbols))
        self._asked = None
        self._connected = True
        self.confirmed, self.refused = {}, {}

    def forget(self) -> None:
        """The connection is gone: nothing is subscribed; what was refused is kept to be shown."""
        self._asked = None
        self._connected = False
        self._waiting.clear()
        self.confirmed = {}

    def want(self, wanted: Wanted) -> None:
        """Besides the configured symbols, hold these and no others; channels of other feeds are left out.

        With a configured "*" there is nothing to add.
        """
        former, self._wanted = self._wanted, self._beside_configured(wanted)
        if not self._connected:
            return
        for channel in self._channels:
            before, after = former.get(channel, ()), self._wanted.get(channel, ())
            refused = self.refused.get(channel, ())
            gone = tuple(s for s in before if s not in set(after))
            if kept := tuple(s for s in gone if s not in refused):
                self._waiting.extend(_pieces((channel,), kept, "unsubscribe"))
            if len(kept) < len(gone):  # nobody wants it any more: who wants it later may try again
                self.refused[channel] = tuple(s for s in refused if s not in gone)
            new = tuple(s for s in after if s not in set(before))
            self._waiting.extend(_pieces((channel,), new))

    @property
    def channels(self) -> tuple[str, ...]:
        """The channels asked for, and those that Alpaca adds."""
        return (*self._channels, *self._automatic)

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
        lists = {str(channel): symbols for channel, symbols in message.items() if isinstance(symbols, list)}
        self.confirmed = {channel: tuple(map(str, symbols)) for channel, symbols in lists.items()}
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
        if piece.action == "subscribe":
            self.refused[channel] = (*self.refused.get(channel, ()), *piece.symbols)
        return piece

    def _beside_configured(self, wanted: Wanted) -> dict[str, tuple[str, ...]]:
        if "*" in self._symbols:
            return {}
        configured = set(self._symbols)
        return {
            channel: tuple(dict.fromkeys(s for s in wanted[channel] if s not in configured))
            for channel in self._channels
            if wanted.get(channel)
        }


def _pieces(channels: tuple[str, ...], symbols: tuple[str, ...], action: str = "subscribe") -> list[Piece]:
    return [Piece(channels, symbols[i : i + PIECE], action) for i in range(0, len(symbols), PIECE)]
