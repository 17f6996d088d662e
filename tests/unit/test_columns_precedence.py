"""Rules before prices. If this fails, a price is folded by rules that were set before it and not yet read."""

from __future__ import annotations

from collections import Counter

from faust.types import TP
from hypothesis import given
from hypothesis import strategies as st

from processors.columns.precedence import Precedence

FIRST, OTHER, LOG = "watches", "quotes", "changelog"
RULES, PRICES, KEPT = TP(FIRST, 0), TP(OTHER, 0), TP(LOG, 0)
ALL = {RULES, PRICES, KEPT, TP(FIRST, 1), TP(OTHER, 1)}


def due(precedence: Precedence, places: dict[TP, tuple[int, int]], active: set[TP] = ALL) -> set[TP]:
    return precedence.due(active, {FIRST}, {FIRST, OTHER} - {FIRST}, places.get)


def test_prices_wait_for_the_rules_of_their_own_partition_and_for_no_others() -> None:
    precedence = Precedence()
    read = {TP(FIRST, 1): (4, 4)}
    assert due(precedence, read) == ALL - {PRICES}, "nobody knows where the rules end"
    assert due(precedence, read | {RULES: (2, 5)}) == ALL - {PRICES}
    assert due(precedence, read | {RULES: (4, 9)}) == ALL - {PRICES}
    assert due(precedence, read | {RULES: (5, 9)}) == ALL, "they ended at 5 when we came"
    assert due(precedence, read | {RULES: (5, 99)}) == ALL, "from then on both flow"
    precedence.begin()
    assert due(precedence, read | {RULES: (5, 99)}) == ALL - {PRICES}, "after a seek they are read again"


def test_rules_that_are_not_ours_hold_up_nothing() -> None:
    assert due(Precedence(), {}, {PRICES, KEPT}) == {PRICES, KEPT}


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), max_size=30), st.integers(0, 6))
def test_whatever_comes_when_all_rules_that_were_there_come_first(
    answers: list[tuple[int, int]], waiting: int
) -> None:
    """Answers bring some rules and write more; a price is never given out before the `waiting` ones."""
    precedence, read, written, seen = Precedence(), 0, waiting, Counter[str]()
    for brought, more in answers:
        if PRICES in due(precedence, {RULES: (read, written), TP(FIRST, 1): (0, 0)}):
            assert read >= waiting
            seen["prices"] += 1
        read, written = min(read + brought, written), written + more
    assert due(precedence, {RULES: (written, written), TP(FIRST, 1): (0, 0)}) == ALL
