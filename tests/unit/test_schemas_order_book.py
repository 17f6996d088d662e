"""A wrong book shows a trader prices at which nobody trades."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.order_book import CROSSED, DELTA_FIRST, UNSORTED, OrderBook

prices = st.sampled_from([1.0, 2.0, 2.5, 3.0, 4.0, 61837.64])
sizes = st.sampled_from([0.0, -0.0, 0.5, 12.5308])
sides = st.lists(st.tuples(prices, sizes), max_size=4)
records = st.builds(
    lambda reset, bids, asks, ts: {
        "reset": reset, "ts": ts,
        "bid_prices": [p for p, _ in bids], "bid_sizes": [s for _, s in bids],
        "ask_prices": [p for p, _ in asks], "ask_sizes": [s for _, s in asks],
    },
    st.sampled_from([False, False, True]), sides, sides, st.integers(0, 9),
)  # fmt: skip


@given(st.lists(records, max_size=8))
@settings(max_examples=60, deadline=None)
def test_whole_books_and_changes_leave_what_two_dicts_hold(messages: list[dict[str, Any]]) -> None:
    """Against the most naive book; and whatever is odd is said, each thing once a message, and folded."""
    book, bids, asks, begun = OrderBook(), dict[float, float](), dict[float, float](), False
    for m in messages:
        expected = []
        if m["reset"]:
            bids, asks, begun = {}, {}, True
            falling = all(a > b for a, b in pairwise(m["bid_prices"]))
            if not (falling and all(a < b for a, b in pairwise(m["ask_prices"]))):
                expected.append(UNSORTED)
        elif not begun:
            expected.append(DELTA_FIRST)
        for held, side in ((bids, "bid"), (asks, "ask")):
            for price, size in zip(m[f"{side}_prices"], m[f"{side}_sizes"], strict=True):
                held[price] = size
        bids = {p: s for p, s in bids.items() if s != 0}
        asks = {p: s for p, s in asks.items() if s != 0}
        if bids and asks and max(bids) >= min(asks):
            expected.append(CROSSED)
        assert book.apply(m) == tuple(expected)
        assert book.bids == sorted(bids.items(), reverse=True)
        assert book.asks == sorted(asks.items())
        assert (book.whole, book.ts) == (begun, m["ts"])


def test_a_reconnect_begins_a_new_book() -> None:
    """What changed while nobody listened must not stay in the book."""
    book = OrderBook()
    level = {"bid_prices": [1.0], "bid_sizes": [1.0], "ask_prices": [2.0], "ask_sizes": [1.0], "ts": 1}
    assert book.apply({**level, "reset": True}) == ()
    assert book.apply({**level, "reset": True, "bid_prices": [1.5]}) == ()
    assert (book.bids, book.asks) == ([(1.5, 1.0)], [(2.0, 1.0)])
