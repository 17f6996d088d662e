"""A crypto market made from a seed, around the clock. Pure: same seed and start, same messages.

Every pair has a book of ten levels a side around a wandering price. An event moves the price or only sizes:
the best quote follows the book, and the book's change goes out as a delta; the whole book leads and comes
again every ten seconds. Trades are fractional, take the best price, and name the taker's side.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from simulator.crypto.bars import part_of
from simulator.wire import Message, Streams, pack, timestamp

PAIRS = {
    "BTC/USD": (6_450_000, 100, 1.0, 0.05),
    "ETH/USD": (262_000, 100, 0.9, 0.8),
    "SOL/USD": (15_430, 100, 0.6, 12.0),
    "LTC/USD": (6_520, 100, 0.3, 25.0),
    "AVAX/USD": (24_310, 1_000, 0.3, 80.0),
    "LINK/USD": (11_270, 1_000, 0.3, 120.0),
    "DOGE/USD": (103_800, 1_000_000, 0.5, 9_000.0),
}
"""Pair -> starting price in ticks, ticks to the dollar, activity (BTC/USD: 1), typical size in coins."""

BLOCK = 64
LEVELS = 10
FULL_BOOK_SECONDS = 10.0
_TRADE_SHARE = 0.22
_MOVE_SHARE = 0.45
_MESSAGES_PER_EVENT = 2.25
_DUST = 0.06
"""Trades so small that they only show that sizes are fractions."""

Side = dict[int, float]
"""Price in ticks -> size in coins."""


@dataclass
class _Pair:
    """One pair's market; prices in ticks."""

    symbol: str
    scale: int
    weight: float
    size: float
    mid: float
    next_id: int
    drift: float = 0.0
    bids: Side = field(default_factory=dict)
    asks: Side = field(default_factory=dict)
    sent_bids: Side = field(default_factory=dict)
    sent_asks: Side = field(default_factory=dict)
    full_book_at: float = 0.0


def terms_of(symbol: str) -> tuple[int, int, float, float]:
    """A pair's terms as in PAIRS; unknown pairs get ones made from their name."""
    if symbol in PAIRS:
        return PAIRS[symbol]
    chance = random.Random(symbol)
    return chance.randint(2_000, 90_000), 1_000, 0.2 + 0.3 * chance.random(), 10 ** chance.uniform(0, 3)


class SyntheticCrypto:
    """An endless tape from `start` (ns since 1970 UTC) on, about `rate` messages a second in all."""

    def __init__(
        self, symbols: Sequence[str], seed: int, start: int, rate: float, limit: int | None = None
    ) -> None:
        self._random = random.Random(f"crypto|{seed}|{','.join(symbols)}")
        self._start = start
        self._limit = limit
        self._symbols = list(symbols)
        activity = sum(terms_of(symbol)[2] for symbol in symbols)
        self._unit = rate / _MESSAGES_PER_EVENT / activity

    def read(self, streams: Streams) -> Iterator[list[Message]]:
        """The messages in blocks, by arrival time."""
        pairs = [self._list(symbol) for symbol in self._symbols]
        queue = [(self._gap(pair), number) for number, pair in enumerate(pairs)]
        heapq.heapify(queue)
        block: list[Message] = []
        count = 0
        while self._limit is None or count < self._limit:
            at, number = queue[0]
            heapq.heapreplace(queue, (at + self._gap(pairs[number]), number))
            messages = self._event(pairs[number], at, streams)
            if self._limit is not None:
                messages = messages[: self._limit - count]
            count += len(messages)
            block += messages
            if len(block) >= BLOCK:
                yield block
                block = []
        if block:
            yield block

    def _list(self, symbol: str) -> _Pair:
        price, scale, weight, size = terms_of(symbol)
        # ids go on after a restart: they start at the time in ms, times 1000
        first_id = self._start // 1_000_000 * 1_000
        pair = _Pair(symbol, scale, weight, size, price * self._random.uniform(0.97, 1.03), first_id)
        self._shape(pair)
        return pair

    def _gap(self, pair: _Pair) -> float:
        return self._random.expovariate(self._unit * pair.weight)

    def _event(self, pair: _Pair, at: float, streams: Streams) -> list[Message]:
        ns = self._start + int(at * 1e9)
        made: list[tuple[str, str, dict[str, Any]]] = []
        if at >= pair.full_book_at:
            pair.full_book_at = at + FULL_BOOK_SECONDS
            made.append(("orderbooks", "o", _full_book(pair)))
            made.append(("quotes", "q", _quote(pair)))
        if self._random.random() < _TRADE_SHARE:
            made.append(("trades", "t", self._trade(pair)))
        else:
            if self._random.random() < _MOVE_SHARE:
                self._move(pair)
            self._resize(pair)
        if delta := _delta(pair):
            made.append(("orderbooks", "o", delta))
            made.append(("quotes", "q", _quote(pair)))
        return [
            _message(streams, pair.symbol, ns + 1_000 * number, *parts) for number, parts in enumerate(made)
        ]

    def _move(self, pair: _Pair) -> None:
        """The price wanders with a little momentum."""
        pair.drift = 0.9 * pair.drift + self._random.gauss(0, 0.00002)
        pair.mid *= 1 + pair.drift + self._random.gauss(0, 0.00006)
        self._shape(pair)

    def _shape(self, pair: _Pair) -> None:
        """A new ladder around the price; levels that stay keep their sizes."""
        step = max(1, round(pair.mid / 40_000))
        half = step * (1 + min(4, int(self._random.expovariate(1.2))))
        bid = max(LEVELS * step + 1, round(pair.mid - half / 2))
        ask = bid + half
        pair.bids = {p: pair.bids.get(p) or self._size(pair) for p in (bid - i * step for i in range(LEVELS))}
        pair.asks = {p: pair.asks.get(p) or self._size(pair) for p in (ask + i * step for i in range(LEVELS))}

    def _resize(self, pair: _Pair) -> None:
        for side in (pair.bids, pair.asks):
            side[self._random.choice(list(side))] = self._size(pair)

    def _trade(self, pair: _Pair) -> dict[str, Any]:
        """The taker buys at the ask or sells at the bid; a level that is used up goes."""
        buys = self._random.random() < 0.5 + 1_000 * max(-0.0001, min(0.0001, pair.drift))
        side = pair.asks if buys else pair.bids
        price = min(side) if buys else max(side)
        wanted = self._size(pair) * (0.001 if self._random.random() < _DUST else 0.4)
        size = max(0.000000001, round(min(wanted, side[price]), 9))
        left = round(side[price] - size, 9)
        if left > 0:
            side[price] = left
        else:
            pair.mid *= 1.00002 if buys else 0.99998
            self._shape(pair)
        pair.next_id += 1
        return {"p": price / pair.scale, "s": size, "i": pair.next_id, "tks": "B" if buys else "S"}

    def _size(self, pair: _Pair) -> float:
        return max(0.000000001, round(pair.size * self._random.lognormvariate(0, 1), 9))


def _quote(pair: _Pair) -> dict[str, Any]:
    bid, ask = max(pair.bids), min(pair.asks)
    return {
        "bp": bid / pair.scale,
        "bs": pair.bids[bid],
        "ap": ask / pair.scale,
        "as": pair.asks[ask],
    }


def _full_book(pair: _Pair) -> dict[str, Any]:
    pair.sent_bids, pair.sent_asks = dict(pair.bids), dict(pair.asks)
    return {**_levels(pair, pair.bids, pair.asks), "r": True}


def _delta(pair: _Pair) -> dict[str, Any]:
    """What changed since the book was last sent, size 0 for a level that is gone; empty when nothing did."""
    bids, asks = _changes(pair.sent_bids, pair.bids), _changes(pair.sent_asks, pair.asks)
    pair.sent_bids, pair.sent_asks = dict(pair.bids), dict(pair.asks)
    return _levels(pair, bids, asks) if bids or asks else {}


def _changes(old: Side, new: Side) -> Side:
    gone = dict.fromkeys(set(old) - set(new), 0.0)
    return gone | {price: size for price, size in new.items() if old.get(price) != size}


def _levels(pair: _Pair, bids: Side, asks: Side) -> dict[str, Any]:
    """Best price first."""
    return {
        "b": [{"p": price / pair.scale, "s": bids[price]} for price in sorted(bids, reverse=True)],
        "a": [{"p": price / pair.scale, "s": asks[price]} for price in sorted(asks)],
    }


def _message(
    streams: Streams, symbol: str, ns: int, channel: str, kind: str, fields: dict[str, Any]
) -> Message:
    message = {"T": kind, "S": symbol, **fields, "t": timestamp(ns)}
    return ns, ns, streams.get(channel, symbol), pack(message), part_of(message)
