"""Totals of an account, its marks, and where it differs from the broker's word.

If these fail, equity and day P&L are wrong, or a position that differs from the broker's goes unnoticed.
"""

from __future__ import annotations

import json
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from processors.columns.records import Records
from processors.portfolio import refusals
from processors.portfolio.account import Difference
from processors.portfolio.book import APPLIED, DUPLICATE, LATE, NOT_HELD, Book
from processors.portfolio.exact import exact
from processors.portfolio.holding import Holding
from processors.portfolio.holding_rows import from_row, to_row
from processors.portfolio.readout import account_record, position_record
from tests.portfolio_history import (
    BASE,
    CURSOR,
    SECOND,
    Event,
    a_mark,
    a_position,
    a_snapshot,
    an_update,
)


def a_fill(number: int, side: str, quantity: str, price: str, **more: object) -> Event:
    amount = Decimal(quantity)
    what = {"quantity": amount, "price": Decimal(price), "cumulative_quantity": amount}
    return an_update("fill", f"o{number}", BASE + number * SECOND, side=side, **(what | more))


def opened(**more: object) -> Book:
    book = Book(Records(1))
    book.fold_snapshot(a_snapshot(BASE, **more), 0)
    return book


def test_the_newest_mark_values_what_is_held() -> None:
    """Unrealised P&L, equity and day P&L follow the price of the symbol, not the order of arrival."""
    book = opened(last_equity=Decimal(999_000))
    assert book.fold_mark(a_mark("AAPL", BASE, "9"), 0) == NOT_HELD
    book.fold_update(a_fill(1, "sell", "10", "5"), 0)
    assert book.fold_mark(a_mark("AAPL", BASE + 3 * SECOND, "6"), 1) == APPLIED
    assert book.fold_mark(a_mark("AAPL", BASE + 2 * SECOND, "7"), 2) == LATE
    assert book.fold_mark(a_mark("AAPL", BASE + 3 * SECOND, "6"), 1) == DUPLICATE
    account = book.account("demo-1")
    with exact():
        position, record = position_record(account.holdings["AAPL"]), account_record(account)
    assert (position["market_value"], position["cost_basis"], position["unrealized_pnl"]) == (-60, -50, -10)
    assert (position["average_price"], position["mark_price"]) == (5, 6)
    assert (record["cash"], record["equity"], record["day_pnl"]) == (1_000_050, 999_990, 990)
    assert record["buying_power"] == 2_000_000 - 50


def test_totals_go_out_four_times_a_second_and_once_more_at_the_commit() -> None:
    """A thousand marks a second must not be a thousand account updates, and the last one must not be lost."""
    book = opened()
    book.fold_update(a_fill(1, "buy", "10", "5"), 0)
    book.take_announced()
    sent = 0
    for i in range(100):
        book.fold_mark(a_mark("AAPL", BASE + 2 * SECOND + i * 10_000_000, str(6 + i)), i)
        sent += len(book.take_announced().accounts)
    assert sent == 4
    book.announce_totals()
    assert list(book.take_announced().accounts) == ["demo-1"]
    book.announce_totals()
    assert not book.take_announced().accounts


def test_what_an_order_changed_goes_out_before_positions_whose_price_alone_moved() -> None:
    """A fill must not wait for a thousand marks; and no mark may be forgotten on the way."""
    book = opened()
    for number, symbol in enumerate(["AAPL", "MSFT", "SPY"]):
        book.fold_update(a_fill(number, "buy", "10", "5", symbol=symbol), number)
    book.take_announced()
    for number, symbol in enumerate(["AAPL", "MSFT", "SPY"]):
        book.fold_mark(a_mark(symbol, BASE + 9 * SECOND, "6"), number)
    book.fold_update(a_fill(9, "buy", "1", "5", symbol="MSFT"), 9)
    first = book.take_announced(1)
    assert [key[1] for key in first.holdings] == ["MSFT"]
    assert [key[1] for key in first.marked] == ["AAPL"]
    book.fold_update(a_fill(10, "buy", "1", "5", symbol="AAPL"), 10)
    second = book.take_announced(1)
    assert ([key[1] for key in second.holdings], [key[1] for key in second.marked]) == (["AAPL"], ["SPY"])
    assert not book.announced


def test_marks_that_let_an_order_pass_go_out_after_it() -> None:
    """A position whose new price was taken and put back must be sent all the same, and once."""
    book = opened()
    for number, symbol in enumerate(["AAPL", "MSFT", "SPY"]):
        book.fold_update(a_fill(number, "buy", "10", "5", symbol=symbol), number)
    book.take_announced()
    for number, symbol in enumerate(["AAPL", "MSFT", "SPY"]):
        book.fold_mark(a_mark(symbol, BASE + 9 * SECOND, "6"), number)
    taken = book.take_announced()
    assert not taken.urgent
    book.fold_update(a_fill(9, "buy", "1", "5", symbol="MSFT"), 9)
    assert book.announced.urgent
    book.put_back(taken.marked.values())
    rest = book.take_announced()
    assert [key[1] for key in rest.holdings] == ["MSFT"]
    assert sorted(key[1] for key in rest.marked) == ["AAPL", "SPY"]


def test_later_snapshots_are_compared_as_of_their_moment_and_overwrite_nothing() -> None:
    """A fill on its way is no difference; one that never came is."""
    book = opened()
    for number in (1, 2):
        book.fold_update(a_fill(number, "buy", "10", "5"), number)
    cursor = CURSOR.replace("2640000", "2642000")  # two seconds later
    listed = {"activity_cursor": cursor, "contained_fills": ["o1:10"], "cash": Decimal(1_000_000 - 50)}
    theirs = [a_position("AAPL", "10", "5.01")]
    result = book.fold_snapshot(a_snapshot(BASE + 5 * SECOND, positions=theirs, **listed), 1)
    assert result == (APPLIED, [])
    missing = listed | {"contained_fills": ["o1:10", "o9:1"]}
    assert book.fold_snapshot(a_snapshot(BASE + 6 * SECOND, **missing), 2) == (APPLIED, [])
    theirs = [a_position("AAPL", "11", "5"), a_position("IBM", "1", "2")]
    wrong = listed | {"positions": theirs, "buying_power": Decimal(7), "trading_blocked": True}
    _, differences = book.fold_snapshot(a_snapshot(BASE + 7 * SECOND, **wrong), 3)
    assert differences == [
        Difference("AAPL", Decimal(10), Decimal(11)),
        Difference("IBM", Decimal(0), Decimal(1)),
    ]
    assert book.differing() == 2
    account = book.account("demo-1")
    assert account.holdings["AAPL"].now.quantity == 20
    with exact():
        position, record = position_record(account.holdings["AAPL"]), account_record(account)
    assert (position["broker_quantity"], position["broker_average_price"]) == (11, 5)
    assert (record["buying_power"], record["blocked"]) == (7, True)
    assert book.fold_snapshot(a_snapshot(BASE + 6 * SECOND), 4) == (LATE, [])
    assert book.fold_snapshot(a_snapshot(BASE + 7 * SECOND, **wrong), 3) == (DUPLICATE, [])


def test_a_difference_that_outlives_two_snapshots_is_unexplained_until_one_agrees() -> None:
    """An exit would sell shares that are not there; or, for a fill on its way, be held for nothing."""
    book = opened()
    wrong = {"positions": [a_position("IBM", "3", "2")], "cash": Decimal(999_994)}
    told = []
    for number in (1, 2, 3):
        _, differences = book.fold_snapshot(a_snapshot(BASE + number * SECOND, **wrong), number)
        told.append([(d.symbol, d.unexplained) for d in differences])
    assert told == [
        [("IBM", False), (None, False)],
        [("IBM", True), (None, False)],
        [("IBM", False), (None, False)],
    ]
    assert book.unexplained() == 1
    with exact():
        assert position_record(book.take_announced().holdings["demo-1", "IBM"])["unexplained"] is True
    when = {"symbol": "IBM", "ts": BASE + 3 * SECOND // 2}
    fill = a_fill(9, "buy", "3", "2") | when  # the activity that explains it
    book.fold_update(fill, 0)
    cursor = {
        "activity_cursor": CURSOR.replace("2640000", "2641500"),
        "contained_fills": [f"{fill['order_id']}:3"],
    }
    assert book.fold_snapshot(a_snapshot(BASE + 4 * SECOND, **wrong, **cursor), 4) == (APPLIED, [])
    assert book.unexplained() == 0
    with exact():
        assert position_record(book.take_announced().holdings["demo-1", "IBM"])["unexplained"] is False


@settings(max_examples=60)
@given(st.lists(st.tuples(st.booleans(), st.booleans()), max_size=12))
def test_unexplained_is_two_differing_snapshots_in_a_row_whatever_is_read_again(
    history: list[tuple[bool, bool]],
) -> None:
    """After a crash a snapshot that is folded twice would count as two."""
    held, before, rows = Holding("demo-1", "IBM", "us_equity"), False, []
    for number, (differs, crashed) in enumerate(history):
        for _ in range(1 + crashed):
            held.compared(differs, BASE + number)
            held = from_row("demo-1", "IBM", json.loads(json.dumps(to_row(held))))
        rows.append((held.unexplained, differs and before))
        before = differs
    assert all(got == expected for got, expected in rows)


def test_what_does_not_add_up_in_cash_is_said() -> None:
    """A fee or a deposit is no fill, and must be seen rather than guessed."""
    _, differences = opened().fold_snapshot(a_snapshot(BASE + SECOND, cash=Decimal("999990")), 1)
    assert differences == [Difference(None, Decimal(1_000_000), Decimal("999990"))]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"account": "a|b"}, "is no name of an account"),
        ({"quantity": Decimal(0)}, "fill of 0 at 5"),
        ({"price": Decimal(-1)}, "fill of 1 at -1"),
        ({"price": None}, "without quantity or price"),
        ({"side": "hold"}, "neither buys nor sells"),
        ({"quantity": Decimal(10) ** 9, "price": Decimal(10) ** 9}, "beyond what is folded"),
        ({"position_quantity": Decimal(10) ** 16}, "a number beyond 1e+15"),
    ],
)
def test_updates_that_cannot_be_folded_are_refused_with_a_reason(change: Event, reason: str) -> None:
    """They become dead letters; folded, they would poison every total of the account."""
    assert refusals.of_update(a_fill(1, "buy", "1", "5")) is None
    refused = refusals.of_update(a_fill(1, "buy", "1", "5") | change)
    assert refused is not None
    assert reason in refused


def test_snapshots_and_marks_that_cannot_be_folded_are_refused() -> None:
    """An opening balance with a cursor that says no time would count fills twice."""
    assert refusals.of_snapshot(a_snapshot(BASE, activity_cursor=CURSOR)) is None
    assert "yyyymmdd" in (refusals.of_snapshot(a_snapshot(BASE, activity_cursor="soon")) or "")
    twice = [a_position("A", "1", "1"), a_position("A", "1", "1")]
    assert "two positions" in (refusals.of_snapshot(a_snapshot(BASE, positions=twice)) or "")
    assert "beyond" in (refusals.of_snapshot(a_snapshot(BASE, cash=Decimal(10) ** 18)) or "")
    assert "price" in (refusals.of_mark(a_mark("A", BASE, "-1")) or "")
