"""The account's arithmetic. If it failed, a demo's positions and equity would be a wrong reference."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.broker.book import Book, Execution

OPENING = Decimal(1_000_000)

quantities = st.integers(1, 50).map(Decimal) | st.integers(1, 10**9).map(lambda n: Decimal(n) / 10**9)
prices = st.integers(1, 10_000).map(lambda n: Decimal(n) / 100)
symbols = st.sampled_from(
    [("AAPL", "us_equity"), ("BTC/USD", "crypto"), ("AAPL270115C00200000", "us_option")]
)


@st.composite
def histories(draw: st.DrawFn) -> list[Execution]:
    made = draw(
        st.lists(st.tuples(symbols, st.sampled_from(["buy", "sell"]), quantities, prices), max_size=30)
    )
    return [
        Execution(str(i), f"o{i}", symbol, of, side, qty, price, i + 1, qty, Decimal(0), f"a{i}")
        for i, ((symbol, of), side, qty, price) in enumerate(made)
    ]


def naive(executions: list[Execution], symbol: str) -> tuple[Fraction, Fraction, Fraction]:
    """(quantity, average price, realised) share by share: lots of one sign, all at the average."""
    held, average, realized = Fraction(0), Fraction(0), Fraction(0)
    for e in executions:
        if e.symbol != symbol or e.state == "canceled":
            continue
        change, price = Fraction(e.signed), Fraction(e.price)
        if held * change < 0:
            closed = min(abs(held), abs(change)) * (1 if held > 0 else -1)
            realized += closed * (price - average)
            held -= closed
            change += closed
        if change:
            average = (held * average + change * price) / (held + change)
            held += change
        if not held:
            average = Fraction(0)
    return held, average, realized


def cash(executions: list[Execution]) -> Decimal:
    alive = [e for e in executions if e.state != "canceled"]
    spent = [e.signed * e.price * (100 if e.asset_class == "us_option" else 1) for e in alive]
    return OPENING - sum(spent, Decimal(0))


def agree(book: Book, executions: list[Execution]) -> None:
    assert book.cash == cash(executions)
    for symbol in {e.symbol for e in executions}:
        held, average, realized = naive(executions, symbol)
        position = book.positions[symbol]
        assert Fraction(position.qty) == held
        assert abs(Fraction(position.average) - average) < Fraction(1, 10**15)
        assert abs(Fraction(position.realized) / int(position.multiplier) - realized) < Fraction(1, 10**9)


@settings(max_examples=30)
@given(histories())
def test_positions_and_cash_equal_a_naive_fold_with_flips_through_zero(history: list[Execution]) -> None:
    book = Book(OPENING)
    for execution in history:
        book.fill(execution)
    agree(book, history)


@settings(max_examples=30)
@given(histories(), st.data())
def test_busts_and_corrections_leave_what_a_fold_without_them_would(
    history: list[Execution], data: st.DataObject
) -> None:
    book = Book(OPENING)
    for execution in history:
        book.fill(execution)
    for execution in history:
        what = data.draw(st.sampled_from(["keep", "bust", "correct"]))
        if what == "bust":
            book.bust(execution)
        elif what == "correct":
            book.correct(execution, data.draw(quantities), data.draw(prices))
    agree(book, history)


def test_a_flip_starts_anew_at_the_price_of_the_fill() -> None:
    book = Book(OPENING)
    for i, (side, qty, price) in enumerate([("buy", 10, 100), ("sell", 15, 110)]):
        numbers = Decimal(qty), Decimal(price)
        book.fill(
            Execution(str(i), "o", "AAPL", "us_equity", side, *numbers, i, Decimal(qty), Decimal(0), "a")
        )
    position = book.positions["AAPL"]
    assert (position.qty, position.average, position.realized) == (Decimal(-5), Decimal(110), Decimal(100))
