"""If these fail, a symbol that is newly held gets no marks, or each mark is decoded by every processor."""

from __future__ import annotations

from decimal import Decimal
from itertools import islice

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import catalogue, examples
from schemas.codec import Codec, load_codec
from schemas.unchanged import Unchanged
from tidewire import config


@pytest.fixture(scope="module")
def codec() -> Codec:
    return load_codec(config.load())


@settings(max_examples=30)
@given(st.lists(st.tuples(st.integers(1, 3), st.integers(-2, 2), st.integers(0, 5)), min_size=1))
def test_it_says_unchanged_exactly_when_epoch_and_quantity_are(moves: list[tuple[int, int, int]]) -> None:
    codec = load_codec(config.load())
    base = next(iter(examples.records(dict(catalogue.schema("portfolio_position")))))
    unchanged, before = Unchanged(codec), None
    for epoch, quantity, price in moves:
        record = base | {
            "epoch": epoch,
            "quantity": Decimal(quantity),
            "mark_price": Decimal(price),
            "ts": price,
        }
        assert unchanged(b"k", codec.encode("portfolio_position", record)) == (before == (epoch, quantity))
        before = epoch, quantity


def test_any_position_can_be_told_and_other_bytes_are_looked_at(codec: Codec) -> None:
    unchanged = Unchanged(codec)
    schema = dict(catalogue.schema("portfolio_position"))
    for number, record in enumerate(islice(examples.records(schema), 50)):
        value, key = codec.encode("portfolio_position", record), str(number).encode()
        assert not unchanged(key, value)
        assert unchanged(key, value)
        assert not unchanged(key, value[:9])
        assert not unchanged(key, None)
        assert not unchanged(key, value)
