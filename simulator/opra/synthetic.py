"""Option quotes and trades made from a seed and from the stocks' prices.

A contract's price is that of the simulated broker (broker/quotes.py): its intrinsic value and a bell-shaped
time value at 30 % a year, of its underlying's middle; a cent each side. Three of four events are of contracts
that somebody has subscribed by name, if anybody has. Trades take the bid or the ask.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Iterator, Sequence
from decimal import Decimal
from typing import Any

from simulator.broker.quotes import contract, model_quote
from simulator.opra.listing import alive, listing, part_of
from simulator.wire import Message, Streams, pack, timestamp

_EXCHANGES = "ABCEHIJMNPQTUWXZ"
_TRADE_SHARE = 0.2
_ASKED_SHARE = 0.75
_TRADE_CONDITIONS, _TRADE_WEIGHTS = ("I", "a", "S", "f", "j"), (10, 4, 2, 2, 1)
_QUOTE_CONDITIONS, _QUOTE_WEIGHTS = ("A", "C", " "), (8, 1, 1)

Spot = Callable[[str], float]
"""The price of a stock in USD, now."""


class SyntheticOptions:
    """An endless tape from `start` (ns since 1970 UTC) on, about `rate` messages a second in all."""

    def __init__(
        self,
        underlyings: Sequence[str],
        seed: int,
        start: int,
        rate: float,
        spot: Spot,
        wanted: Callable[[], Collection[str]],
        limit: int | None = None,
    ) -> None:
        self._random = random.Random(f"options|{seed}|{','.join(underlyings)}")
        self._underlyings = frozenset(underlyings)
        self._start = start
        self._rate = rate
        self._spot = spot
        self._wanted = wanted
        self._limit = limit
        self._names = underlyings
        self._listed = listing(underlyings, start)

    def read(self, streams: Streams) -> Iterator[list[Message]]:
        """One message a block, by arrival time, each made when the one before has left."""
        at, count = 0.0, 0
        while self._limit is None or count < self._limit:
            at += self._random.expovariate(self._rate)
            ns = self._start + int(at * 1e9)
            count += 1
            yield [self._message(self._choose(ns), ns, streams)]

    def _choose(self, ns: int) -> str:
        asked = sorted(s for s in self._wanted() if alive(s, self._underlyings, ns))
        known = [s for s in self._listed if alive(s, self._underlyings, ns)]
        if asked and (not known or self._random.random() < _ASKED_SHARE):
            return self._random.choice(asked)
        if not known:
            known = self._listed = listing(self._names, ns)
        return self._random.choice(known)

    def _message(self, symbol: str, ns: int, streams: Streams) -> Message:
        terms = contract(symbol)
        assert terms is not None, "only contracts are chosen"
        quote = model_quote(symbol, terms, Decimal(repr(self._spot(terms.underlying))), ns)
        head = {"S": symbol, "t": timestamp(ns)}
        fields: dict[str, Any]
        if self._random.random() < _TRADE_SHARE:
            channel = "trades"
            price = quote.ask if self._random.random() < 0.5 else quote.bid
            fields = {"T": "t", **head, "p": float(price), "s": 1 + int(self._random.expovariate(0.2))}
            condition = self._random.choices(_TRADE_CONDITIONS, _TRADE_WEIGHTS)[0]
            fields |= {"x": self._random.choice(_EXCHANGES), "c": condition}
        else:
            channel = "quotes"
            bid = {"bx": self._random.choice(_EXCHANGES), "bp": float(quote.bid), "bs": self._contracts()}
            ask = {"ax": self._random.choice(_EXCHANGES), "ap": float(quote.ask), "as": self._contracts()}
            condition = self._random.choices(_QUOTE_CONDITIONS, _QUOTE_WEIGHTS)[0]
            fields = {"T": "q", **head, **bid, **ask, "c": condition}
        return ns, ns, streams.get(channel, symbol), pack(fields), part_of(fields)

    def _contracts(self) -> int:
        return 1 + min(300, int(self._random.expovariate(0.03)))
