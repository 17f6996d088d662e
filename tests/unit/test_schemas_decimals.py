"""If these fail, money is written that nobody else reads as the same number."""

from __future__ import annotations

import io
from decimal import Decimal
from typing import Any

import fastavro
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import catalogue
from schemas.decimals import Decimals, from_bytes, to_bytes

MONEY = {"type": "bytes", "logicalType": "decimal", "precision": 38, "scale": 18}


def by_fastavro(value: Decimal) -> bytes:
    out = io.BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(MONEY), value)
    return out.getvalue()


@given(st.integers(-(10**38) + 1, 10**38 - 1))
def test_the_bytes_are_fastavros_and_give_the_value_back(unscaled: int) -> None:
    """Foreign consumers read Avro's own decimals."""
    value = Decimal(f"{unscaled}E-18")
    data = to_bytes(value)
    assert by_fastavro(value)[-len(data) :] == data
    assert len(by_fastavro(value)) == len(data) + 1
    assert from_bytes(data) == value


@pytest.mark.parametrize(
    "text", ["1E-19", "1E20", "-1E20", "NaN", "Infinity", "-Infinity", "0.1234567890123456789"]
)
def test_what_does_not_fit_is_refused_and_never_rounded(text: str) -> None:
    with pytest.raises((ValueError, ArithmeticError)):
        to_bytes(Decimal(text))


def test_bytes_of_too_many_digits_are_refused() -> None:
    with pytest.raises(ValueError, match="38 digits"):
        from_bytes((10**38).to_bytes(17, "big"))


@pytest.mark.parametrize("stem", ["trade_update", "account_snapshot", "portfolio_position", "mark"])
def test_a_schema_without_its_decimals_has_the_same_bytes(stem: str) -> None:
    """In lists of legs and positions too."""
    schema = catalogue.schema(stem)
    assert "decimal" in str(schema)
    assert "decimal" not in str(Decimals(schema).plain)


def test_only_decimals_are_money() -> None:
    """A float has already lost what it was; a text may be anything."""
    schema = {"type": "record", "name": "R", "fields": [{"name": "a", "type": ["null", MONEY]}]}
    decimals = Decimals(schema)
    assert decimals.lower({"a": None}) == {"a": None}
    wrong: Any
    for wrong in (1.5, "1.5", 1, b"\x01"):
        with pytest.raises(TypeError, match="a is no Decimal"):
            decimals.lower({"a": wrong})
