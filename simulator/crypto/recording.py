"""Recorded Binance streams as messages of a tape: lines of `<receipt ns> <raw JSON>`, gzipped or not.

trade -> T=t (the taker sold if the buyer was the maker), bookTicker -> T=q, depthUpdate and depth snapshot ->
T=o. Messages arrive in the order of their receipt stamps. A quote has no time of its own: its event time is
the receipt; trades and books keep the exchange's, which may be ahead of the receipt where clocks differ.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson

from simulator import line_tape
from simulator.crypto.bars import part_of
from simulator.lines import ReadError, open_text
from simulator.rejects import Rejects
from simulator.wire import Message, Streams, pack, timestamp

_START = re.compile(rb"[1-9]\d{17,18} \{")
_DOLLARS = ("USDT", "USDC", "USD")
_MILLION = 1_000_000
_BEFORE_SNAPSHOT = 100
"""Changes of a book that are kept until its snapshot: ten seconds of them."""


def recognise(path: Path) -> bool:
    """Whether a file begins as such a recording does."""
    try:
        with open_text(path) as text:
            return _START.match(text.read(32)) is not None
    except (ReadError, OSError, EOFError):
        return False


def pair_of(symbol: str) -> str | None:
    """BTCUSDT -> BTC/USD; None for what is not traded against the dollar."""
    for quote in _DOLLARS:
        base = symbol.removesuffix(quote)
        if base != symbol and base.isalnum():
            return f"{base}/USD"
    return None


class Recording:
    """One file, read once."""

    def __init__(self, path: Path, streams: Streams, rejects: Rejects) -> None:
        self._path = path
        self._streams = streams
        self._rejects = rejects
        self._pair: str | None = None
        self._book_from = 0
        self._before: deque[dict[str, Any]] = deque(maxlen=_BEFORE_SNAPSHOT)
        self._convert: dict[str, Callable[[dict[str, Any], int], Message | str]] = {
            "trade": self._trade,
            "depthUpdate": self._depth,
        }

    def read(self) -> Iterator[list[Message]]:
        """The messages, in blocks that never end within messages of one arrival time."""
        return line_tape.read(self._path, self._message, self._rejects)

    def _message(self, raw: bytes) -> Message | str:
        stamp, _, body = raw.partition(b" ")
        if not stamp.isdigit() or len(stamp) > 19:
            return "no receipt stamp in ns"
        receipt = int(stamp)
        try:
            fields = orjson.loads(body)
        except orjson.JSONDecodeError as error:
            return f"not JSON: {error}"
        try:
            return self._converted(fields, receipt)
        except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
            return f"not a trade, bookTicker or depth of Binance: {error!r}"

    def _converted(self, fields: dict[str, Any], receipt: int) -> Message | str:
        if "lastUpdateId" in fields:
            return self._snapshot(fields, receipt)
        data = fields["data"]
        self._pair = pair_of(str(data["s"]))
        if self._pair is None:
            return f"not a pair with the dollar: {data['s']}"
        if "e" not in data:
            return self._quote(data, receipt)
        convert = self._convert.get(data["e"])
        return f"unknown event: {data['e']}" if convert is None else convert(data, receipt)

    def _trade(self, data: dict[str, Any], receipt: int) -> Message:
        ns = int(data["T"]) * _MILLION
        fields = {"p": float(data["p"]), "s": float(data["q"]), "t": timestamp(ns), "i": int(data["t"])}
        return self._made(receipt, ns, "trades", "t", {**fields, "tks": "S" if data["m"] else "B"})

    def _quote(self, data: dict[str, Any], receipt: int) -> Message:
        sides = {"bp": data["b"], "bs": data["B"], "ap": data["a"], "as": data["A"]}
        fields: dict[str, Any] = {name: float(text) for name, text in sides.items()}
        return self._made(receipt, receipt, "quotes", "q", {**fields, "t": timestamp(receipt)})

    def _depth(self, data: dict[str, Any], receipt: int) -> Message | str:
        if int(data["u"]) <= self._book_from:
            return "a change of the order book from before its snapshot"
        if not self._book_from:
            self._before.append(data)
        ns = int(data["E"]) * _MILLION
        return self._book(receipt, ns, data["b"], data["a"], {})

    def _snapshot(self, fields: dict[str, Any], receipt: int) -> Message | str:
        if self._pair is None:
            return "an order book without a symbol"
        self._book_from = int(fields["lastUpdateId"])
        sides = [dict(fields["bids"]), dict(fields["asks"])]
        for data in self._before:  # Binance: what came before a snapshot and is newer still holds
            if int(data["u"]) > self._book_from:
                sides[0].update(data["b"])
                sides[1].update(data["a"])
        self._before.clear()
        bids, asks = ([[p, s] for p, s in side.items() if float(s)] for side in sides)
        bids.sort(key=lambda level: -float(level[0]))
        asks.sort(key=lambda level: float(level[0]))
        return self._book(receipt, receipt, bids, asks, {"r": True})

    def _book(
        self, receipt: int, ns: int, bids: list[list[str]], asks: list[list[str]], more: dict[str, Any]
    ) -> Message:
        sides = {
            name: [{"p": float(price), "s": float(size)} for price, size in levels]
            for name, levels in (("b", bids), ("a", asks))
        }
        return self._made(receipt, ns, "orderbooks", "o", {"t": timestamp(ns), **sides, **more})

    def _made(self, receipt: int, ns: int, channel: str, kind: str, fields: dict[str, Any]) -> Message:
        pair = str(self._pair)
        message = {"T": kind, "S": pair, **fields}
        return receipt, ns, self._streams.get(channel, pair), pack(message), part_of(message)
