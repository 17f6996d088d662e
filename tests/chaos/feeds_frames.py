"""Frames as Alpaca sends them, and as nobody should: spoiled in a message, or in their bytes. Seeded."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import msgpack

NS = 10**9
CONTROL = ("success", "error", "subscription")

Maker = Callable[[random.Random, Any], dict[Any, Any]]


def frame(chance: random.Random, maker: Maker, now_ns: int) -> bytes | str:
    """One frame of a few messages; many are spoiled, in a message or in their bytes."""
    stamp = msgpack.Timestamp.from_unix_nano(now_ns - chance.randrange(2 * NS))
    messages: list[Any] = [maker(chance, stamp) for _ in range(chance.choice((1, 1, 2, 3, 8)))]
    if chance.random() < 0.2:
        messages.append(chance.choice(messages))
    if chance.random() < 0.45:
        place = chance.randrange(len(messages))
        messages[place] = _spoil(chance, messages[place])
    raw = msgpack.packb(messages)
    return raw if chance.random() < 0.4 else chance.choice(_BREAKERS)(chance, raw)


def _stock(chance: random.Random, stamp: Any) -> dict[Any, Any]:
    symbol = chance.choice(("AAPL", "MSFT", "SPY", "BRK.B"))
    kind = chance.choice("ttqqbudsslixc")
    common: dict[Any, Any] = {"T": kind, "S": symbol, "t": stamp}
    price = chance.randrange(100, 50_000) / 100
    bodies: dict[str, dict[str, Any]] = {
        "t": {"i": chance.randrange(1 << 40), "x": "V", "p": price, "s": 100, "c": ["@"], "z": "C"},
        "q": {"bx": "V", "bp": price, "bs": 1, "ax": "Q", "ap": price, "as": 2, "c": ["R"], "z": "C"},
        "s": {"sc": "H", "sm": "Halt", "rc": "T12", "rm": "News", "z": "C"},
        "l": {"u": price, "d": price, "i": "B", "z": "C"},
        "i": {"p": price, "z": "C"},
        "x": {"i": 7, "x": "V", "p": price, "s": 1, "a": "C", "z": "C"},
        "c": {"x": "V", "oi": 1, "op": price, "os": 1, "oc": ["@"], "ci": 2, "cp": price, "cs": 2,
              "cc": ["@"], "z": "C"},
    }  # fmt: skip
    return common | bodies.get(kind, _bar(price))


def _bar(price: float) -> dict[str, Any]:
    return {"o": price, "h": price, "l": price, "c": price, "v": 10, "n": 3, "vw": price}


def _pair(chance: random.Random, stamp: Any) -> dict[Any, Any]:
    kind, price = chance.choice("tqbudo"), chance.randrange(1, 10**6) / 8
    common: dict[Any, Any] = {"T": kind, "S": chance.choice(("BTC/USD", "ETH/USD")), "t": stamp}
    bodies: dict[str, dict[str, Any]] = {
        "t": {"i": chance.randrange(1 << 40), "p": price, "s": 0.25, "tks": "B"},
        "q": {"bp": price, "bs": 1.5, "ap": price, "as": 2.5},
        "o": {"b": [{"p": price, "s": 1.0}], "a": [{"p": price + 1, "s": 0}], "r": chance.random() < 0.3},
    }
    return common | bodies.get(kind, _bar(price))


def _article(chance: random.Random, stamp: Any) -> dict[Any, Any]:
    return {
        "T": "n", "id": chance.randrange(1 << 31), "headline": "h", "summary": "", "author": "a",
        "created_at": stamp, "updated_at": stamp, "url": "https://example.org/1", "content": "",
        "symbols": ["AAPL"], "source": "benzinga",
    }  # fmt: skip


def _option(chance: random.Random, stamp: Any) -> dict[Any, Any]:
    price = chance.randrange(1, 5000) / 100
    common: dict[Any, Any] = {"S": "AAPL240315C00172500", "t": stamp, "c": "S"}
    if chance.random() < 0.5:
        return common | {"T": "t", "p": price, "s": 1, "x": "N"}
    return common | {"T": "q", "bx": "N", "bp": price, "bs": 1, "ax": "M", "ap": price, "as": 1}


MAKERS: tuple[Maker, ...] = (_stock, _pair, _article, _option)
"""Of stocks, crypto, news and options."""
_HOSTILE: tuple[Any, ...] = (
    None, True, -1, 2**63, -(2**63), 2**64 - 1, 0.0, float("nan"), float("inf"), -1e308, "", "\x00",
    "x" * 70_000,
    b"\xff\xfe", [], {}, [[[]]], {"a": {"b": [1]}}, msgpack.ExtType(5, b"12"), msgpack.Timestamp(2**60, 1),
    msgpack.Timestamp(-(2**40), 0), msgpack.Timestamp(0, 0), "\ud7ff", ["@"] * 300, "2021-02-22T15:51:44Z",
)  # fmt: skip


def _spoil(chance: random.Random, message: dict[Any, Any]) -> Any:
    """One value, key or the message itself replaced by something that Alpaca should never send."""
    kind = chance.randrange(7)
    if kind == 0:
        return chance.choice(_HOSTILE)
    if kind == 6:
        return {"T": chance.choice(CONTROL), "msg": "x", "code": 400}
    spoiled = dict(message)
    field_ = chance.choice(list(message))
    if kind == 1:
        del spoiled[field_]
    elif kind == 2:
        spoiled[chance.choice((1, None, "new", b"raw", "t" * 300))] = chance.choice(_HOSTILE)
    else:
        spoiled[field_] = chance.choice(_HOSTILE)
    return spoiled


def _flip(chance: random.Random, raw: bytes) -> bytes:
    spoiled = bytearray(raw)
    for _ in range(chance.choice((1, 1, 2, 5))):
        spoiled[chance.randrange(len(spoiled))] ^= 1 << chance.randrange(8)
    return bytes(spoiled)


def _cut(chance: random.Random, raw: bytes) -> bytes:
    return raw[: chance.randrange(len(raw))]


def _insert(chance: random.Random, raw: bytes) -> bytes:
    place = chance.randrange(len(raw) + 1)
    return raw[:place] + chance.randbytes(chance.choice((1, 2, 9))) + raw[place:]


def _remove(chance: random.Random, raw: bytes) -> bytes:
    start = chance.randrange(len(raw))
    return raw[:start] + raw[start + chance.choice((1, 2, 9)) :]


def _noise(chance: random.Random, raw: bytes) -> bytes:
    return chance.randbytes(chance.randrange(60))


def _claim(chance: random.Random, raw: bytes) -> bytes:
    """A head that promises more, or much more, than follows; or depth without end."""
    head = chance.choice((b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff", b"\x9f"))
    return chance.choice((head + raw[1:], b"\x91" * 5_000, b"\x91" * 2_000 + b"\xc0", raw + raw))


def _text(chance: random.Random, raw: bytes) -> str:
    return raw.decode("latin-1")


_BREAKERS = (_flip, _flip, _flip, _cut, _insert, _remove, _noise, _claim, _text)
