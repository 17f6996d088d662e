"""Each kind of account activity by Alpaca's own examples: what it does to a position and to cash.

If these fail, a user sees shares, costs or profits that nobody has.
"""

from __future__ import annotations

import json

import pytest

from processors.columns.records import Records
from processors.portfolio.book import APPLIED, CONTAINED, DUPLICATE, STREAMED, UNKNOWN, UNMATCHED, Book
from processors.portfolio.exact import exact
from processors.portfolio.readout import position_record
from producers.accounts import activities
from tests.portfolio_activities import OPTION, D, a_buy, an_activity, fold, opened, position
from tests.portfolio_history import BASE, SECOND, Event, a_mark, a_position, a_snapshot


def test_a_split_changes_quantity_and_basis_alone() -> None:
    """Its price basis follows, so that the position is not worth three times as much until the next mark."""
    buy = a_buy("o1", BASE, "AAPL", 10, 90)
    book = opened(buy)
    book.fold_mark(a_mark("AAPL", BASE + SECOND, "99"), 0)
    legs = {"symbol": "AAPL", "group_id": "g", "net_amount": 0}
    assert fold(book, an_activity("SPLIT", 1, BASE + 5 * SECOND, qty=-10, **legs), 1) == APPLIED
    assert position(book) == (10, 900, 0, 1)  # one of the two alone is no split
    fold(book, an_activity("SPLIT", 2, BASE + 5 * SECOND, qty=30, **legs), 2)
    assert position(book) == (30, 900, 0, 1)
    held = book.account("demo-1").holdings["AAPL"]
    with exact():
        assert held.market_value == 990
        assert position_record(held)["average_price"] == 30
        assert position_record(held)["broker_rule_cost"] == 900


def test_a_fee_in_kind_leaves_with_its_cost_and_a_fee_in_dollars_is_cash() -> None:
    """Alpaca's example of a CFEE has its symbol without a slash and a price that nobody pays."""
    raw = {
        "id": "20260528000000000::53be51ba", "activity_type": "CFEE", "date": "2026-05-28", "net_amount": "0",
        "description": "Coin Pair Transaction Fee (Non USD)", "symbol": "BTCUSD", "qty": "-0.5",
        "price": "1884.5", "status": "executed",
    }  # fmt: skip
    late = {"received_ts": BASE, "source": "rest", "owner_epoch": 1}
    book = opened(a_buy("o1", BASE, "BTC/USD", 2, 100), activities.content("demo-1", raw) | late)
    assert position(book, "BTC/USD") == (D("1.5"), 150, -50, 1)
    fold(book, an_activity("CFEE", 2, BASE, net_amount="-1.25"), 2)
    with exact():
        assert book.account("demo-1").cash == 1_000_000 - 200 - D("1.25")


@pytest.mark.parametrize(
    ("of_type", "sign", "shares", "net"), [("OPEXC", 1, 200, -30000), ("OPASN", -1, -200, 30000)]
)
def test_exercise_and_assignment_bring_shares_at_the_strike(
    of_type: str, sign: int, shares: int, net: int
) -> None:
    """Alpaca's examples: the option leaves at no price, and the price of the OPTRD is not what was paid."""
    book = opened(
        a_buy("o1", BASE, OPTION, 2, 3, "buy" if sign > 0 else "sell"),
        an_activity(of_type, 1, BASE + SECOND, symbol=OPTION, qty=-2 * sign, net_amount=0),
        an_activity("OPTRD", 2, BASE + SECOND, symbol="AAPL", qty=shares, net_amount=net, price=90),
    )
    assert position(book, OPTION) == (0, 0, -600 * sign, 1)
    assert position(book) == (shares, -net, 0, 1)


def test_an_expired_option_is_gone_and_its_premium_lost() -> None:
    """It must not stay as a position of a contract that does not exist."""
    book = opened(
        a_buy("o1", BASE, OPTION, 2, 3), an_activity("OPEXP", 1, BASE + SECOND, symbol=OPTION, qty=-2)
    )
    assert position(book, OPTION) == (0, 0, -600, 1)


def test_of_a_cash_dividend_the_quantity_is_what_it_was_paid_for() -> None:
    """The collected sample says SDIV and pays cash: shares come only where nothing is paid."""
    raw = {
        "activity_sub_type": "SDIV", "activity_type": "DIV", "created_at": "2021-05-10T14:01:04.650275Z",
        "date": "2019-08-01", "id": "20190801011955195::5f596936", "net_amount": "1.02",
        "per_share_amount": "0.51", "qty": "2", "status": "executed", "symbol": "T",
    }  # fmt: skip
    paid = activities.content("demo-1", raw) | {"received_ts": BASE, "source": "rest", "owner_epoch": 1}
    book = opened(a_buy("o1", BASE, "T", 2, 10), paid)
    assert position(book, "T") == (2, 20, 0, 1)
    with exact():
        assert book.account("demo-1").cash == 1_000_000 - 20 + D("1.02")
    fold(book, an_activity("DIV", 5, BASE + SECOND, symbol="T", qty="0.1", net_amount=0), 5)
    assert position(book, "T") == (D("2.1"), 20, 0, 1)


@pytest.mark.parametrize("first", [0, 1])
def test_a_change_of_name_takes_the_cost_along(first: int) -> None:
    """Otherwise the new symbol would show a profit that nobody made."""
    legs = {"group_id": "g", "net_amount": 0, "price": 50}
    pair = [
        an_activity("NC", 1, BASE + SECOND, symbol="RNA", qty=-7, **legs),
        an_activity("NC", 2, BASE + SECOND, symbol="RNAM", qty=7, **legs),
    ]
    book = opened(a_buy("o1", BASE, "RNA", 7, 3), pair[first], pair[1 - first])
    assert position(book, "RNA") == (0, 0, 0, 1)
    assert position(book, "RNAM") == (7, 21, 0, 1)
    assert book.account("demo-1").totals.at_cost == 21


def test_a_cash_merger_pays_for_what_it_takes() -> None:
    """The payment and the removal are two activities; together they are a sale."""
    book = opened(
        a_buy("o1", BASE, "OLD", 10, 3),
        an_activity("MA", 1, BASE + SECOND, symbol="OLD", net_amount=50, activity_sub_type="CMA"),
        an_activity(
            "MA", 2, BASE + SECOND, symbol="OLD", qty=-10, net_amount=0, price=0, activity_sub_type="CMA"
        ),
    )
    assert position(book, "OLD") == (0, 0, 20, 1)


def test_corrections_and_cancels_by_status_and_by_another_activity() -> None:
    """A dividend that was taken back must not stay in a user's cash."""
    one = an_activity("DIV", 1, BASE, symbol="T", net_amount=10, status="executed")
    book = opened(one)
    right = one | {"status": "correct", "net_amount": D(7), "event_id": b"correct1"}
    assert [fold(book, right, 1), fold(book, right, 2), fold(book, one, 3)] == [APPLIED, DUPLICATE, DUPLICATE]
    assert book.account("demo-1").cash == 1_000_007
    other = an_activity("DIV", 2, BASE, symbol="T", net_amount=5, previous_id="1", status="correct")
    assert fold(book, other, 4) == APPLIED
    assert book.account("demo-1").cash == 1_000_005
    assert fold(book, an_activity("DIV", 3, BASE, net_amount=5, previous_id="no"), 5) == UNMATCHED
    gone = an_activity("DIV", 4, BASE, symbol="T", net_amount=5, previous_id="2", status="canceled")
    fold(book, gone, 6)
    assert book.account("demo-1").cash == 1_000_000


def test_what_the_opening_balance_contains_does_not_count_again() -> None:
    """A fee of the day before would be taken twice."""
    fee = an_activity("FEE", 1, BASE, net_amount=-1)
    assert fee["received_ts"] > BASE
    book = opened(contained_activities=["a::1"])
    assert fold(book, fee, 0) == CONTAINED
    before = an_activity("FEE", 2, BASE, net_amount=-1) | {"received_ts": BASE - 91 * SECOND}
    assert fold(book, before, 1) == CONTAINED
    assert fold(book, fee | {"status": "canceled", "event_id": b"canceled"}, 2) == UNMATCHED
    assert book.account("demo-1").cash == 1_000_000


def test_unknown_types_count_in_cash_and_executions_not_at_all() -> None:
    """A type that Alpaca adds must not move shares by a guess, and a fill must not count twice."""
    strange = an_activity("XYZ", 1, BASE, symbol="AAPL", qty=5, net_amount=3)
    book = opened()
    assert fold(book, strange, 0) == UNKNOWN
    assert fold(book, an_activity("FILL", 2, BASE, symbol="AAPL", qty=5), 1) == STREAMED
    assert book.account("demo-1").cash == 1_000_003
    assert "AAPL" not in book.account("demo-1").holdings


def test_a_difference_that_an_activity_explains_is_not_unexplained() -> None:
    """Exits would be held, and somebody would be woken, for a split that everybody knew of."""
    book = opened(a_buy("o1", BASE, "AAPL", 10, 90))
    held = book.account("demo-1").holdings["AAPL"]

    def look(second: int, quantity: str, told: list[str]) -> None:
        listed: Event = {"activity_cursor": "20260528162640000::0", "contained_fills": ["o1:10"]}
        listed |= {"cash": D(999_100), "positions": [a_position("AAPL", quantity, "30")]}
        ts = BASE + second * SECOND
        book.fold_snapshot(a_snapshot(ts, contained_activities=told, **listed), second)

    legs = {"symbol": "AAPL", "group_id": "g", "net_amount": 0}
    pair = [an_activity("SPLIT", n, BASE + 5 * SECOND, qty=q, **legs) for n, q in ((1, -10), (2, 30))]
    look(100, "30", ["a::1", "a::2"])  # listed, and still on their way: nothing can be said
    assert (held.differs_since, held.unexplained) == (None, False)
    look(200, "30", [])
    look(300, "30", [])
    assert held.unexplained
    for offset, leg in enumerate(pair):
        fold(book, leg | {"received_ts": BASE + 350 * SECOND}, offset + 10)
    assert not held.unexplained
    look(400, "30", ["a::1", "a::2"])
    assert (held.differs_since, held.unexplained, book.differing()) == (None, False, 0)


def test_a_bust_after_a_flip_undoes_it_under_a_split() -> None:
    """The deals after it must be counted from what was held without it."""
    legs = {"symbol": "AAPL", "group_id": "g", "net_amount": 0}
    sold = a_buy("o2", BASE + SECOND, "AAPL", 15, 12, "sell")
    book = opened(
        a_buy("o1", BASE, "AAPL", 10, 10),
        sold,
        an_activity("SPLIT", 1, BASE + 2 * SECOND, qty=5, **legs),
        an_activity("SPLIT", 2, BASE + 2 * SECOND, qty=-10, **legs),
    )
    assert position(book) == (-10, -60, 20, 2)
    bust = {"event": "trade_bust", "previous_execution_id": "x-o2", "event_id": b"bust0001"}
    fold(book, sold | bust | {"ts": BASE + 9 * SECOND}, 9)
    assert position(book) == (5, 100, 0, 1)


def test_rows_hold_everything() -> None:
    """After a restart a cost that came from another symbol would be gone."""
    legs = {"group_id": "g", "net_amount": 0, "price": 50}
    records = Records(1)
    book = Book(records)
    book.fold_snapshot(a_snapshot(BASE - SECOND), 0)
    fold(book, a_buy("o1", BASE, "RNA", 7, 3), 0)
    fold(book, an_activity("NC", 1, BASE + SECOND, symbol="RNA", qty=-7, **legs), 0)
    fold(book, an_activity("NC", 2, BASE + SECOND, symbol="RNAM", qty=7, **legs), 1)
    changelog = {key: value for key, value in records.take_changed().items() if value is not None}
    assert all(json.loads(value) is not None for value in changelog.values())
    again = Book(Records(1, changelog))
    assert position(again, "RNAM") == (7, 21, 0, 1)
    assert again.folded["activity"] == 2
