"""Which subscriptions to ask for, in which pieces, and what Alpaca refused. Pure.

Alpaca answers a subscription that exceeds the plan (405) or holds a bad symbol (400) by refusing all of it.
So a refused piece is halved and asked for again, until what remains refused is one symbol on one channel;
that is reported, and everything else is subscribed. One piece is in the air at a time, because an answer
names no question.

Beside the configured symbols, which are asked for on every channel, stand those that somebody wants for a
while (`want`): they come and go while the connection stands. Where the plan limits how many symbols a channel
may have, the urgent ones (open positions) come first, then the configured, then the others; what does not fit
is not asked for, and named in `unfit`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

CHANNELS = ("trades", "quotes", "bars", "updatedBars", "dailyBars", "statuses", "lulds", "imbalances")
CRYPTO_CHANNELS = ("trades", "quotes", "bars", "updatedBars", "dailyBars", "orderbooks")
OPTION_CHANNELS = ("trades", "quotes")
TEST_CHANNELS = ("trades", "quotes", "bars")
"""Alpaca's test stream has no others."""
AUTOMATIC = ("corrections", "cancelErrors")
"""Alpaca adds these to trades of stocks by itself."""
PIECE = 500

Wanted = Mapping[str, Sequence[str]]
"""Channel to symbols, the most important first."""
Urgent = Mapping[str, Collection[str]]
"""Channel to those of the wanted symbols that come before the configured ones."""


@dataclass(frozen=True, slots=True)
class Piece:
    """One subscribe (or unsubscribe) message: every symbol on every channel.

    `passing`: for symbols that somebody wants for a while; it has one channel.
    """

    channels: tuple[str, ...]
    symbols: tuple[str, ...]
    action: str = "subscribe"
    passing: bool = False

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
        self,
        symbols: Sequence[str],
        channels: Sequence[str] = CHANNELS,
        automatic: Sequence[str] = AUTOMATIC,
        limits: Mapping[str, int] = MappingProxyType({}),
    ) -> None:
        """`limits`: channel to the number of symbols that the plan allows it; `*` is left to Alpaca."""
        # "*" holds every symbol; beside it, names only cost room in the plan.
        self._symbols = ("*",) if "*" in symbols else tuple(symbols)
        self._names = tuple(symbol for symbol in symbols if symbol != "*")
        self._wish: Wanted = {}
        self._urgent: Urgent = {}
        self._limits = {} if "*" in symbols else dict(limits)
        self._channels, self._automatic = tuple(channels), tuple(automatic)
        self.unfit: dict[str, tuple[str, ...]] = {}
        """Channel to symbols for which the plan has no room."""
        self._wanted = self._beside_configured({}, {})
        self._waiting: deque[Piece] = deque()
        self._asked: Piece | None = None
        self._connected = False
        self.confirmed: dict[str, tuple[str, ...]] = {}
        """Channel to symbols, as Alpaca said last."""
        self.refused: dict[str, tuple[str, ...]] = {}
        """Channel to symbols that Alpaca would not take on this connection."""

    def restart(self) -> None:
        """A new connection: nothing is subscribed."""
        unlimited = tuple(channel for channel in self._channels if channel not in self._limits)
        self._waiting = deque(_pieces(unlimited, self._symbols)) if unlimited else deque()
        for channel, symbols in self._wanted.items():
            self._waiting.extend(_pieces((channel,), symbols, passing=True))
        self._asked = None
        self._connected = True
        self.confirmed, self.refused = {}, {}

    def forget(self) -> None:
        """The connection is gone: nothing is subscribed; what was refused is kept to be shown."""
        self._asked = None
        self._connected = False
        self._waiting.clear()
        self.confirmed = {}

    def want(self, wanted: Wanted, urgent: Urgent = MappingProxyType({})) -> None:
        """Besides the configured symbols, hold these and no others; channels of other feeds are left out.

        With a configured "*" there is nothing to add, but on channels where Alpaca refuses it.
        """
        self._wish, self._urgent = wanted, urgent
        former, self._wanted = self._wanted, self._beside_configured(wanted, urgent)
        if not self._connected:
            return
        for channel in self._channels:
            before, after = former.get(channel, ()), self._wanted.get(channel, ())
            gone = tuple(s for s in before if s not in set(after))
            if channel in self.refused:  # who wants it later may try again
                self.refused[channel] = tuple(s for s in self.refused[channel] if s not in set(gone))
            self._waiting.extend(_pieces((channel,), gone, "unsubscribe", passing=True))
            new = tuple(s for s in after if s not in set(before))
            self._waiting.extend(_pieces((channel,), new, passing=True))

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
        while self._asked is None and self._waiting:
            piece = self._still_needed(self._waiting.popleft())
            if piece.symbols:
                self._asked = piece
                return piece
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
        if piece.action == "subscribe" and self._still_needed(piece).symbols:
            self.refused[channel] = (*self.refused.get(channel, ()), *piece.symbols)
            if piece.symbols == ("*",):  # as for quotes of options: there, names are needed
                self._waiting.extend(_pieces((channel,), self._names))
                self.want(self._wish, self._urgent)
        return piece

    def _still_needed(self, piece: Piece) -> Piece:
        """Wishes may have changed while the piece waited."""
        if not piece.passing:
            return piece
        (channel,) = piece.channels
        wanted, held = set(self._wanted.get(channel, ())), set(self.confirmed.get(channel, ()))
        needed = wanted - held if piece.action == "subscribe" else held - wanted
        return replace(piece, symbols=tuple(s for s in piece.symbols if s in needed))

    def _beside_configured(self, wanted: Wanted, urgent: Urgent) -> dict[str, tuple[str, ...]]:
        """Channel to the symbols that are asked for one channel at a time: on a channel with a limit, all."""
        configured = set(self._names)
        beside = {
            channel: tuple(dict.fromkeys(s for s in wanted[channel] if s not in configured))
            for channel in self._channels
            if wanted.get(channel) and not self._holds_all(channel) and channel not in self._limits
        }
        self.unfit = {}
        for channel in (c for c in self._channels if c in self._limits):
            ordered = self._by_priority(wanted.get(channel, ()), urgent.get(channel, ()))
            beside[channel] = ordered[: self._limits[channel]]
            if len(ordered) > self._limits[channel]:
                self.unfit[channel] = ordered[self._limits[channel] :]
        return beside

    def _by_priority(self, wanted: Sequence[str], urgent: Collection[str]) -> tuple[str, ...]:
        first = [symbol for symbol in wanted if symbol in urgent]
        return tuple(dict.fromkeys((*first, *self._names, *wanted)))

    def _holds_all(self, channel: str) -> bool:
        return "*" in self._symbols and "*" not in self.refused.get(channel, ())


def _pieces(
    channels: tuple[str, ...], symbols: tuple[str, ...], action: str = "subscribe", *, passing: bool = False
) -> list[Piece]:
    return [
        Piece(channels, symbols[start : start + PIECE], action, passing)
        for start in range(0, len(symbols), PIECE)
    ]
