"""Positions against a naive reference over random histories, with crashes between any two rows.

If these fail, somebody is shown shares that they do not hold, or a profit that they did not make.
"""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from processors.columns.records import Records
from processors.portfolio import history as folding
from processors.portfolio.book import APPLIED, CONTAINED, DUPLICATE, UNMATCHED, Book
from processors.portfolio.exact import exact
from processors.portfolio.readout import account_record, position_record
from tests.portfolio_history import (
    BASE,
    CURSOR,
    SECOND,
    Event,
    Expected,
    a_position,
    a_snapshot,
    an_update,
    expected_positions,
)

OPTION = "AAPL260619C00200000"
SYMBOLS = ["AAPL", "BTC/USD", OPTION]
CLASSES = {"AAPL": "us_equity", "BTC/USD": "crypto", OPTION: "us_option"}
MULTIPLIERS = {OPTION: 100}

quantities = st.builds(
    lambda n, places: Decimal(n).scaleb(-places), st.integers(1, 300), st.sampled_from([0, 0, 9])
)
prices = st.builds(
    lambda n, places: Decimal(n).scaleb(-places), st.integers(1, 5000), st.sampled_from([0, 4])
)


@st.composite
def histories(draw: st.DrawFn) -> list[Event]:
    """Fills of some orders, some of them corrected, busted, or first the one and then the other."""
    events: list[Event] = []
    for order in range(draw(st.integers(1, 7))):
        symbol, side = draw(st.sampled_from(SYMBOLS)), draw(st.sampled_from(["buy", "sell"]))
        what = {"symbol": symbol, "side": side, "asset_class": CLASSES[symbol]}
        filled = Decimal(0)
        for part in range(draw(st.integers(1, 4))):
            quantity = draw(quantities)
            filled += quantity
            name, ts = f"x{order}-{part}", BASE + draw(st.integers(0, 20)) * SECOND
            fill = {"quantity": quantity, "price": draw(prices), "cumulative_quantity": filled}
            events.append(an_update("partial_fill", f"o{order}", ts, execution_id=name, **what, **fill))
            for revision in draw(st.lists(st.sampled_from(["trade_bust", "trade_correct"]), max_size=2)):
                ts += draw(st.integers(1, 9)) * SECOND + part  # an order's events of one kind differ in time
                more: Event = {"previous_execution_id": name, "execution_id": name + "c"}
                if revision == "trade_correct":
                    fill = {"quantity": draw(quantities), "price": draw(prices)}
                    name += "c"
                more |= {"event_id": f"{order}{part}{len(events):06}".encode()[:8]}
                events.append(an_update(revision, f"o{order}", ts, **what, **(fill | more)))
    return events


def assert_equal(book: Book, expected: dict[str, Expected], cash: int = 1_000_000) -> None:
    account = book.account("demo-1")
    for symbol, reference in expected.items():
        now = account.holdings[symbol].now
        found = (now.quantity, now.cost, now.realized, now.realized_ever, now.flow)
        wanted = reference.quantity, reference.cost, reference.realized, reference.ever, reference.cash
        assert tuple(map(Fraction, found)) == wanted, symbol
        assert now.epoch == reference.epoch
        if now.quantity:
            assert now.opened_ts == reference.opened_ts
    assert Fraction(account.cash) == cash + sum(e.cash for e in expected.values())
    assert account.totals.value == sum((h.market_value for h in account.holdings.values()), Decimal(0))


@settings(max_examples=15)
@given(histories(), st.randoms(use_true_random=False))
def test_positions_equal_the_naive_fold_in_any_order_with_repeats(history: list[Event], chance: Any) -> None:
    """Whatever order the socket, the reconciliation and the repeats come in, the position is the same."""
    log = history + chance.choices(history, k=5)
    chance.shuffle(log)
    book = Book(Records(1))
    book.fold_snapshot(a_snapshot(BASE - 90 * SECOND), 0)
    results = [book.fold_update(update, offset) for offset, update in enumerate(log)]
    assert_equal(book, expected_positions(history, MULTIPLIERS))
    assert results.count(DUPLICATE) == 5
    with exact():
        account = book.account("demo-1")
        for held in account.holdings.values():
            record = position_record(held)
            assert record["market_value"] - record["cost_basis"] == pytest.approx(record["unrealized_pnl"])
        assert account_record(account)["equity"] == pytest.approx(account.equity)


@settings(max_examples=15)
@given(histories(), st.randoms(use_true_random=False), st.integers(0, 12))
def test_a_crash_between_any_two_rows_changes_nothing(history: list[Event], chance: Any, opened: int) -> None:
    """The changelog may end after any row of a commit; what follows the committed offset is read again."""
    chance.shuffle(history)
    snapshot = a_snapshot(BASE - 90 * SECOND)
    changelog: dict[bytes, bytes] = {}
    records = Records(1)
    book = Book(records)
    committed, offset = 0, 0
    for _ in range(30):
        if offset >= opened:
            book.fold_snapshot(snapshot, 0)
        for _ in range(chance.randint(0, 4)):
            if offset < len(history):
                book.fold_update(history[offset], offset)
                offset += 1
        rows = list(records.take_changed().items())
        if chance.random() < 0.5:  # killed while it wrote
            write(changelog, rows[: chance.randint(0, len(rows))])
            records = Records(1, changelog)
            book, offset = Book(records), committed
        else:
            write(changelog, rows)
            committed = offset
    for _ in range(2):
        for at in range(committed, len(history)):
            book.fold_update(history[at], at)
        book.fold_snapshot(snapshot, 0)
        assert_equal(book, expected_positions(history, MULTIPLIERS))
        write(changelog, list(records.take_changed().items()))
        records = Records(1, changelog)
        book = Book(records)


def write(changelog: dict[bytes, bytes], rows: list[tuple[bytes, bytes | None]]) -> None:
    for key, value in rows:
        if value is None:
            changelog.pop(key, None)
        else:
            changelog[key] = value


@settings(max_examples=15)
@given(st.lists(st.tuples(st.booleans(), quantities, prices), min_size=12, max_size=40), st.data())
def test_absorbed_fills_stay_counted_and_known(fills: list[Any], data: st.DataObject) -> None:
    """A busy symbol keeps only its newest fills apart; older ones count once, however often repeated."""
    history = [
        an_update(
            "fill",
            f"o{i}",
            BASE + i * SECOND,
            side="buy" if buy else "sell",
            quantity=quantity,
            price=price,
            cumulative_quantity=quantity,
        )
        for i, (buy, quantity, price) in enumerate(fills)
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(folding, "KEEP", 4)
        patch.setattr(folding, "ABSORB_AT", 8)
        changelog: dict[bytes, bytes] = {}
        records = Records(1)
        book = Book(records)
        book.fold_snapshot(a_snapshot(BASE - 90 * SECOND), 0)
        for offset, update in enumerate(history):
            assert book.fold_update(update, offset) == APPLIED
            if data.draw(st.integers(0, 9)) == 0:
                rows = list(records.take_changed().items())
                whole = data.draw(st.booleans())
                deletions = sum(value is None for _, value in rows)
                write(changelog, rows if whole else rows[: len(rows) - deletions])
                records = Records(1, changelog)
                book = Book(records)
        again = [book.fold_update(update, len(history) + i) for i, update in enumerate(history)]
        assert set(again) == {DUPLICATE}
        assert len(book.account("demo-1").holdings["AAPL"].kept) < 8
        assert_equal(book, expected_positions(history))


def folded(*updates: Event, **opening: Any) -> Book:
    book = Book(Records(1))
    book.fold_snapshot(a_snapshot(BASE - 90 * SECOND, **opening), 0)
    for offset, update in enumerate(updates):
        book.fold_update(update, offset)
    return book


def a_fill(number: int, side: str, quantity: str, price: str, **more: Any) -> Event:
    amount = Decimal(quantity)
    ts = BASE + number * SECOND
    what = {"quantity": amount, "price": Decimal(price), "cumulative_quantity": amount}
    return an_update("fill", f"o{number}", ts, side=side, **(what | more))


def test_a_flip_closes_one_epoch_and_opens_the_next() -> None:
    """Long 10 at 5, sell 15 at 7: 20 made on the closed part, and short 5 at 7 in a new epoch."""
    book = folded(a_fill(1, "buy", "10", "5"), a_fill(2, "sell", "15", "7"))
    closed = book.announced.steps[-1]
    assert (closed["epoch"], closed["quantity"], closed["realized_pnl"]) == (1, 0, 20)
    now = book.account("demo-1").holdings["AAPL"].now
    assert [now.epoch, now.quantity, now.cost, now.realized, now.realized_ever] == [2, -5, -35, 0, 20]
    assert now.opened_ts == BASE + 2 * SECOND


def test_a_late_fill_that_makes_an_epoch_tells_how_the_one_before_it_ended() -> None:
    """Otherwise a position that was told as open stays so in a reader's table, though its epoch is over."""
    book = folded(a_fill(9, "sell", "400", "10"), a_fill(1, "buy", "100", "10"))
    assert [(step["epoch"], step["quantity"]) for step in book.announced.steps] == [(1, 0)]
    now = book.account("demo-1").holdings["AAPL"].now
    assert [now.epoch, now.quantity] == [2, -300]


def test_every_leg_of_a_multi_leg_fill_is_a_position() -> None:
    """A spread fills two contracts at once; both legs move cash by a hundred shares each."""
    legs = [
        {
            "order_id": f"leg{i}",
            "execution_id": None,
            "symbol": symbol,
            "side": side,
            "cumulative_quantity": Decimal(2),
            "quantity": Decimal(2),
            "price": Decimal(price),
            "position_quantity": None,
            "ts": BASE,
        }
        for i, (symbol, side, price) in enumerate(
            [(OPTION, "buy", "3.5"), ("AAPL260619C00210000", "sell", "1.25")]
        )
    ]
    parent = an_update("fill", "parent", BASE, symbol="", side="", order_class="mleg", legs=legs)
    book = folded(parent, parent)
    account = book.account("demo-1")
    assert [h.now.quantity for h in account.holdings.values()] == [2, -2]
    assert account.cash == 1_000_000 - 700 + 250
    bust = an_update("trade_bust", "parent", BASE + SECOND, symbol="", side="", order_class="mleg", legs=legs)
    book.fold_update(bust, 2)
    assert [h.now.quantity for h in account.holdings.values()] == [0, 0]
    assert account.cash == 1_000_000


def test_a_bust_of_an_absorbed_or_unknown_execution_is_exact_in_quantity_and_cash() -> None:
    """It cannot be taken out of the history any more, so it is folded as the opposite deal at its price."""
    bust = an_update(
        "trade_bust",
        "old",
        BASE + 5 * SECOND,
        quantity=Decimal(4),
        price=Decimal(8),
        execution_id="b",
        previous_execution_id="long ago",
    )
    book = folded(a_fill(1, "buy", "10", "5"), bust)
    account = book.account("demo-1")
    assert account.holdings["AAPL"].now.quantity == 6
    assert account.cash == 1_000_000 - 50 + 32


def test_a_bust_or_correction_finds_a_fill_that_rest_gave_without_an_execution_id() -> None:
    """FILL activities carry none, and a bust that found nothing would be folded a second way."""
    fill = a_fill(1, "buy", "10", "5")
    named = {"order_id": "o1", "previous_execution_id": "lost", "execution_id": "new"}
    more = {"quantity": Decimal(7), "price": Decimal(6), **named}
    book = folded(an_update("trade_correct", "o1", BASE + 9 * SECOND, **more), fill)
    assert book.account("demo-1").holdings["AAPL"].now.cost == 42
    more = {"quantity": Decimal(10), "price": Decimal(5), **named}
    book = folded(fill, an_update("trade_bust", "o1", BASE + 9 * SECOND, **more))
    assert book.account("demo-1").holdings["AAPL"].now.quantity == 0
    assert book.account("demo-1").cash == 1_000_000


def test_a_correction_of_an_unknown_execution_is_counted_as_such_and_heard_once_it_is_known() -> None:
    """What it replaces is not known, so it cannot be folded; but it must not vanish either."""
    fill = a_fill(1, "buy", "10", "5", execution_id="x")
    correction = an_update(
        "trade_correct",
        "o1",
        BASE + 9 * SECOND,
        quantity=Decimal(8),
        price=Decimal(5),
        execution_id="y",
        previous_execution_id="x",
    )
    book = folded()
    assert book.fold_update(correction, 0) == UNMATCHED
    assert book.account("demo-1").cash == 1_000_000
    assert book.fold_update(fill, 1) == APPLIED
    assert book.account("demo-1").cash == 1_000_000 - 40


def test_the_opening_balance_contains_what_it_says_and_nothing_else() -> None:
    """Counted twice or not at all: either way the position would be wrong from the first day on."""
    old = a_fill(-61, "buy", "1", "5")
    listed = a_fill(-10, "buy", "2", "5")
    unlisted = a_fill(-9, "buy", "4", "5")
    later = a_fill(1, "buy", "8", "5")
    for waits in (True, False):
        book = Book(Records(1))
        opening = a_snapshot(
            BASE,
            activity_cursor=CURSOR,
            contained_fills=["o-10:2"],
            positions=[a_position("AAPL", "3", "4.5")],
        )
        if not waits:
            book.fold_snapshot(opening, 0)
        results = [book.fold_update(u, i) for i, u in enumerate((old, listed, unlisted, later))]
        if waits:
            assert book.waiting() == 4
            assert not book.take_announced().accounts
            book.fold_snapshot(opening, 0)
        else:
            assert results[1] in (CONTAINED, APPLIED)  # its order is news
            assert book.fold_update(old, 9) == CONTAINED
        account = book.account("demo-1")
        now = account.holdings["AAPL"].now
        assert [now.quantity, now.cost] == [15, Decimal("13.5") + 60]
        assert account.cash == 1_000_000 - 60
        assert book.waiting() == 0


def test_a_bust_that_the_opening_balance_has_counted_is_not_counted_again() -> None:
    """The cursor names the newest fill, and a bust may have come after it, before the broker was asked."""
    what = {"quantity": Decimal(4), "price": Decimal(8), "execution_id": "b", "previous_execution_id": "x"}
    before, after = (an_update("trade_bust", "o1", BASE + at * SECOND, **what) for at in (3, 6))
    opening = a_snapshot(BASE + 5 * SECOND, activity_cursor=CURSOR, positions=[a_position("AAPL", "9", "5")])
    for waits in (True, False):
        book = Book(Records(1))
        steps: list[Any] = [lambda b: b.fold_snapshot(opening, 0), lambda b: b.fold_update(before, 0)]
        for step in reversed(steps) if waits else steps:
            step(book)
        assert book.account("demo-1").holdings["AAPL"].now.quantity == 9
        book.fold_update(after, 1)
        assert book.account("demo-1").holdings["AAPL"].now.quantity == 5
