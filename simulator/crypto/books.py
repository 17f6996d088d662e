"""The order books of all pairs, kept from the deltas that pass, so that a newcomer can get a whole one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgpack

from simulator.wire import Message, Streams, pack, timestamp

Side = dict[float, float]
"""Price in USD -> size in coins."""


class Books:
    """Sees every message of the crypto market (`market.Observer`)."""

    def __init__(self) -> None:
        self._books: dict[str, tuple[Side, Side]] = {}
        self._times: dict[str, int] = {}

    def observe(self, messages: Sequence[Message]) -> None:
        """Apply the order books among new messages."""
        for message in messages:
            if message[2].channel == "orderbooks":
                self._apply(message[2].symbol, message[1], msgpack.unpackb(message[3]))

    def recall(self, messages: Sequence[Message]) -> None:
        """Apply the order books among messages from before a restart."""
        self.observe(messages)

    def symbols(self) -> list[str]:
        """Pairs whose book is known."""
        return sorted(self._books)

    def shown(self, symbol: str) -> dict[str, Any] | None:
        """A whole book as REST shows it, best price first; None when it is not known."""
        if symbol not in self._books:
            return None
        bids, asks = self._books[symbol]
        return {
            "t": timestamp(self._times[symbol]),
            "b": [{"p": price, "s": bids[price]} for price in sorted(bids, reverse=True)],
            "a": [{"p": price, "s": asks[price]} for price in sorted(asks)],
        }

    def whole(self, symbols: Iterable[str], clock: int, streams: Streams) -> list[Message]:
        """Messages with the whole books (r: true) of these pairs, as far as they are known."""
        made: list[Message] = []
        for symbol in symbols:
            if (shown := self.shown(symbol)) is not None:
                message = {"T": "o", "S": symbol, **shown, "r": True}
                stream = streams.get("orderbooks", symbol)
                made.append((clock, self._times[symbol], stream, pack(message), None))
        return made

    def _apply(self, symbol: str, ns: int, message: dict[str, Any]) -> None:
        """A change of a book that never began is of no use, and left out."""
        if message.get("r"):
            self._books[symbol] = ({}, {})
        if symbol not in self._books:
            return
        for side, name in zip(self._books[symbol], ("b", "a"), strict=True):
            for level in message[name]:
                if level["s"]:
                    side[level["p"]] = level["s"]
                else:
                    side.pop(level["p"], None)
        self._times[symbol] = max(ns, self._times.get(symbol, 0))
