"""Crypto trades, quotes and bars in the log must be what Alpaca sent, each once, restart or not."""

from __future__ import annotations

import math
from collections import Counter
from contextlib import suppress
from typing import Any

import msgpack
from hypothesis import given, settings
from hypothesis import strategies as st

from producers.channel import Encoder
from producers.crypto import CryptoEncoder
from producers.intake import Intake
from producers.normalize import EARLIEST_NS, LATEST_NS
from schemas import event_id
from schemas.codec import load_codec
from tests.unit.producer_memory import Memory, counted, remembered
from tidewire import config
from tidewire.errors import RecordError
from tidewire.metrics import ORDER_BOOK_ODDITIES

CODEC = load_codec(config.load(_env_file=None))
RECEIVED, EPOCH = 1_763_740_801_000_000_000, 1_763_740_000
TS = 1_763_740_800_000_000_000

pairs = st.sampled_from(["BTC/USD", "ETH/USD", "Ü/USD"]) | st.text(max_size=3)
numbers = (
    st.sampled_from([0.0, -0.0, 1.5, 29.205707815, 71856, 2**53 + 1, -1.0, True, None, "1"]) | st.floats()
)
ids = st.sampled_from([0, 3447222699101865076, 2**63, True, 1.5]) | st.integers()
times = st.integers(TS, TS + 3) | st.sampled_from([0, EARLIEST_NS, LATEST_NS, 1.5e18])
odd: st.SearchStrategy[Any] = st.sampled_from([None, 1, 1.5, "x", b"\xff", True, [], {}, "\udc80"])


def _messages(fields: dict[str, st.SearchStrategy[Any]]) -> st.SearchStrategy[dict[str, Any]]:
    whole = st.fixed_dictionaries(fields)
    spoiled = st.builds(lambda m, k, v: {**m, k: v}, whole, st.sampled_from([*fields, "new"]), odd)
    short = st.builds(lambda m, k: {f: v for f, v in m.items() if f != k}, whole, st.sampled_from([*fields]))
    return whole | whole | spoiled | short


trades = _messages({"S": pairs, "t": times, "p": numbers, "s": numbers, "i": ids,
                    "tks": st.sampled_from(["B", "S", "-", "X"])}).map(lambda m: {"T": "t", **m})  # fmt: skip
quotes = _messages({"S": pairs, "t": times, **dict.fromkeys(("bp", "bs", "ap", "as"), numbers)}).map(
    lambda m: {"T": "q", **m}
)
bars = st.builds(lambda kind, m: {"T": kind, **m}, st.sampled_from("bud"),
    _messages({"S": pairs, "t": times, "n": ids, **dict.fromkeys(("o", "h", "l", "c", "v", "vw"), numbers)}),
)  # fmt: skip

TRADE = {"T": "t", "S": "AVAX/USD", "p": 47.299, "s": 29.205707815, "t": TS, "i": 3447222699101865076,
         "tks": "S"}  # fmt: skip
QUOTE = {"T": "q", "S": "BAT/USD", "bp": 0.35718, "bs": 13445.46, "ap": 0.3581, "as": 13561.902, "t": TS}
BAR = {"T": "b", "S": "BTC/USD", "o": 71856.1435, "h": 71856.1435, "l": 71856.1435, "c": 71856.1435, "v": 0,
       "t": TS, "n": 0, "vw": 0}  # fmt: skip


def _encoder() -> CryptoEncoder:
    encoder = CryptoEncoder(CODEC, owner_epoch=EPOCH)
    encoder.frame(RECEIVED)
    return encoder


# A reading of the messages of its own: what is a record, and which one.


def _number(value: Any, least: float = -math.inf) -> bool:
    if type(value) is int:
        return abs(value) <= 2**53 and value >= least
    return type(value) is float and math.isfinite(value) and value >= least


def _good(m: dict[str, Any], signed: str, amounts: str) -> bool:
    return (
        type(m.get("S")) is str and 1 <= len(m["S"]) <= 64 and "\udc80" not in m["S"]
        and type(m.get("t")) is int and EARLIEST_NS <= m["t"] < LATEST_NS
        and all(_number(m.get(key)) for key in signed.split())
        and all(_number(m.get(key), 0) for key in amounts.split())
    )  # fmt: skip


def _expected(m: dict[str, Any], stem: str, event: bytes, fields: dict[str, Any]) -> tuple[bytes, bytes]:
    record = {"symbol": m["S"], "ts": m["t"], **fields, "received_ts": RECEIVED, "source": "ws",
              "owner_epoch": EPOCH, "event_id": event}  # fmt: skip
    return m["S"].encode(), CODEC.encode(stem, record)


def _extra(m: dict[str, Any]) -> bool:
    return "new" in m


@given(st.lists(trades, min_size=1, max_size=6))
@settings(max_examples=50)
def test_a_trade_is_written_once_and_as_the_codec_writes_it(messages: list[dict[str, Any]]) -> None:
    """A wrong byte makes every reader of the topic stumble; a repeat counts volume twice."""
    encoder, seen = _encoder(), set()
    for m in messages * 2:
        identified = type(m.get("i")) is int and abs(m["i"]) < 2**63 and m.get("tks", "-") in ("B", "S", "-")
        if not (_good(m, "p", "s") and identified) or _extra(m):
            _tried(encoder.trade, m)
            continue
        event = event_id.crypto_trade_id(m["S"], m["i"], m["t"])
        fields = {"id": m["i"], "price": float(m["p"]), "size": float(m["s"]),
                  "taker_side": m.get("tks", "-"), "extra": None}  # fmt: skip
        expected = None if event in seen else _expected(m, "crypto_trade", event, fields)
        seen.add(event)
        assert encoder.trade(m) == expected


@given(st.lists(quotes, min_size=1, max_size=6))
@settings(max_examples=50)
def test_a_quote_is_written_as_the_codec_writes_it_and_a_repeat_under_the_next_ordinal(
    messages: list[dict[str, Any]],
) -> None:
    """Equal quotes are events of their own: with one id for both, PostgreSQL would keep one."""
    encoder, counts = _encoder(), Counter[bytes]()
    for m in messages * 3:
        if not _good(m, "bp ap", "bs as") or _extra(m):
            _tried(encoder.quote, m)
            continue
        content = (m["S"], m["t"], float(m["bp"]), float(m["bs"]), float(m["ap"]), float(m["as"]))
        first = event_id.crypto_quote_id(*content, 0)
        event = event_id.crypto_quote_id(*content, counts[first])
        counts[first] += 1
        names = ("bid_price", "bid_size", "ask_price", "ask_size")
        fields = {**dict(zip(names, content[2:], strict=True)), "extra": None}
        assert encoder.quote(m) == _expected(m, "crypto_quote", event, fields)


def _tried(method: Any, message: dict[str, Any]) -> None:
    """Bad messages are refused, never by another error; unknown fields are kept."""
    with suppress(RecordError):
        record = method(message)
        assert record is None or CODEC.decode(record[1])[1]["extra"] is not None


def test_bars_made_of_midpoints_and_their_revisions() -> None:
    """A bar without trades is real in crypto; a late correction must not look like the bar itself."""
    encoder = _encoder()
    day = {**BAR, "T": "d", "v": 1.5, "n": 2}
    made = [encoder.bar(m) for m in (BAR, BAR, {**BAR, "T": "u", "v": 0.25}, day, {**day, "v": 2.5})]
    assert made[1] is None
    records = [CODEC.decode(record[1]) for record in made if record is not None]
    assert {stem for stem, _ in records} == {"crypto_bar"}
    assert [(r["interval"], r["revision"], r["volume"]) for _, r in records] == [
        ("minute", 0, 0.0), ("minute", 1, 0.25), ("day", 0, 1.5), ("day", 1, 2.5),
    ]  # fmt: skip
    assert records[1][1]["event_id"] == event_id.crypto_bar_id("BTC/USD", "minute", TS, 1)


def test_the_samples_of_alpacas_documents_with_a_field_that_it_may_add() -> None:
    """What Alpaca adds tomorrow must not be lost before the schema knows it."""
    record = _encoder().trade({**TRADE, "r": TS, "new": {"b": [1], "a": b"\0"}})
    assert record is not None
    decoded = CODEC.decode(record[1])[1]
    assert decoded["extra"] == f'{{"new":{{"a":{{"hex":"00"}},"b":[1]}},"r":{TS}}}'
    assert (decoded["taker_side"], decoded["size"]) == ("S", 29.205707815)


@given(st.lists(trades | quotes | bars, max_size=8), st.lists(trades | quotes | bars, min_size=1, max_size=4))
@settings(max_examples=50)
def test_a_restart_goes_on_as_if_there_had_been_none(
    before: list[dict[str, Any]], after: list[dict[str, Any]]
) -> None:
    """Otherwise a restart writes trades again, or two quotes under one id.

    `after` is never empty: a frame that comes again as it was is known only to who saw it (see repeats.py).
    """
    first, uninterrupted = _intake_of(_encoder()), _intake_of(_encoder())
    for log, intake in (first, uninterrupted):
        intake.frame(msgpack.packb([_wire(m) for m in before]), RECEIVED)
        assert len(log.records) + len(log.letters) <= len(before)
    restarted = _encoder()
    remembered(CODEC, restarted, first[0])
    log, intake = _intake_of(restarted)
    frame = msgpack.packb([_wire(m) for m in (before + after)])
    intake.frame(frame, RECEIVED)
    start = len(uninterrupted[0].records)
    uninterrupted[1].frame(frame, RECEIVED)
    assert log.records == uninterrupted[0].records[start:]


def _intake_of(encoder: Encoder) -> tuple[Memory, Intake]:
    memory = Memory()
    return memory, Intake("crypto:test", encoder, memory, lambda topic: topic)


def _wire(message: dict[str, Any]) -> dict[str, Any]:
    fit = {k: v for k, v in message.items() if type(v) is not int or -(2**63) <= v < 2**64}
    if type(fit.get("S")) is str:
        fit["S"] = fit["S"].encode("utf-8", "replace").decode()
    return {k: v for k, v in fit.items() if v != "\udc80"}


def test_what_is_no_record_keeps_its_bytes_and_everything_is_counted() -> None:
    """The proof of completeness: received is published and duplicates and dead letters."""
    memory, intake = _intake_of(_encoder())
    new = {"T": "k", "S": "MKR/USD", "t": TS}
    sent = [TRADE, TRADE, {**TRADE, "i": "x"}, QUOTE, QUOTE, BAR, BAR, new, 7]
    before = counted("received", "crypto:test"), counted("duplicate", "crypto:test")
    count, control = intake.frame(msgpack.packb([*sent, {"T": "success", "msg": "x"}]), RECEIVED)
    assert (count, len(control)) == (9, 1)
    assert Counter(topic for topic, *_ in memory.records) == {
        "alpaca.crypto.trades": 1, "alpaca.crypto.quotes": 2, "alpaca.crypto.bars": 1,
    }  # fmt: skip
    assert [(letter.topic, letter.value) for letter in memory.letters] == [
        ("alpaca.crypto.trades", msgpack.packb(sent[2])),
        ("alpaca.crypto.frames", msgpack.packb(new)),
        ("alpaca.crypto.frames", msgpack.packb(7)),
    ]
    assert counted("received", "crypto:test") - before[0] == 9
    assert counted("duplicate", "crypto:test") - before[1] == 2


# -- order books

BOOK = {"T": "o", "S": "MKR/USD", "t": TS, "b": [], "a": [{"p": 2614.587, "s": 12.5308}]}
levels = st.lists(st.fixed_dictionaries({"p": numbers, "s": numbers}), max_size=3) | odd
books = _messages({"S": pairs, "t": times, "b": levels, "a": levels, "r": st.booleans() | odd}).map(
    lambda m: {"T": "o", **m}
)


def _side(value: Any) -> tuple[list[float], list[float]] | None:
    """Prices and sizes of a side; None: it is none."""
    if value is None:
        return [], []
    if type(value) is not list or not all(_number(x.get("p")) and _number(x.get("s"), 0) for x in value):
        return None
    return [float(level["p"]) for level in value], [float(level["s"]) for level in value]


@given(st.lists(books, min_size=1, max_size=4))
@settings(max_examples=25, deadline=None)
def test_an_order_book_is_written_as_sent_and_a_repeat_under_the_next_ordinal(
    messages: list[dict[str, Any]],
) -> None:
    """A level lost or out of its place makes every later book of the pair wrong."""
    encoder, counts = _encoder(), Counter[bytes]()
    encode = encoder.channels()["o"].encode
    for m in messages * 2:
        bids, asks = _side(m.get("b")), _side(m.get("a"))
        reset = m.get("r")
        known = reset is None or type(reset) is bool
        if not (_good(m, "", "") and known) or bids is None or asks is None or _extra(m):
            _tried(encode, m)
            continue
        sides = tuple(zip(*bids, strict=True)), tuple(zip(*asks, strict=True))
        first = event_id.crypto_orderbook_id(m["S"], m["t"], bool(reset), *sides, 0)
        event = event_id.crypto_orderbook_id(m["S"], m["t"], bool(reset), *sides, counts[first])
        counts[first] += 1
        fields = {"reset": bool(reset), "bid_prices": bids[0], "bid_sizes": bids[1], "ask_prices": asks[0],
                  "ask_sizes": asks[1], "extra": None}  # fmt: skip
        assert encode(m) == _expected(m, "crypto_orderbook", event, fields)


def test_odd_books_are_published_and_counted() -> None:
    """A book that Alpaca sends crossed is still what Alpaca sent; that it was odd must be seen."""
    encoder = _encoder()
    encode = encoder.channels()["o"].encode
    names = ("delta_first", "crossed", "unsorted")
    before = [_oddities(name) for name in names]
    unsorted = {"b": [{"p": 1.0, "s": 1.0}, {"p": 2.0, "s": 1.0}], "a": [{"p": 3.0, "s": 1.0}], "r": True}
    crossing = {"b": [{"p": 3.5, "s": 1.0}], "a": []}
    sent = [BOOK, {**BOOK, **unsorted}, {**BOOK, **crossing}, {**BOOK, **unsorted, "b": []}]
    assert all(encode(m) is not None for m in sent)
    assert [_oddities(name) - was for name, was in zip(names, before, strict=True)] == [1, 1, 1]


def _oddities(name: str) -> float:
    return float(ORDER_BOOK_ODDITIES.labels(name)._value.get())


def test_what_a_level_says_beside_price_and_size_is_kept() -> None:
    """Alpaca may add a field to levels one day; until the schema has it, nothing of it is lost."""
    encoder = _encoder()
    made = encoder.channels()["o"].encode({**BOOK, "a": [{"p": 1.5, "s": 2.0, "n": 3}], "u": 7})
    assert made is not None
    record = CODEC.decode(made[1])[1]
    assert (record["ask_prices"], record["ask_sizes"]) == ([1.5], [2.0])
    assert record["extra"] == '{"a":[{"n":3,"p":1.5,"s":2.0}],"u":7}'
