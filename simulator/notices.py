"""What the exchanges announce beside trades and quotes: halts, LULD bands, imbalances, corrections.

A symbol's bands are 5 % around its price (10 % in the first and the last quarter of an hour of a session) and
come every half minute. A halt is a volatility pause of one to five minutes: its band, the status, and at its
end the resumption and new bands. Imbalances are of one symbol a minute, and of one in five seconds before the
opening and the closing auction. Corrections and cancels are of a symbol's newest trade; bars do not follow
them. Pure: same seed, same notices.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from simulator.bars import MINUTE
from simulator.wire import timestamp

BAND_SECONDS = 30.0
IMBALANCE_SECONDS = 60.0
AUCTION_SECONDS = 5.0
HALT_SECONDS = (60.0, 300.0)
_OPEN, _CLOSE = 570 * MINUTE, 960 * MINUTE
_AUCTION = 10 * MINUTE
_WIDE = 15 * MINUTE

_PAUSE = {
    "nyse": ("2", "Trading Halt", "M", "Volatility Trading Pause"),
    "nasdaq": ("P", "Volatility Trading Pause", "LUDP", "Volatility Trading Pause"),
}
_RESUME = {
    "nyse": (("3", "Resume", "", ""),),
    "nasdaq": (
        ("Q", "Quotation Resumption", "LUDP", "Volatility Trading Pause"),
        ("T", "Trading Resumption", "LUDP", "Volatility Trading Pause"),
    ),
}


class Print(NamedTuple):
    """A trade that may be corrected: price in USD, size in shares."""

    id: int
    exchange: str
    price: float
    size: int
    conditions: tuple[str, ...]


class Known(NamedTuple):
    """What the market knows of a symbol: price in USD, tape, newest trade, and how to number another."""

    price: float
    tape: str
    newest: Print | None
    next_id: Callable[[], int]


Lookup = Callable[[str], Known]
Fields = dict[str, Any]


class Notices:
    """The notices of one market; times in seconds since its start."""

    def __init__(
        self, symbols: Sequence[str], seed: int, halts_per_hour: float, corrections_per_hour: float
    ) -> None:
        self._random = random.Random(f"notices|{seed}|{','.join(symbols)}")
        self._symbols = symbols
        self._halts = halts_per_hour / 3600
        self._corrections = corrections_per_hour / 3600
        self._queue: list[tuple[float, int, str, str]] = []
        self._number = 0
        self._makers: Mapping[str, Callable[[float, str, int, Lookup], list[Fields]]] = {
            "band": self._band,
            "imbalance": self._imbalance,
            "halt": self._halt,
            "resumption": self._resumption,
            "correction": self._correction,
        }
        self.halted: set[str] = set()
        """Symbols that do not trade now."""
        for symbol in symbols:
            self._at(self._random.uniform(0, 1), "band", symbol)
        self._at(self._random.uniform(0, AUCTION_SECONDS), "imbalance")
        self._again("halt", 0.0)
        self._again("correction", 0.0)

    @property
    def due(self) -> float:
        """When the next notice is due."""
        return self._queue[0][0]

    def next(self, ns: int, midnight: int, known: Lookup) -> list[Fields]:
        """The messages of what is due next, as of a time (ns) of a New York day that began at `midnight`."""
        at, _, kind, symbol = heapq.heappop(self._queue)
        made = self._makers[kind](at, symbol, ns - midnight, known)
        return [{**fields, "t": timestamp(ns)} for fields in made]

    def _at(self, at: float, kind: str, symbol: str = "") -> None:
        self._number += 1
        heapq.heappush(self._queue, (at, self._number, kind, symbol))

    def _again(self, kind: str, at: float) -> None:
        """After a random time, if there are such at all."""
        if rate := self._halts if kind == "halt" else self._corrections:
            self._at(at + self._random.expovariate(rate), kind)

    def _band(self, at: float, symbol: str, clock: int, known: Lookup) -> list[Fields]:
        self._at(at + BAND_SECONDS, "band", symbol)
        return [_bands(symbol, clock, known(symbol))]

    def _imbalance(self, at: float, _: str, clock: int, known: Lookup) -> list[Fields]:
        auction = any(end - _AUCTION <= clock < end for end in (_OPEN, _CLOSE))
        self._at(at + (AUCTION_SECONDS if auction else IMBALANCE_SECONDS), "imbalance")
        symbol = self._random.choice(self._symbols)
        about = known(symbol)
        return [{"T": "i", "S": symbol, "p": about.price, "z": about.tape}]

    def _halt(self, at: float, _: str, clock: int, known: Lookup) -> list[Fields]:
        self._again("halt", at)
        symbol = self._random.choice(self._symbols)
        if symbol in self.halted:
            return []
        self.halted.add(symbol)
        self._at(at + self._random.uniform(*HALT_SECONDS), "resumption", symbol)
        about = known(symbol)
        return [_bands(symbol, clock, about), _status(symbol, about.tape, _PAUSE[_plan(about.tape)])]

    def _resumption(self, _: float, symbol: str, clock: int, known: Lookup) -> list[Fields]:
        self.halted.discard(symbol)
        about = known(symbol)
        resumed = [_status(symbol, about.tape, words) for words in _RESUME[_plan(about.tape)]]
        return [*resumed, _bands(symbol, clock, about)]

    def _correction(self, at: float, _: str, clock: int, known: Lookup) -> list[Fields]:
        self._again("correction", at)
        symbol = self._random.choice(self._symbols)
        about = known(symbol)
        if (old := about.newest) is None:
            return []
        head = {"S": symbol, "x": old.exchange, "z": about.tape}
        if self._random.random() < 0.5:
            action = self._random.choice("CE")
            return [{"T": "x", **head, "i": old.id, "p": old.price, "s": old.size, "a": action}]
        price = round(old.price + self._random.choice((-0.01, 0.01)), 2)
        was = {"oi": old.id, "op": old.price, "os": old.size, "oc": list(old.conditions)}
        now = {"ci": about.next_id(), "cp": price, "cs": old.size, "cc": list(old.conditions)}
        return [{"T": "c", **head, **was, **now}]


def _plan(tape: str) -> str:
    return "nyse" if tape in "AB" else "nasdaq"


def _bands(symbol: str, clock: int, known: Known) -> Fields:
    wide = _OPEN <= clock < _OPEN + _WIDE or _CLOSE - _WIDE <= clock < _CLOSE
    share = 0.10 if wide else 0.05
    up, down = round(known.price * (1 + share), 2), round(known.price * (1 - share), 2)
    return {"T": "l", "S": symbol, "u": up, "d": down, "i": "B", "z": known.tape}


def _status(symbol: str, tape: str, words: tuple[str, str, str, str]) -> Fields:
    code, text, reason, reason_text = words
    return {"T": "s", "S": symbol, "sc": code, "sm": text, "rc": reason, "rm": reason_text, "z": tape}
