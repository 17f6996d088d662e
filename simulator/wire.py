"""Market-data messages as bytes: each is packed once, and the same bytes go to sockets, ledger and history.

A message of the tape is a plain tuple, since a million of them pass through:
(arrival ns, event ns, stream, msgpack map, trade part or None). Arrival never goes back within a source.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgpack

from simulator.conditions import UpdateRule, update_rule

CHANNELS = {
    "t": "trades",
    "q": "quotes",
    "b": "bars",
    "u": "updatedBars",
    "d": "dailyBars",
    "s": "statuses",
    "l": "lulds",
    "c": "corrections",
    "x": "cancelErrors",
    "i": "imbalances",
}
"""Type letter -> the channel that a client subscribes."""

OTHER = "other"
"""The channel of a type that Alpaca does not document: sent to whoever has any subscription."""


HISTORIC = ("trades", "quotes", "news")
"""The channels whose messages REST has, subscribed or not. Bars have a book of their own."""


class Stream:
    """One channel of one symbol. `on`: somebody is subscribed, so its messages are published.

    `historic`: REST has them even when nobody is.
    """

    __slots__ = ("channel", "historic", "on", "symbol")

    def __init__(self, channel: str, symbol: str) -> None:
        self.channel = channel
        self.symbol = symbol
        self.on = False
        self.historic = channel in HISTORIC

    def __repr__(self) -> str:
        return f"Stream({self.channel!r}, {self.symbol!r})"


class Streams:
    """Every stream met so far; `wanted` decides which are on."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], Stream] = {}
        self._wanted: Callable[[str, str], bool] = lambda channel, symbol: False

    def get(self, channel: str, symbol: str) -> Stream:
        """The stream of a channel and symbol, always the same object."""
        stream = self._known.get((channel, symbol))
        if stream is None:
            stream = self._known[channel, symbol] = Stream(channel, symbol)
            stream.on = self._wanted(channel, symbol)
        return stream

    def find(self, channel: str, symbol: str) -> Stream | None:
        """The stream, if one of its messages has been met."""
        return self._known.get((channel, symbol))

    def symbols(self) -> set[str]:
        """Every symbol met so far."""
        return {symbol for _, symbol in self._known}

    def choose(self, wanted: Callable[[str, str], bool]) -> None:
        """Switch every stream, and those yet to come, by a new rule."""
        self._wanted = wanted
        for stream in self._known.values():
            stream.on = wanted(stream.channel, stream.symbol)


TradePart = tuple[float, int, UpdateRule]
"""Price in USD, size in shares (crypto: in billionths of a coin), what it may update in bars."""

Message = tuple[int, int, Stream, bytes, TradePart | None]

_packer: Callable[[object], bytes] = msgpack.Packer().pack
_EXT8 = struct.Struct(">HQ").pack
_EXT4 = struct.Struct(">HI").pack
_DOUBLE = struct.Struct(">Bd").pack
_CACHE_LIMIT = 50_000


def pack(message: Mapping[str, Any]) -> bytes:
    """Any message map; times are msgpack.Timestamp. The slow and general way."""
    packed: bytes = msgpack.packb(message)
    return packed


def pack_time(ns: int) -> bytes:
    """Nanoseconds since 1970 (0 .. 2**34 s) as msgpack's timestamp extension, in its shortest form."""
    seconds, part = divmod(ns, 1_000_000_000)
    if part == 0 and seconds < 1 << 32:
        return _EXT4(0xD6FF, seconds)
    return _EXT8(0xD7FF, part << 34 | seconds)


def timestamp(ns: int) -> msgpack.Timestamp:
    """Nanoseconds since 1970 as the value that msgpack packs as a time."""
    return msgpack.Timestamp(*divmod(ns, 1_000_000_000))


class Fragments(dict[Any, bytes]):
    """Packed `key: value` pairs by value, since sizes, prices and exchanges repeat. Bounded."""

    def __init__(self, name: str, scale: int | None = None) -> None:
        super().__init__()
        self._name = _packer(name)
        self._scale = scale

    def __missing__(self, value: Any) -> bytes:
        packed = self._name + (_DOUBLE(0xCB, value / self._scale) if self._scale else _packer(value))
        if len(self) < _CACHE_LIMIT:
            self[value] = packed
        return packed


class TradePacker:
    """Packs the trades of one symbol; prices are integers, `scale` of them to the dollar."""

    def __init__(self, symbol: str, tape: str, scale: int) -> None:
        self._head = b"\x89" + b"".join(map(_packer, ("T", "t", "S", symbol, "i")))
        self._tail = _packer("z") + _packer(tape)
        self._exchange = Fragments("x")
        self._price = Fragments("p", scale)
        self._size = Fragments("s")
        self._time = _packer("t")

    def rows(
        self,
        ids: Iterable[int],
        exchanges: Sequence[str],
        prices: Sequence[int],
        sizes: Sequence[int],
        conditions: Sequence[bytes],
        times: Sequence[int],
    ) -> list[bytes]:
        """One packed message a row; `conditions` are packed by `pack_conditions`, times are ns."""
        join, uint, time = b"".join, _packer, pack_time
        head, tail, exchange = self._head, self._tail, self._exchange
        price, size, name = self._price, self._size, self._time
        return [
            join((head, uint(i), exchange[x], price[p], size[s], c, name, time(t), tail))
            for i, x, p, s, c, t in zip(ids, exchanges, prices, sizes, conditions, times, strict=True)
        ]


class QuotePacker:
    """Packs the quotes of one symbol; prices are integers, `scale` of them to the dollar."""

    def __init__(self, symbol: str, tape: str, scale: int) -> None:
        self._head = b"\x8b" + b"".join(map(_packer, ("T", "q", "S", symbol)))
        self._tail = _packer("z") + _packer(tape)
        self._bx, self._ax = Fragments("bx"), Fragments("ax")
        self._bp, self._ap = Fragments("bp", scale), Fragments("ap", scale)
        self._bs, self._as = Fragments("bs"), Fragments("as")
        self._time = _packer("t")

    def rows(
        self,
        bids: Iterable[tuple[str, int, int]],
        asks: Iterable[tuple[str, int, int]],
        conditions: Sequence[bytes],
        times: Sequence[int],
    ) -> list[bytes]:
        """One packed message a row; a side is (exchange, price, size)."""
        join, time, head, tail, name = b"".join, pack_time, self._head, self._tail, self._time
        fbx, fbp, fbs = self._bx, self._bp, self._bs
        fax, fap, fas = self._ax, self._ap, self._as
        return [
            join((head, fbx[bx], fbp[bp], fbs[bs], fax[ax], fap[ap], fas[as_], c, name, time(t), tail))
            for (bx, bp, bs), (ax, ap, as_), c, t in zip(bids, asks, conditions, times, strict=True)
        ]


def pack_conditions(letters: Sequence[str]) -> bytes:
    """The pair `c: [...]` as bytes."""
    return _packer("c") + _packer(list(letters))


def trade_part(fields: Mapping[str, Any]) -> TradePart | None:
    """What bars need of a trade; None when it is not whole."""
    price, size, letters, tape = (fields.get(name) for name in ("p", "s", "c", "z"))
    if not isinstance(price, float) or type(size) is not int or not isinstance(tape, str):
        return None
    known = letters if isinstance(letters, list) else []
    return price, size, update_rule(tuple(str(letter) for letter in known), tape)


def frame(messages: Sequence[bytes]) -> bytes:
    """A msgpack array of messages that are packed already."""
    count = len(messages)
    head = bytes((0x90 | count,)) if count < 16 else b"\xdc" + count.to_bytes(2, "big")
    return head + b"".join(messages)
