"""The latest quote and trade of every symbol, for whoever trades against the market.

All messages that the tapes pass are seen, whether or not a socket is subscribed. They are kept packed, and
decoded when asked for, so that a symbol in which nobody has an order costs one dictionary entry a message.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from typing import Any, NamedTuple

import msgpack

from simulator.rescaling import reflected
from simulator.wire import Message, Stream, Streams


class Quote(NamedTuple):
    """The best prices in USD, their sizes in shares or coins; a price of 0 stands for no such side."""

    symbol: str
    ns: int
    """Event time, ns since 1970 UTC."""
    bid: Decimal
    bid_size: Decimal
    ask: Decimal
    ask_size: Decimal


class Trade(NamedTuple):
    """A trade: price in USD, size in shares or coins."""

    symbol: str
    ns: int
    price: Decimal
    size: Decimal


Watcher = Callable[[Quote | Trade], None]


class VenuePrices:
    """The latest messages of one venue; its market calls `observe` and, after a restart, `recall`."""

    def __init__(self, streams: Streams) -> None:
        self._streams = streams
        self._latest: dict[Stream, Message] = {}
        self._watched: dict[Stream, Watcher] = {}

    def observe(self, messages: Sequence[Message]) -> None:
        """New messages, in order; watched symbols' quotes and trades go to the watcher."""
        self.recall(messages)
        watched = self._watched
        if not watched:
            return
        for message in messages:
            watcher = watched.get(message[2])
            if watcher is not None:
                watcher(_decoded(message))

    def recall(self, messages: Sequence[Message]) -> None:
        """Messages that were already passed before a restart: known again, but nobody is told."""
        self._latest.update({message[2]: message for message in messages})

    def rescale(self, symbol: str, factor: Decimal) -> None:
        """A symbol was split: what is known of it counts in the new basis at once."""
        self.recall(reflected(list(self._latest.values()), symbol, factor))

    def watch(self, symbols: Iterable[str], watcher: Watcher) -> None:
        """From now on every quote and trade of these symbols, and of no others, goes to `watcher`."""
        self._watched = {
            self._streams.get(channel, symbol): watcher
            for symbol in symbols
            for channel in ("quotes", "trades")
        }

    def quote(self, symbol: str) -> Quote | None:
        """The latest quote; None before the first."""
        found = self._find("quotes", symbol)
        return found if isinstance(found, Quote) else None

    def trade(self, symbol: str) -> Trade | None:
        """The latest trade, whatever its conditions; None before the first."""
        found = self._find("trades", symbol)
        return found if isinstance(found, Trade) else None

    def _find(self, channel: str, symbol: str) -> Quote | Trade | None:
        stream = self._streams.find(channel, symbol)
        message = self._latest.get(stream) if stream is not None else None
        return None if message is None else _decoded(message)


class LatestPrices:
    """The prices of several venues: pairs like BTC/USD are of the crypto venue, all else of the stocks'."""

    def __init__(self, stocks: VenuePrices, crypto: VenuePrices) -> None:
        self._stocks = stocks
        self._crypto = crypto

    def quote(self, symbol: str) -> Quote | None:
        """The latest quote of a symbol; None before the first."""
        return self._venue(symbol).quote(symbol)

    def trade(self, symbol: str) -> Trade | None:
        """The latest trade of a symbol; None before the first."""
        return self._venue(symbol).trade(symbol)

    def watch(self, symbols: Iterable[str], watcher: Watcher) -> None:
        """From now on every quote and trade of these symbols, and of no others, goes to `watcher`.

        It is called in the order of each venue's tape, once the message is in the ledger and before a socket
        has it, and must not block.
        """
        wanted = set(symbols)
        self._stocks.watch([s for s in wanted if "/" not in s], watcher)
        self._crypto.watch([s for s in wanted if "/" in s], watcher)

    def _venue(self, symbol: str) -> VenuePrices:
        return self._crypto if "/" in symbol else self._stocks


def _decoded(message: Message) -> Quote | Trade:
    fields: dict[str, Any] = msgpack.unpackb(message[3])
    symbol, ns = message[2].symbol, message[1]
    if message[2].channel == "trades":
        return Trade(symbol, ns, _decimal(fields.get("p")), _decimal(fields.get("s")))
    sides = [_decimal(fields.get(name)) for name in ("bp", "bs", "ap", "as")]
    return Quote(symbol, ns, *sides)


def _decimal(value: object) -> Decimal:
    """The shortest decimal of a float, which is what the tape meant; 0 for what is no number."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return Decimal(repr(value)) if number else Decimal(0)
