"""The fast writer: one byte that differs from Avro's, and a position or an order is read as another one."""

from __future__ import annotations

from decimal import Decimal
from io import BytesIO
from itertools import islice
from typing import Any

import pytest
from fastavro import parse_schema, schemaless_writer
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import catalogue, examples
from schemas.compiled import Unusual, compiled, write_long
from schemas.decimals import Decimals

LONGS = {"type": "record", "name": "L", "fields": [{"name": "n", "type": "long"}]}
EVERY = {
    "type": "record",
    "name": "Every",
    "fields": [
        {"name": "text", "type": ["null", "string"]},
        {"name": "count", "type": "int"},
        {"name": "price", "type": "double"},
        {"name": "halted", "type": "boolean"},
        {"name": "id", "type": "bytes"},
        {"name": "amount", "type": {"type": "bytes", "logicalType": "decimal", "precision": 38, "scale": 18}},
    ],
}
GOOD: dict[str, Any] = {
    "text": None,
    "count": 1,
    "price": 1.0,
    "halted": False,
    "id": b"",
    "amount": Decimal(1),
}


def _by_fastavro(schema: dict[str, Any], record: Any) -> bytes:
    decimals = Decimals(schema)
    buffer = BytesIO()
    plain = decimals.lower(record)
    schemaless_writer(buffer, parse_schema(decimals.plain), plain, strict_allow_default=True)
    return buffer.getvalue()


@pytest.mark.parametrize("stem", catalogue.stems())
def test_every_schema_is_written_as_fastavro_writes_it(stem: str) -> None:
    """All that goes through the codec: orders, fills, positions, news."""
    schema = catalogue.schema(stem)
    write = compiled(schema)
    assert write is not None, "no schema of the catalogue takes the slow way"
    for record in islice(examples.records(schema), 60):
        assert write(record) == _by_fastavro(schema, record)


@given(st.integers(-(1 << 63), (1 << 63) - 1) | st.integers(1_300_000_000 * 10**9, 4_000_000_000 * 10**9))
@settings(max_examples=300)
def test_every_long_is_written_as_fastavro_writes_it(value: int) -> None:
    """Times in ns take a way of their own."""
    assert write_long(value) == _by_fastavro(LONGS, {"n": value})


@given(st.decimals(allow_nan=False, allow_infinity=False, places=18, min_value=-(10**19), max_value=10**19))
@settings(max_examples=200)
def test_every_amount_is_written_as_fastavro_writes_it(value: Decimal) -> None:
    """Also the second time, when it is kept ready."""
    write = compiled(EVERY)
    assert write is not None
    record = {**GOOD, "amount": value}
    assert write(record) == write(record) == _by_fastavro(EVERY, record)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("text", 1),
        ("text", b"bytes"),
        ("text", "\ud800"),
        ("count", 1.0),
        ("count", True),
        ("count", 1 << 31),
        ("count", None),
        ("price", 1),
        ("price", "1"),
        ("halted", 1),
        ("id", "text"),
        ("amount", 1),
        ("amount", True),
        ("amount", 1.0),
        ("amount", Decimal("1e-19")),
        ("amount", Decimal("1e20")),
        ("amount", Decimal("NaN")),
        ("amount", Decimal("sNaN")),
        ("amount", Decimal("Infinity")),
    ],
)
def test_what_is_not_exactly_of_its_type_goes_another_way(field: str, value: object) -> None:
    """A quantity of True, cut to 1 in silence, is an order of one share; also when 1 is kept ready."""
    write = compiled(EVERY)
    assert write is not None
    assert write(GOOD)
    with pytest.raises((Unusual, ValueError, TypeError, OverflowError, ArithmeticError)):
        write({**GOOD, field: value})


def test_a_field_too_few_or_too_many_goes_another_way() -> None:
    """The general writer knows defaults, and refuses what is unknown."""
    write = compiled(EVERY)
    assert write is not None
    with pytest.raises(Unusual):
        write({**GOOD, "new": 1})
    with pytest.raises(KeyError):
        write({**{k: v for k, v in GOOD.items() if k != "id"}, "new": 1})


def test_a_type_that_is_not_known_is_left_to_fastavro() -> None:
    """A map, added to a schema some day, must not be written wrongly."""
    kind: dict[str, Any] = {"type": "map", "values": "long"}
    assert compiled({"type": "record", "name": "M", "fields": [{"name": "m", "type": kind}]}) is None
    union = ["null", "long", "string"]
    assert compiled({"type": "record", "name": "U", "fields": [{"name": "u", "type": union}]}) is None
