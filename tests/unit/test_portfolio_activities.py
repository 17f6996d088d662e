"""Positions under account activities: random histories, any order, repeats and crashes, by a naive reference.

If these fail, a split, a fee or an exercise leaves a user with shares that they do not hold.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from processors.columns.records import Records
from processors.portfolio import history as folding
from processors.portfolio.book import DUPLICATE, Book
from processors.portfolio.exact import exact
from processors.portfolio.readout import account_record, position_record
from tests.portfolio_activities import CLASSES, MULTIPLIERS, OPTION, D, a_buy, an_activity, fold, opened
from tests.portfolio_history import BASE, SECOND, Event, Expected, _trade, _verdict, a_snapshot


@st.composite
def histories(draw: st.DrawFn) -> list[Event]:
    """Fills (some busted or corrected), fees in kind and in cash, splits, expiries, exercises, dividends."""
    events: list[Event] = []
    number = 0
    for place in range(draw(st.integers(1, 9))):
        ts = BASE + place * 10 * SECOND + draw(st.sampled_from([0, 0, 1, 11])) * SECOND
        symbol = draw(st.sampled_from(list(CLASSES)))
        quantity, price = draw(st.integers(1, 40)), draw(st.integers(1, 90))
        kind = draw(st.sampled_from(["fill", "fill", "fill", "fee", "split", "cash", "option", "stock"]))
        number += 2
        if kind == "fill":
            side = draw(st.sampled_from(["buy", "sell"]))
            fill = a_buy(f"o{place}", ts, symbol, quantity, price, side)
            events.append(fill)
            revision = draw(st.sampled_from([None, None, "trade_bust", "trade_correct"]))
            if revision is not None:
                more: Event = {"previous_execution_id": f"x-o{place}", "execution_id": f"y-o{place}"}
                more |= {"quantity": D(quantity + 1), "price": D(price)} if revision[6] == "c" else {}
                more |= {"ts": ts + 5, "event": revision, "event_id": f"r{place:07}".encode()}
                events.append(fill | more)
        elif kind == "fee":
            events.append(an_activity("CFEE", number, ts, symbol="BTCUSD", qty=-D(quantity) / 100))
        elif kind == "split":
            legs = {"symbol": "AAPL", "group_id": f"g{place}", "net_amount": 0}
            events.append(an_activity("SPLIT", number, ts, qty=-quantity, **legs))
            events.append(an_activity("SPLIT", number + 1, ts, qty=quantity + price, **legs))
        elif kind == "option":
            events.append(an_activity("OPEXC", number, ts, symbol=OPTION, qty=-quantity, net_amount=0))
            what = {"symbol": "AAPL", "price": 1, "net_amount": -100 * quantity * price}
            events.append(an_activity("OPTRD", number + 1, ts, qty=100 * quantity, **what))
        elif kind == "stock":
            events.append(
                an_activity("DIV", number, ts, symbol="AAPL", qty=quantity, activity_sub_type="SDIV")
            )
        else:
            events.append(an_activity("DIV", number, ts, symbol="T", net_amount=price, qty=quantity))
            events.append(an_activity("FEE", number + 1, ts, net_amount=-1))
        if "activity_id" in events[-1] and draw(st.booleans()) and kind != "split":
            gone = events[-1] | {"status": "canceled", "event_id": f"c{place:07}".encode()}
            events.append(gone)
    return events


def reference(history: list[Event]) -> tuple[dict[str, Expected], Fraction]:
    """By symbol, and cash of no symbol: a plain loop over what counts, in order of time."""
    void = {e["activity_id"] for e in history if e.get("status") == "canceled"}
    fills = [e for e in history if e.get("event") == "fill"]
    revisions = [e for e in history if e.get("event") in ("trade_bust", "trade_correct")]
    live = [e for e in history if "activity_id" in e and e["activity_id"] not in void]
    entries = [((e["ts"], e["order_id"], e["cumulative_quantity"]), e) for e in fills]
    entries += [((e["ts"], e["activity_id"], D(0)), e) for e in live]
    found: dict[str, Expected] = {symbol: Expected() for symbol in CLASSES}
    cash = Fraction(0)
    for _, event in sorted(entries, key=lambda entry: entry[0]):
        if "activity_id" not in event:
            verdict = _verdict(event, revisions)
            if verdict["event"] != "trade_bust":
                sign = 1 if event["side"] == "buy" else -1
                times = MULTIPLIERS.get(event["symbol"], 1)
                quantity, price = Fraction(verdict["quantity"]), Fraction(verdict["price"])
                _trade(found[event["symbol"]], sign * quantity, price * times, event["ts"])
            continue
        of_type, quantity = event["activity_type"], Fraction(event["quantity"] or 0)
        net = Fraction(event["net_amount"] or 0)
        if of_type in ("CFEE", "OPEXC"):
            _trade(found[event["symbol"]], quantity, Fraction(0), event["ts"])
        elif of_type == "OPTRD":
            _trade(found["AAPL"], quantity, -net / quantity, event["ts"])
        elif of_type == "SPLIT" and quantity < 0:
            continue  # with the second leg
        elif of_type == "SPLIT" or not net:
            more = quantity
            if of_type == "SPLIT":
                more += next(
                    Fraction(e["quantity"])
                    for e in live
                    if e["group_id"] == event["group_id"] and e["quantity"] < 0
                )
            position = found["AAPL"]
            left = position.quantity + more
            if position.quantity * left > 0:
                position.quantity = left
            else:
                _trade(position, more, Fraction(0), event["ts"])
        else:
            cash += net
    return found, cash


def assert_equal(book: Book, history: list[Event]) -> None:
    expected, cash = reference(history)
    account = book.account("demo-1")
    for symbol, wanted in expected.items():
        held = account.holdings.get(symbol)
        if held is None:
            assert not wanted.epoch
            continue
        now = held.now
        found = Fraction(now.quantity), Fraction(now.cost), Fraction(now.realized_ever), Fraction(now.flow)
        assert found == (wanted.quantity, wanted.cost, wanted.ever, wanted.cash), symbol
        assert now.epoch == wanted.epoch
    assert Fraction(account.cash) == 1_000_000 + cash + sum(e.cash for e in expected.values())


@settings(max_examples=25)
@given(histories(), st.randoms(use_true_random=False))
def test_any_order_of_both_topics_with_repeats_is_the_naive_fold(history: list[Event], chance: Any) -> None:
    """Fills and activities come by two topics: which is read first must not change what a user holds."""
    log = history + chance.choices(history, k=4)
    chance.shuffle(log)
    book = opened(*log)
    assert_equal(book, history)
    with exact():
        for held in book.account("demo-1").holdings.values():
            if held.symbol:
                assert position_record(held)["quantity"] == held.now.quantity
        assert account_record(book.account("demo-1"))["cash"] == book.account("demo-1").cash


@settings(max_examples=20)
@given(histories(), st.randoms(use_true_random=False), st.integers(0, 9))
def test_a_crash_between_any_two_rows_changes_nothing(history: list[Event], chance: Any, at: int) -> None:
    """The changelog may end after any row of a commit; what follows the committed offset is read again."""
    chance.shuffle(history)
    snapshot = a_snapshot(BASE - 90 * SECOND)
    changelog: dict[bytes, bytes] = {}
    records = Records(1)
    book = Book(records)
    committed = 0
    for offset, event in enumerate(history):
        if offset >= at:
            book.fold_snapshot(snapshot, 0)
        fold(book, event, offset)
        if chance.random() < 0.5:
            rows = list(records.take_changed().items())
            if chance.random() < 0.5:
                write(changelog, rows)
                committed = offset + 1
            else:
                write(changelog, rows[: chance.randint(0, len(rows))])
                break
    records = Records(1, changelog)
    book = Book(records)
    book.fold_snapshot(snapshot, 0)
    for offset, event in enumerate(history):
        if offset >= committed:
            fold(book, event, offset)
    assert_equal(book, history)


def write(changelog: dict[bytes, bytes], rows: list[tuple[bytes, bytes | None]]) -> None:
    for key, value in rows:
        if value is None:
            changelog.pop(key, None)
        else:
            changelog[key] = value


@settings(max_examples=15)
@given(histories(), st.randoms(use_true_random=False))
def test_what_the_base_has_absorbed_stays_counted_and_known(history: list[Event], chance: Any) -> None:
    """A busy symbol keeps only its newest events apart; older ones count once, however often repeated."""
    history = [e for e in history if e.get("status") != "canceled" and e.get("event") in (None, "fill")]
    history.sort(key=lambda e: (e["ts"], e.get("activity_id") or e["order_id"]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(folding, "KEEP", 2)
        patch.setattr(folding, "ABSORB_AT", 5)
        book = opened(*history)
        for offset, event in enumerate(chance.sample(history, len(history)), len(history)):
            assert fold(book, event, offset) == DUPLICATE
    assert_equal(book, history)
