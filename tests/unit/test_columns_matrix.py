"""Rows of a matrix: if two keys shared one, or a key's row moved, one symbol's volume would be another's."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from processors.columns.matrix import Matrix

BATCHES = st.lists(
    st.tuples(st.integers(0, 1), st.lists(st.integers(0, 400), min_size=1, max_size=20), st.booleans()),
    max_size=12,
)


def keys_of(numbers: list[int]) -> pl.Series:
    return pl.Series([f"K{number}" for number in numbers], dtype=pl.String)


@settings(max_examples=40)
@given(BATCHES)
def test_each_key_of_a_partition_keeps_its_row_and_rows_are_dense(batches: list[Any]) -> None:
    """Small batches go through a dictionary, large ones through the native library or, where there is none
    or a key is long, through Polars: all give a key the same row.
    """
    matrices, known = (Matrix(1), Matrix(1)), (dict[str, int](), dict[str, int]())
    matrices[1]._native = None
    for which, numbers, large in batches:
        keys = keys_of(numbers * (20 if large else 1))
        if large and numbers[0] % 3 == 0:
            keys = pl.concat([keys, keys_of([1, 2, 3]) + " is no symbol of a stock"], rechunk=False)
        keys = keys[numbers[0] % 2 :]
        rows = matrices[which].rows(keys)
        for key, row in zip(keys.to_list(), rows.tolist(), strict=True):
            assert known[which].setdefault(key, row) == row
        assert sorted(known[which].values()) == list(range(len(matrices[which])))
    for matrix, rows_of in zip(matrices, known, strict=True):
        assert all(
            matrix.find(key) == row and matrix.name(row) == key.encode() for key, row in rows_of.items()
        )
        assert matrix.find("never seen") is None


def test_a_partition_holds_more_keys_than_16_bits_number() -> None:
    """It goes on with wider row numbers; nobody's state is lost or mixed up on the way there and back."""
    count = 70_000
    keys = keys_of(list(range(count)))
    matrix = Matrix(1)
    assert matrix.rows(keys[:65_536]).dtype == np.uint16  # argsort stays a radix sort
    rows = matrix.rows(keys)
    assert rows.dtype == np.uint32
    matrix.put(rows, np.arange(count).reshape(-1, 1))
    again = Matrix(1, matrix.take_changed())
    assert len(again) == count
    assert again.values[again.rows(keys), 0].tolist() == list(range(count))


def test_a_matrix_has_room_for_its_own_keys_only() -> None:
    """With 100,000 keys over the partitions of a process, each would else carry the rows of all of them."""
    first, second = Matrix(8), Matrix(8)
    first.rows(keys_of(list(range(5_000))))
    second.rows(keys_of(list(range(5_000, 5_010))))
    assert len(second) == 10
    assert len(second.values) <= 64
