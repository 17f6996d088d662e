"""The fast encoder must write what the codec writes, byte for byte, or every reader of the topics decodes
garbage.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from producers import normalize
from producers.encoder import Encoder, avro_texts, quote_event, unsigned
from producers.entrance import Bars, Window
from schemas import event_id
from schemas.codec import Codec, load_codec
from tidewire import config
from tidewire.errors import RecordError
from tidewire.varints import varint

CODEC: Codec = load_codec(config.load(_env_file=None))
RECEIVED, EPOCH = 1_763_740_000_123_456_789, 1_763_740_000
TS = 1_381_152_600_000_000_000

texts = st.sampled_from(["", "A", "V", "@", " ", "N", "ü", "Z|,"]) | st.text(max_size=3)
symbols = st.sampled_from(["AAPL", "BRK.B", "Ü"]) | st.text(max_size=5)
sizes = st.integers(0, 20_000) | st.sampled_from([8191, 8192, 2**31, 2**48, 2**49, 2**63 - 1]) | st.integers()
prices = st.floats() | st.sampled_from([0.0, -0.0, 1, 13.57, 2**53, 2**53 + 1, True, None, "1"])
times = st.integers(TS, TS + 10**12) | st.sampled_from(
    [0, normalize.EARLIEST_NS, normalize.LATEST_NS, 1.5e18, True]
)
conditions = st.lists(texts, max_size=3) | st.none() | st.just("@I") | st.just([1]) | st.just({"a": 1})
odd: st.SearchStrategy[Any] = st.sampled_from([None, 1, 1.5, "x", b"\xff", True, [], {}, "\udc80"])


def _messages(fields: dict[str, st.SearchStrategy[Any]]) -> st.SearchStrategy[dict[str, Any]]:
    """Mostly right messages; sometimes a field is missing, odd, or unknown."""
    whole = st.fixed_dictionaries(fields)
    spoiled = st.builds(lambda m, k, v: {**m, k: v}, whole, st.sampled_from([*fields, "r", "new"]), odd)
    short = st.builds(lambda m, k: {f: v for f, v in m.items() if f != k}, whole, st.sampled_from([*fields]))
    return whole | whole | spoiled | short


trades = _messages(
    {"T": st.just("t"), "S": symbols, "t": times, "i": sizes, "x": texts, "p": prices, "s": sizes,
     "c": conditions, "z": texts}
)  # fmt: skip
quotes = _messages(
    {"T": st.just("q"), "S": symbols, "t": times, "bx": texts, "bp": prices, "bs": sizes, "ax": texts,
     "ap": prices, "as": sizes, "c": conditions, "z": texts}
)  # fmt: skip

TRADE = {"T": "t", "S": "A", "t": TS, "i": 1, "x": "V", "p": 1.5, "s": 9, "c": ["@"], "z": "C"}
QUOTE = {"T": "q", "S": "A", "t": TS, "bx": "V", "bp": 1.5, "bs": 9, "ax": "", "ap": -0.0, "as": 0, "c": [],
         "z": "C"}  # fmt: skip


def _encoder() -> Encoder:
    encoder = Encoder(CODEC, Window(), Bars(), owner_epoch=EPOCH)
    encoder.frame(RECEIVED)
    return encoder


def _plain(stem: str, content: dict[str, Any], event: bytes) -> tuple[bytes, bytes]:
    tail = {"received_ts": RECEIVED, "source": "ws", "owner_epoch": EPOCH, "event_id": event}
    return content["symbol"].encode(), CODEC.encode(stem, {**content, **tail})


def _plain_trade(message: dict[str, Any]) -> tuple[bytes, bytes] | str:
    try:
        c = normalize.trade(message)
    except RecordError as error:
        return error.reason
    return _plain("stock_trade", c, event_id.trade_id(c["symbol"], c["exchange"], c["id"], c["ts"]))


def _plain_quote(message: dict[str, Any], ordinal: int) -> tuple[bytes, bytes] | str:
    try:
        c = normalize.quote(message)
    except RecordError as error:
        return error.reason
    return _plain("stock_quote", c, quote_event(c, ordinal))


def _fast(method: Any, message: dict[str, Any]) -> Any:
    try:
        return method(message)
    except RecordError as error:
        return error.reason


@given(st.lists(trades, min_size=1, max_size=6))
@example([TRADE, {**TRADE, "i": 2, "p": float("nan")}, {**TRADE, "i": True}, {**TRADE, "i": 3, "s": -1}])
@settings(max_examples=150, deadline=None)
def test_a_trade_is_encoded_as_the_codec_does(messages: list[dict[str, Any]]) -> None:
    encoder, seen = _encoder(), set()
    for message in messages * 2:  # the second time by the tables that the first time filled
        plain = _plain_trade(message)
        expected = None if not isinstance(plain, str) and plain[1][-8:] in seen else plain
        if not isinstance(plain, str):
            seen.add(plain[1][-8:])
        assert _fast(encoder.trade, message) == expected


@given(st.lists(quotes, min_size=1, max_size=6))
@example([QUOTE, {**QUOTE, "ap": 0.0}, {**QUOTE, "ap": 1}, {**QUOTE, "ap": 1.0}, {**QUOTE, "ap": True}])
@settings(max_examples=150, deadline=None)
def test_a_quote_is_encoded_as_the_codec_does_and_a_repeat_gets_the_next_ordinal(
    messages: list[dict[str, Any]],
) -> None:
    encoder = _encoder()
    counts: dict[bytes, int] = {}
    for message in messages * 3:
        first = _plain_quote(message, 0)
        if isinstance(first, str):
            assert _fast(encoder.quote, message) == first
            continue
        ordinal = counts.get(first[1], 0)
        counts[first[1]] = ordinal + 1
        assert _fast(encoder.quote, message) == _plain_quote(message, ordinal)


@given(st.integers(-(2**63), 2**63 - 1))
def test_a_long_of_any_size_is_written_as_avro_writes_it(value: int) -> None:
    expected, rest = b"", (value << 1) ^ (value >> 63)
    while rest > 127:
        expected, rest = expected + bytes([rest % 128 + 128]), rest // 128
    assert varint(value) == expected + bytes([rest])
    assert _encoder()._long(value) == varint(value)


@given(st.integers(0, 2**40))
def test_the_upper_groups_of_a_long_are_plain(value: int) -> None:
    assert unsigned(value) == varint(value // 2 if value % 2 == 0 else -(value // 2) - 1)


def test_a_record_of_every_kind_decodes_to_what_alpaca_sent() -> None:
    encoder = _encoder()
    bar = {"T": "b", "S": "SPY", "o": 1.0, "h": 2, "l": 0.5, "c": 1.5, "v": 10, "n": 3, "vw": 1.25, "t": TS}
    fix = {"T": "c", "S": "EEM", "x": "M", "oi": 1, "op": 39.1, "os": 4, "oc": [" "], "ci": 2, "cp": 39.2,
           "cs": 4, "cc": [" ", "7"], "z": "B", "t": TS}  # fmt: skip
    gone = {"T": "x", "S": "GOOGL", "i": 465, "x": "D", "p": 105.31, "s": 300, "a": "C", "z": "C", "t": TS}
    made = [encoder.trade(TRADE), encoder.quote(QUOTE), encoder.bar(bar), encoder.correction(fix),
            encoder.correction(gone)]  # fmt: skip
    decoded = [CODEC.decode(record[1]) for record in made if record is not None]
    assert [stem for stem, _ in decoded] == [
        "stock_trade", "stock_quote", "stock_bar", "stock_correction", "stock_correction",
    ]  # fmt: skip
    assert decoded[2][1]["high"] == 2.0
    assert decoded[2][1]["interval"] == "minute"
    assert (decoded[3][1]["kind"], decoded[3][1]["corrected_id"]) == ("correction", 2)
    assert (decoded[4][1]["kind"], decoded[4][1]["original_id"]) == ("cancel", 465)
    assert encoder.correction(gone) is None  # a repeat


def test_a_field_that_alpaca_adds_is_kept_as_json() -> None:
    encoder = _encoder()
    encoder.trade(TRADE)  # fills the tables: the unknown field must not be lost on the fast way either
    record = encoder.trade({**TRADE, "i": 2, "r": TS + 1, "new": {"b": 1, "a": b"\x00"}})
    assert record is not None
    assert CODEC.decode(record[1])[1]["extra"] == f'{{"new":{{"a":{{"hex":"00"}},"b":1}},"r":{TS + 1}}}'


def test_the_tables_do_not_grow_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("producers.encoder._TABLE_LIMIT", 10)
    encoder = _encoder()
    for number in range(100):
        message = {**QUOTE, "S": f"S{number}", "bp": number / 7, "bx": str(number), "c": [str(number)]}
        assert encoder.quote(message) == _plain_quote(message, 0)
    tables = (encoder._quote_heads, encoder._texts, encoder._prices, encoder._conditions, encoder._times)
    assert max(map(len, tables)) <= 10


def test_a_long_array_of_conditions_is_one_block() -> None:
    assert avro_texts([]) == b"\x00"
    assert avro_texts(["A", ""]) == b"\x04\x02A\x00\x00"
