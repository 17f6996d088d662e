"""fastavro reads small batches, Polars large ones: if they disagreed, a replay would give other features."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from processors.columns.few import FewReader
from schemas import examples
from schemas.catalogue import schema
from schemas.codec import Version
from tests.unit.columns_batches import block, encode, record
from tidewire.columns import Decoder

STEMS = ["stock_trade", "stock_quote", "crypto_trade", "crypto_quote"]
FEW = {stem: FewReader(dict(schema(stem)), 7) for stem in STEMS}
COLUMNS = {stem: Decoder([Version(7, stem, schema(stem)), Version(6, stem, schema(stem))]) for stem in STEMS}


def _agree(stem: str, key: bytes, value: bytes) -> bool:
    """Whether the few were read; columns must then say the same."""
    blocks = [block([record(0, key, value)])]
    few, decoded = FEW[stem](blocks), COLUMNS[stem](blocks)
    if few is None:
        return False
    assert repr([found for _, found in few]) == repr(decoded.frame.to_dicts())  # repr: a NaN is not itself
    return True


@settings(max_examples=120)
@given(st.sampled_from(STEMS), st.integers(0, 50), st.data())
def test_what_the_few_take_columns_take_and_with_the_same_values(
    stem: str, seed: int, data: st.DataObject
) -> None:
    """Bytes changed, integers padded, indices negative: never a row here and a refusal there."""
    made = next(examples.records(schema(stem), seed))
    value = bytearray(encode(schema(stem), made, 7))
    for _ in range(data.draw(st.integers(0, 2))):
        at = data.draw(st.integers(5, len(value) - 1))
        value[at : at + data.draw(st.integers(0, 1))] = data.draw(
            st.sampled_from([bytes([value[at] | 128, 0]), b"\1", b"\3", b"\x81\1", b"\x83\1"])
            | st.binary(max_size=2)
        )
    _agree(stem, made["symbol"].encode(), bytes(value))


@pytest.mark.parametrize("stem", STEMS)
def test_ordinary_records_are_read_and_no_others(stem: str) -> None:
    """Other versions, longer integers and negative indices are columns' business."""
    made: dict[str, Any] = next(examples.records(schema(stem))) | {
        "symbol": "A",
        "source": "ws",
        "extra": None,
    }
    value = encode(schema(stem), made, 7)
    assert _agree(stem, b"A", value)
    assert not _agree(stem, b"A", b"\0\0\0\0\6" + value[5:])
    assert not _agree(stem, b"A", value[:5] + b"\x82\0A" + value[7:])  # the length of the symbol in two bytes
    extra = next(i for i in range(len(value)) if _changed(value, i, 2, made | {"extra": "x"}, stem))
    for index in (b"\1", b"\3", b"\x81\1", b"\x83\1"):  # -1, -2, -65 and -66
        assert not _agree(stem, b"A", value[:extra] + index + value[extra + 1 :])
    source = next(i for i in range(len(value)) if _changed(value, i, 1, made | {"source": "rss"}, stem, 4))
    assert not _agree(stem, b"A", value[:source] + b"\1" + value[source + 1 :])


def _changed(value: bytes, at: int, size: int, made: dict[str, Any], stem: str, byte: int = 2) -> bool:
    """Whether the record would have been this one with another byte, and perhaps more, at this place."""
    other = encode(schema(stem), made, 7)
    if size == 1:
        return value[:at] + bytes([byte]) + value[at + 1 :] == other
    return value[:at] + b"\2\2x" + value[at + 1 :] == other
