"""Feature records from C against those from Python: if they differ, a VWAP depends on the machine."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from processors.columns.matrix import Ints
from processors.features import encoding, row, vector
from processors.features.encoding import FeatureEncoder
from schemas.codec import load_codec
from tests.unit.test_features_fold import BASE, DAY, PRICES
from tidewire import config

CODEC = load_codec(config.load(_env_file=None))
STEM = "stock_features"
NATIVE = FeatureEncoder(CODEC)
ANY_PRICE = PRICES | st.floats(0, 1e9, exclude_max=True) | st.sampled_from([0.0, 5e-7, 0.1 + 0.2])
TIMES = st.integers(BASE - DAY, BASE + 2 * DAY)
NOTIONALS = st.integers(0, 2**95 - 1) | st.integers(0, 2**50)


def bits(price: float) -> int:
    return int(np.float64(price).view(np.int64))


def split(notional: int) -> dict[int, int]:
    return {row.NOTIONAL_HIGH: notional >> 32, row.NOTIONAL_LOW: notional & 0xFFFFFFFF}


WORDS = st.builds(
    lambda common, notional, trade, quote: common | split(notional) | trade | quote,
    st.fixed_dictionaries(
        {
            row.TRADES_FOLDED: st.integers(0, 2),
            row.QUOTES_FOLDED: st.integers(0, 2),
            row.SESSION: st.sampled_from([20131006, 20131007]),
            row.TRADE_COUNT: st.integers(0, 2**40),
            row.VOLUME: st.integers(0, 2**45) | st.integers(0, 500),
        }
    ),
    NOTIONALS,
    st.fixed_dictionaries(
        {word: ANY_PRICE.map(bits) for word in (row.HIGH, row.LOW, row.LAST)}
        | {row.LAST_TS: TIMES, row.TRADE_RECEIVED: TIMES, row.TRADE_SOURCE: st.integers(0, 4)}
    ),
    st.fixed_dictionaries(
        {word: ANY_PRICE.map(bits) for word in (row.BID, row.ASK)}
        | {row.QUOTE_TS: TIMES, row.QUOTE_RECEIVED: TIMES, row.QUOTE_SOURCE: st.integers(0, 4)}
    ),
).filter(lambda words: words[row.TRADES_FOLDED] or words[row.QUOTES_FOLDED])
KEYS = st.text(min_size=1, max_size=100).map(str.encode)


def block(rows: list[dict[int, int]]) -> Ints:
    words = np.zeros((len(rows), row.WIDTH), np.int64)
    for number, values in enumerate(rows):
        words[number, list(values)] = list(values.values())
    return words


def in_python(keys: list[bytes], words: Ints) -> list[bytes]:
    return [CODEC.encode(STEM, record) for _, record in vector.read_out(keys, words)]


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(KEYS, WORDS), max_size=6))
def test_every_row_gives_the_bytes_that_python_writes(rows: list[tuple[bytes, dict[int, int]]]) -> None:
    keys, words = [key for key, _ in rows], block([values for _, values in rows])
    assert NATIVE(keys, words) == in_python(keys, words)


@settings(max_examples=400, deadline=None)
@given(NOTIONALS, st.integers(1, 2**43))
@example(2**53 + 1, 1)
@example((2**54 + 1) * 10**6, 10)
@example((2**53 * 2 + 1) * 10**6 + 1, 2)
@example(1, 2**43 - 1)
@example(2**72 - 1, 1)
def test_a_vwap_is_rounded_once(notional: int, volume: int) -> None:
    """Also of a day's notional beyond the whole numbers that a double holds, and of halves."""
    trade = {row.TRADES_FOLDED: 1, row.VOLUME: volume, row.LAST_TS: BASE, row.SESSION: 20131007}
    words = block([trade | split(notional)])
    (value,) = NATIVE([b"AAPL"], words)
    assert CODEC.decode(value)[1]["vwap"] == notional / (volume * 10**6)


def counted(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The rows that are left to Python from now on."""
    left: list[Any] = []
    read_out = vector.read_out

    def counting(keys: Any, words: Any) -> Any:
        left.extend(keys)
        return read_out(keys, words)

    monkeypatch.setattr(vector, "read_out", counting)
    return left


def test_the_rows_of_an_ordinary_day_are_encoded_natively(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the property above would compare Python with itself."""
    assert NATIVE._native is not None, "make setup builds the library"
    left = counted(monkeypatch)
    quote = {row.QUOTES_FOLDED: 3, row.BID: bits(101.23), row.ASK: bits(101.24), row.QUOTE_TS: BASE + 5}
    trade = {row.TRADES_FOLDED: 9, row.LAST: bits(101.23), row.LAST_TS: BASE, row.VOLUME: 90_000_000}
    words = block([quote, trade | split(9 * 10**15), quote | trade | split(9 * 10**15)])
    values = NATIVE([b"A", b"B", b"BRK.B"], words)
    assert left == []
    assert [CODEC.decode(value)[1]["spread"] for value in values] == [0.01, None, 0.01]


def test_what_is_unusual_is_left_to_python_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """An odd price among others: only its record takes the slow way."""
    left = counted(monkeypatch)
    quote = {row.QUOTES_FOLDED: 3, row.BID: bits(101.23), row.ASK: bits(101.24), row.QUOTE_TS: BASE + 5}
    odd = [{row.ASK: bits(0.1 + 0.2)}, {row.QUOTE_TS: BASE + 3 * DAY}]
    words = block([quote, *(quote | one for one in odd), quote])
    keys = [b"A", b"ODD", b"LATE", b"B"]
    values = NATIVE(keys, words)
    assert left == [b"ODD", b"LATE"]
    assert values == in_python(keys, words)


def test_another_schema_is_written_in_python(monkeypatch: pytest.MonkeyPatch) -> None:
    """The C source knows one layout: a field more, and it must not write at all."""
    monkeypatch.setattr(encoding, "_FIELDS", encoding._FIELDS + ", more long")
    assert FeatureEncoder(CODEC)._native is None
