"""A frame that native code takes whole becomes what it becomes message by message, to the byte.

If these fail, a record depends on how the frame was read: an event counted twice after a restart, a price
that was never sent, or an id that no replay finds again.
"""

from __future__ import annotations

import ctypes
import math
import random
from collections.abc import Iterator, Sequence
from typing import Any

import msgpack
import pytest
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st

from producers import whole_frames
from producers.encoder import Encoder
from producers.entrance import Bars, Window
from producers.intake import Intake
from producers.native import library
from schemas import event_id
from schemas.codec import Codec, load_codec
from tests.unit.producer_memory import Memory, counted
from tidewire import config

CODEC: Codec = load_codec(config.load(_env_file=None))
RECEIVED = 1_763_740_000_123_456_789
NS = 1_763_740_000 * 10**9

texts = st.sampled_from(["", "A", "V", "@", " ", "N", "~", "ü", "Z|,", "\x7f", "x" * 33])
symbols = st.sampled_from(["AAPL", "BRK.B", "A", "S" * 64, "S" * 65, "", "Ü"])
sizes = st.sampled_from(
    [0, 1, 63, 64, 127, 128, 255, 256, 8191, 2**31, 2**32, 2**63 - 1, 2**63, -1, -33, -(2**63)]
)
decimals = st.builds(lambda n, places: n / 10**places, st.integers(-(10**15), 10**15), st.integers(0, 10))
prices = decimals | st.floats() | st.sampled_from([0.0, -0.0, 1e-5, 1e-4, 1e15, 0.1 + 0.2, 1, None])
times = st.integers(NS, NS + 3 * 10**10).map(msgpack.Timestamp.from_unix_nano) | st.sampled_from(
    [NS, msgpack.Timestamp(631_151_999, 0), msgpack.Timestamp(4_102_444_800, 0), msgpack.Timestamp(2**35, 1)]
)
conditions = st.lists(texts, max_size=3) | st.sampled_from([None, ["@"] * 16, ["@"] * 17, ["x" * 255] * 2])


def _mostly(
    usual: dict[str, Any], odd: dict[str, st.SearchStrategy[Any]]
) -> st.SearchStrategy[dict[str, Any]]:
    """Mostly the usual message; sometimes one field is odd, missing, or one too many."""
    changed = st.sampled_from([*odd]).flatmap(lambda k: odd[k].map(lambda v: {**usual, k: v}))
    short = st.sampled_from([*usual]).map(lambda k: {f: v for f, v in usual.items() if f != k})
    other_order = st.permutations([*usual.items()]).map(dict)
    return changed | changed | changed | other_order | short | st.just({**usual, "new": 1}) | st.just(usual)


TIME = msgpack.Timestamp.from_unix_nano(NS + 123_456_789)
TRADE = {"T": "t", "S": "AAPL", "i": 7, "x": "V", "p": 13.57, "s": 100, "c": ["@", "I"], "z": "C", "t": TIME}
QUOTE = {"T": "q", "S": "AAPL", "bx": "V", "bp": 13.57, "bs": 1, "ax": "P", "ap": 13.58, "as": 2, "c": ["R"],
         "z": "C", "t": TIME}  # fmt: skip
trades = _mostly(TRADE, {"S": symbols, "i": sizes, "x": texts, "p": prices, "s": sizes, "c": conditions,
                         "z": texts, "t": times})  # fmt: skip
quotes = _mostly(QUOTE, {"S": symbols, "bx": texts, "bp": prices, "bs": sizes, "ax": texts, "ap": prices,
                         "as": sizes, "c": conditions, "z": texts, "t": times})  # fmt: skip
CONTROL = {"T": "success", "msg": "connected"}
others: st.SearchStrategy[Any] = st.sampled_from([CONTROL, {"T": "b", "S": "A"}, {"T": "?"}, 1, None, []])
frames = st.lists(trades | quotes | others, max_size=5) | st.lists(trades | quotes, min_size=1, max_size=5)


@pytest.fixture(autouse=True, scope="module")
def _also_alone() -> Iterator[None]:
    """Frames of one message go the same way."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(whole_frames, "LEAST_BYTES", 0)
        yield


class Producer:
    """An intake with a log in memory. `native`: with whole frames, or without."""

    def __init__(self, feed: str, *, native: bool) -> None:
        self.log, self.feed = Memory(), feed
        self.encoder = Encoder(CODEC, Window(), Bars(), owner_epoch=3)
        if not native:
            self.encoder.whole = lambda raw: None  # type: ignore[method-assign]
        self.intake = Intake(feed, self.encoder, self.log, lambda name: name)
        self.before = self._counts()

    def _counts(self) -> list[float]:
        return [counted(what, self.feed) for what in ("received", "duplicate")]

    def take(self, raws: Sequence[bytes]) -> tuple[Any, ...]:
        """What became of these frames."""
        told = []
        for n, raw in enumerate(raws):
            told.append((self.intake.frame(raw, RECEIVED + n * 10**6), dict(self.intake.last)))
        passed = [now - then for now, then in zip(self._counts(), self.before, strict=True)]
        return told, self.log.records, self.log.letters, self.intake.newest, passed


def _same(raws: Sequence[bytes]) -> None:
    whole, single = Producer("whole", native=True), Producer("single", native=False)
    assert whole.take(raws) == single.take(raws)


@settings(max_examples=400, deadline=None)
@given(st.lists(frames, min_size=1, max_size=4), st.lists(st.integers(0, 3), max_size=3))
def test_any_frames_become_what_they_become_message_by_message(
    messages: list[list[Any]], again: list[int]
) -> None:
    """Records, dead letters, repeats, counts, newest times and samples."""
    raws = [msgpack.packb(each) for each in messages]
    _same([*raws, *(raws[n % len(raws)] for n in again)])


@settings(max_examples=300, deadline=None)
@given(st.lists(trades | quotes, min_size=1, max_size=3), st.data())
def test_spoiled_bytes_are_read_alike(messages: list[Any], data: st.DataObject) -> None:
    """A broken frame must cost the same messages, and read nothing behind its end."""
    raw = bytearray(msgpack.packb(messages))
    for _ in range(data.draw(st.integers(0, 3))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    _same([bytes(raw[: data.draw(st.integers(0, len(raw)))])])


def _encoder() -> Encoder:
    encoder = Encoder(CODEC, Window(), Bars(), owner_epoch=3)
    encoder.frame(RECEIVED)
    return encoder


def test_ordinary_frames_are_taken_whole() -> None:
    """Otherwise all above compares one way with itself."""
    encoder = _encoder()
    rng, messages = random.Random(5), []
    for n in range(300):
        cents = rng.randrange(1, 10**7)
        messages.append(TRADE | {"i": n, "p": cents / 10_000, "s": rng.choice((1, 100, 70_000))})
        messages.append(QUOTE | {"bp": cents / 100, "ap": float(cents), "as": rng.randrange(10**6)})
    found = encoder.whole(msgpack.packb(messages))
    assert found is not None
    assert len(found) == 600
    kinds = [kind for kind, _, value in found.records() if value is not None]
    assert kinds == ["t", "q"] * 300
    for odd in ({"c": ["ü"]}, {"p": 1}, {"S": ""}, {"new": 1}, {"s": -1}, {"p": math.inf}):
        assert encoder.whole(msgpack.packb([TRADE | odd])) is None, odd
    assert encoder.whole(b"\x90") is None


def _shown(price: float) -> bytes | None:
    """The event id of a quote at this price; None: the frame is left to Python."""
    found = _encoder().whole(msgpack.packb([QUOTE | {"bp": price}]))
    if found is None:
        return None
    ((_, _, value),) = found.records()
    assert value is not None
    return value[-event_id.SIZE :]


def _wanted(price: float) -> bytes:
    return event_id.quote_id("AAPL", NS + 123_456_789, "V", price, 1, "P", 13.58, 2, ["R"], "C", 0)


def mutations(seed: int, count: int) -> int:
    """Read spoiled frames; returns how many were taken whole nevertheless."""
    rng, encoder, taken = random.Random(seed), _encoder(), 0
    for n in range(count):
        messages = [rng.choice((TRADE | {"s": n}, QUOTE | {"bs": n})) for _ in range(rng.randrange(1, 9))]
        raw = bytearray(msgpack.packb(messages))
        for _ in range(rng.randrange(4)):
            raw[rng.randrange(len(raw))] = rng.randrange(256)
        found = encoder.whole(bytes(raw[: rng.randrange(len(raw) + 1)] if rng.random() < 0.3 else raw))
        taken += found is not None and len(list(found.records())) > 0
    return taken


def test_some_spoiled_frames_are_ordinary_all_the_same() -> None:
    """Or a check under a sanitizer (test_columns_sanitized.py) would see nothing but refusals."""
    assert 20 < mutations(1, 200) < 180


@settings(max_examples=500, deadline=None)
@given(st.integers(-(10**14), 10**14), st.integers(0, 9))
def test_a_decimal_price_enters_an_id_as_python_shows_it(digits: int, places: int) -> None:
    """Or the same quote from the history would be another event."""
    price = digits / 10**places
    assert _shown(price) == (None if 0 < abs(price) < 1e-4 else _wanted(price))


@settings(max_examples=500, deadline=None)
@given(
    st.floats(allow_nan=False, allow_infinity=False) | st.floats(1e-5, 1e16) | st.floats(0, 1000, width=32)
)
def test_any_other_price_enters_as_python_shows_it_or_is_left_to_python(price: float) -> None:
    """A last digit that differs is another event."""
    assert _shown(price) in (None, _wanted(price))


@given(st.binary(max_size=240))
def test_its_hash_is_xxh3(data: bytes) -> None:
    """An id that only this producer makes is found by nobody else."""
    loaded, digest = library.load(), ctypes.c_uint64()
    assert loaded is not None
    assert loaded.tidewire_xxh3(data, ctypes.c_int64(len(data)), ctypes.byref(digest))
    assert digest.value == xxhash.xxh3_64_intdigest(data)


@pytest.mark.parametrize("size", range(241))
def test_its_hash_is_xxh3_at_every_length(size: int) -> None:
    """Each length takes a way of its own."""
    test_its_hash_is_xxh3.hypothesis.inner_test(random.Random(size).randbytes(size))  # type: ignore[attr-defined]


def test_texts_too_long_for_it_are_left_to_python() -> None:
    """The hash of longer ones is another algorithm."""
    raws = [msgpack.packb([QUOTE | {"c": ["x" * 200], "S": "S" * 60}])]
    assert _encoder().whole(raws[0]) is None
    _same(raws)


def test_without_the_library_frames_are_read_message_by_message(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that it was not built for must lose nothing but time."""
    monkeypatch.setattr(whole_frames, "load", lambda: None)
    assert _encoder().whole(msgpack.packb([TRADE])) is None
    _same([msgpack.packb([TRADE, QUOTE])])
