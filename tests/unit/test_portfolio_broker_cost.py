"""The broker's cost rule on the examples of Alpaca's documentation, and against a naive reference.

If these fail, a user compares our cost with the broker's and finds another number without knowing why.
"""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from processors.portfolio import broker_cost
from processors.portfolio.broker_cost import EMPTY, Lots, from_row, held, on, rescaled, take, to_row
from processors.portfolio.exact import exact

D = Decimal


def amounts(lots: Lots) -> tuple[Any, ...]:
    return lots.quantity, lots.cost


def lots_of(*deals: tuple[int, str, str]) -> Lots:
    """Deals as (day, signed quantity, price)."""
    lots = EMPTY
    with exact():
        for day, quantity, price in deals:
            lots = take(lots, D(quantity), D(quantity) * D(price), day)
    return lots


FOUR = ((1, "100", "10"), (1, "50", "12"), (2, "30", "15"))


def test_weighted_average_within_the_day_of_the_sale() -> None:
    """Alpaca's example: 2050 - 120 * (100*10 + 50*12 + 30*15) / 180 = 683.33."""
    lots = lots_of(*FOUR, (3, "-120", "20"))
    assert (amounts(lots)[0], round(lots.cost, 2)) == (60, D("683.33"))


def test_compressed_fifo_from_the_next_day_on() -> None:
    """Alpaca's first example: 2050 - 120 * (100*10 + 50*12) / 150 = 770, 12.83 a share."""
    lots = on(lots_of(*FOUR, (3, "-120", "20")), 4)
    assert lots.cost == 770
    assert round(lots.cost / lots.quantity, 2) == D("12.83")


def test_a_day_is_compressed_with_what_was_bought_after_a_sale() -> None:
    """Alpaca's second example: at the end of the day 2000 - 50 * 2000 / 200 = 1500, 10 a share."""
    lots = lots_of((1, "100", "10"), (1, "50", "9"), (1, "-50", "30"), (1, "50", "11"))
    assert round(lots.cost, 2) == D("1516.67")  # by the weighted average while the day lasts
    assert amounts(on(lots, 2)) == (150, 1500)


def test_what_is_no_older_than_the_oldest_lot_is_not_strict_fifo() -> None:
    """Strict FIFO would give 810: the lots of one day are one."""
    assert on(lots_of(*FOUR, (3, "-120", "20")), 4).cost != 810


def test_a_short_position_is_the_same_with_the_signs_turned() -> None:
    """Otherwise a short seller's cost is wrong from the second day on."""
    long, short = (
        lots_of(*FOUR, (3, "-120", "20")),
        lots_of(*((day, f"-{quantity}", price) for day, quantity, price in FOUR), (3, "120", "20")),
    )
    assert (short.quantity, short.cost) == (-long.quantity, -long.cost)
    assert on(short, 4).cost == -770


def test_a_split_keeps_the_cost_of_each_lot() -> None:
    """After a split the next sale would take the wrong share of the cost."""
    with exact():
        lots = rescaled(lots_of(*FOUR), D(360), 3)
        sold = on(take(lots, D(-360), D(0), 3), 4)
    assert amounts(lots) == (540, 2050)
    assert amounts(sold) == (180, 770)


@pytest.mark.parametrize("flip", ["-5", "-8"])
def test_a_closed_position_begins_anew(flip: str) -> None:
    """Lots of a position that is gone must not come back into the next."""
    lots = on(lots_of((1, "5", "10"), (2, flip, "20"), (2, "-1", "30")), 3)
    wanted = D(flip) + 4
    assert lots.quantity == wanted
    assert lots.cost == (D(-30) if flip == "-5" else D(-3) * 20 - 30)


def test_an_opening_balance_is_one_old_lot() -> None:
    """Of it nothing is known but the broker's own cost."""
    with exact():
        lots = on(take(held(D(10), D(100)), D(-5), D(0), 9), 10)
    assert lots.cost == 50
    assert held(D(0), D(0)) == EMPTY


deals = st.lists(
    st.tuples(st.integers(0, 3), st.integers(-9, 9).filter(bool), st.integers(1, 50)), min_size=1, max_size=9
)


def naive(history: list[tuple[int, int, int]], until: int) -> tuple[Fraction, Fraction]:
    """Quantity and cost, from scratch: whole days as lists of what was opened and how much was closed."""
    lots: list[list[Fraction]] = []
    quantity = cost = Fraction(0)
    for day in range(until + 1):
        opened, closed = [Fraction(0), Fraction(0)], Fraction(0)
        for _, change, price in (deal for deal in history if deal[0] == day):
            if quantity * change < 0 and abs(change) >= abs(quantity):
                left = Fraction(change + quantity)
                lots, opened, closed = [], [left, left * price], Fraction(0)
                quantity, cost = left, left * price
            elif quantity * change < 0:
                cost += cost / quantity * change
                quantity, closed = quantity + change, closed + change
            else:
                opened = [opened[0] + change, opened[1] + change * price]
                quantity, cost = quantity + change, cost + change * price
        if day == until:
            break
        lots.append(opened)
        while closed:
            taken = min(abs(closed), abs(lots[0][0])) * (1 if lots[0][0] > 0 else -1)
            if taken == lots[0][0]:
                lots.pop(0)
            else:
                lots[0] = [lots[0][0] - taken, lots[0][1] - lots[0][1] * taken / lots[0][0]]
            closed += taken
        lots = [lot for lot in lots if lot[0]]
        cost = sum((lot[1] for lot in lots), Fraction(0))
    return quantity, cost


@settings(max_examples=60)
@given(deals, st.integers(0, 2))
def test_any_history_is_the_naive_fold(history: list[tuple[int, int, int]], later: int) -> None:
    """Flips, shorts and days without a deal: the rule must not depend on how the history came."""
    history.sort(key=lambda deal: deal[0])
    lots, until = EMPTY, history[-1][0] + later
    with exact():
        for day, quantity, price in history:
            lots = from_row(to_row(take(lots, D(quantity), D(quantity * price), day + 1)))
            assert lots.day == day + 1
        lots = broker_cost.on(lots, until + 1)
    wanted, cost = naive(history, until)
    assert lots.quantity == wanted
    assert abs(Fraction(lots.cost) - cost) < Fraction(1, 10**12)
