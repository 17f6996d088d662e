"""Spoiled frames through the producers' intake with the real encoders: nothing may break, nothing may vanish.

Every byte of a frame belongs to one of its messages, or to the frame as a whole when it cannot be taken
apart; each of them must end in exactly one way: published, duplicate, dead-lettered with its own bytes, or
handed on as control. What a frame holds is found here by a walk of our own over its bytes.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgpack
import psutil

from producers.channel import Encoder
from producers.crypto import CryptoEncoder
from producers.encoder import Encoder as StockEncoder
from producers.entrance import Bars, Window
from producers.intake import Intake
from producers.news import NewsEncoder
from producers.options import OptionEncoder
from schemas.codec import Codec, load_codec
from tidewire import config
from tidewire.dead_letters import DeadLetter
from tidewire.metrics import MESSAGES_DUPLICATE

_BEGIN = 1_763_740_800
_NS = 10**9
_CONTROL = ("success", "error", "subscription")
_DEEP = b"\x91" * 1_024
"""Nested deeper than msgpack's reader goes: such a frame is kept whole."""
WARM_UP = 2_000
"""Frames before memory is measured: caches are full then."""


@dataclass
class Tally:
    """What became of the messages. `wrong`: frames of which something was lost or invented."""

    frames: int = 0
    frame_bytes: int = 0
    messages: int = 0
    published: int = 0
    duplicates: int = 0
    dead_letters: int = 0
    control: int = 0
    crashes: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    grown_bytes: int = 0


class Log:
    """Counts records, and keeps the letters of one frame only."""

    def __init__(self) -> None:
        self.records = 0
        self.letters: list[DeadLetter] = []

    def adder(self, topic: str) -> Callable[[bytes, bytes, int], None]:
        """Counts the records of a topic."""

        def add(key: bytes, value: bytes, timestamp: int) -> None:
            self.records += 1

        return add

    def dead_letter(self, letter: DeadLetter, timestamp_ms: int) -> None:
        """Keep one dead letter."""
        self.letters.append(letter)


def fuzz(frames: int, seed: int) -> Tally:
    """Send so many frames through an intake of each feed in turn."""
    codec, chance, tally = load_codec(config.load(_env_file=None)), random.Random(seed), Tally()
    lines = [_Line(f"fuzz-{seed}-{kind}", encoder) for kind, encoder in _encoders(codec).items()]
    makers = [_STOCKS, _CRYPTO, _NEWS, _OPTIONS]
    process, before = psutil.Process(), 0
    for number in range(frames):
        if number == min(WARM_UP, frames // 2):
            before = process.memory_info().rss
        which = chance.choices(range(4), (6, 2, 1, 2))[0]
        now = _BEGIN * _NS + number * 50_000_000
        lines[which].take(_frame(chance, makers[which], now), now, tally)
    tally.grown_bytes = process.memory_info().rss - before
    return tally


def _encoders(codec: Codec) -> dict[str, Encoder]:
    return {
        "stocks": StockEncoder(codec, Window(), Bars(), owner_epoch=1),
        "crypto": CryptoEncoder(codec, owner_epoch=1),
        "news": NewsEncoder(codec, owner_epoch=1),
        "options": OptionEncoder(codec, owner_epoch=1),
    }


class _Line:
    def __init__(self, feed: str, encoder: Encoder) -> None:
        self._feed, self._log = feed, Log()
        self._intake = Intake(feed, encoder, self._log, lambda topic: topic)
        names = {channel.name for channel in encoder.channels().values()} | {"unknown"}
        self._dropped = [MESSAGES_DUPLICATE.labels(feed, name) for name in names]
        self._before = self._repeats()

    def take(self, raw: bytes | str, now_ns: int, tally: Tally) -> None:
        """One frame, and the account of it."""
        log = self._log
        log.records, log.letters = 0, []
        tally.frames += 1
        tally.frame_bytes += len(raw)
        try:
            count, control = self._intake.frame(raw, now_ns)
        except Exception as error:  # the very thing that is looked for
            tally.crashes.append(f"{error!r} at {raw[:200]!r}")
            return
        dropped = 0
        if count != log.records + len(log.letters):  # reading the metric is slow
            repeats = self._repeats()
            dropped, self._before = int(repeats - self._before), repeats
        tally.messages += count + len(control)
        tally.published += log.records
        tally.duplicates += dropped
        tally.dead_letters += len(log.letters)
        tally.control += len(control)
        problem = _account(raw, count, len(control), log.records + dropped, [x.value for x in log.letters])
        if problem is not None:
            tally.wrong.append(f"{problem}: {raw[:200]!r}")

    def _repeats(self) -> float:
        return sum(
            sample.value
            for child in self._dropped
            for m in child.collect()
            for sample in m.samples
            if sample.name.endswith("_total")
        )


def _account(raw: bytes | str, count: int, control: int, taken: int, letters: list[bytes]) -> str | None:
    """What does not add up of one frame; None: all of it does."""
    if count != taken + len(letters):
        return f"{count} messages, {taken} taken and {len(letters)} dead letters"
    pieces = None if isinstance(raw, str) or _DEEP in raw else split(raw)
    if pieces is None:
        whole = raw.encode("utf-8", "surrogatepass") if isinstance(raw, str) else raw
        return (
            None if letters == [whole] and not control and not taken else "a broken frame is not kept whole"
        )
    if len(pieces) != count + control:
        return f"{len(pieces)} messages lie in it, {count + control} were seen"
    left = iter(pieces)
    return None if all(letter in left for letter in letters) else "a dead letter has other bytes"


def split(raw: bytes) -> list[bytes] | None:
    """The messages of a frame, by their bytes; None when it is not one whole msgpack array."""
    head = _length(raw)
    if head is None:
        return None
    count, at = head
    pieces = []
    for _ in range(count):
        end = _end(raw, at)
        if end is None:
            return None
        pieces.append(raw[at:end])
        at = end
    return pieces if at == len(raw) else None


def _length(raw: bytes) -> tuple[int, int] | None:
    first = raw[0] if raw else 0
    if 0x90 <= first <= 0x9F:
        return first & 15, 1
    size = {0xDC: 2, 0xDD: 4}.get(first)
    if size is None or len(raw) < 1 + size:
        return None
    return int.from_bytes(raw[1 : 1 + size], "big"), 1 + size


_FIXED = {
    0xC0: 0, 0xC2: 0, 0xC3: 0, 0xCA: 4, 0xCB: 8, 0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8, 0xD0: 1, 0xD1: 2,
    0xD2: 4, 0xD3: 8, 0xD4: 2, 0xD5: 3, 0xD6: 5, 0xD7: 9, 0xD8: 17,
}  # fmt: skip
_SIZED = {0xC4: (1, 0), 0xC5: (2, 0), 0xC6: (4, 0), 0xC7: (1, 1), 0xC8: (2, 1), 0xC9: (4, 1),
          0xD9: (1, 0), 0xDA: (2, 0), 0xDB: (4, 0)}  # fmt: skip
_NESTED = {0xDC: (2, 1), 0xDD: (4, 1), 0xDE: (2, 2), 0xDF: (4, 2)}


def _end(raw: bytes, at: int) -> int | None:
    """Where the value at a place ends, by msgpack's specification; None: beyond the end, or no value."""
    left = 1
    while left:
        if at >= len(raw):
            return None
        first = raw[at]
        at, left = at + 1, left - 1
        if first <= 0x7F or first >= 0xE0:
            continue
        if 0x80 <= first <= 0x9F:
            left += (first & 15) * (2 if first < 0x90 else 1)
        elif 0xA0 <= first <= 0xBF:
            at += first & 31
        elif first in _FIXED:
            at += _FIXED[first]
        elif first in _SIZED:
            size, more = _SIZED[first]
            at += size + more + int.from_bytes(raw[at : at + size], "big")
        elif first in _NESTED:
            size, each = _NESTED[first]
            left += each * int.from_bytes(raw[at : at + size], "big")
            at += size
        else:
            return None
    return at if at <= len(raw) else None


# -- frames

Maker = Callable[[random.Random, Any], dict[Any, Any]]


def _frame(chance: random.Random, maker: Maker, now_ns: int) -> bytes | str:
    stamp = msgpack.Timestamp.from_unix_nano(now_ns - chance.randrange(2 * _NS))
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


_STOCKS, _CRYPTO, _NEWS, _OPTIONS = _stock, _pair, _article, _option
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
        return {"T": chance.choice(_CONTROL), "msg": "x", "code": 400}
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
