"""Without these a backfill through pages would miss or repeat rows."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.paging import Token, decode, page


class Rows:
    def __init__(self, times: list[int]) -> None:
        self.keys = sorted((t, n) for n, t in enumerate(times))

    def __len__(self) -> int:
        return len(self.keys)

    def key(self, index: int) -> tuple[int, int]:
        return self.keys[index]


@given(
    st.dictionaries(st.sampled_from("ABCD"), st.lists(st.integers(0, 5), max_size=12), min_size=1),
    st.integers(1, 15),
    st.booleans(),
)
def test_pages_give_everything_exactly_once_in_order(
    times: dict[str, list[int]], limit: int, descending: bool
) -> None:
    rows = {symbol: Rows(t) for symbol, t in times.items()}
    found: list[tuple[str, tuple[int, int]]] = []
    token: Token | None = None
    while True:
        got, token = page(list(rows), rows.__getitem__, limit, token, descending=descending)
        assert len(got) == limit or token is None
        found += [(symbol, rows[symbol].key(at)) for symbol, at in got]
        if token is None:
            break
        assert decode(token.encode()) == token
    step = -1 if descending else 1
    assert found == [(symbol, key) for symbol in sorted(rows) for key in rows[symbol].keys[::step]]


def test_rows_that_came_behind_the_token_come_on_a_later_page() -> None:
    rows = Rows([1, 2])
    _, token = page(["A"], lambda _: rows, 1)
    rows.keys.append((3, 2))
    got, _ = page(["A"], lambda _: rows, 9, token)
    assert [at for _, at in got] == [1, 2]


@pytest.mark.parametrize("text", ["", "x", "QXw=", "QXwxfHh8", "é"])
def test_a_foreign_token_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="page_token"):
        decode(text)
