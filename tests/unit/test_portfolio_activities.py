"""Positions under account activities: random histories against a naive reference, and Alpaca's own examples.

If these fail, a split, a fee or an exercise leaves a user with shares that they do not hold.
"""

from __future__ import annotations

import json
from collections import Counter
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from processors.columns.records import Records
from processors.portfolio import history as folding
from processors.portfolio import refusals
from processors.portfolio.book import APPLIED, CONTAINED, DUPLICATE, STREAMED, UNKNOWN, UNMATCHED, Book
from processors.portfolio.exact import exact
from processors.portfolio.readout import account_record, position_record
from producers.accounts import activities, updates
from schemas import trading_values as values
from schemas.codec import load_codec
from tests.portfolio_history import (
    BASE,
    SECOND,
    Event,
    Expected,
    _trade,
    _verdict,
    a_mark,
    a_position,
    a_snapshot,
    an_update,
)
from tidewire import config
from tidewire.errors import RecordError

CODEC = load_codec(config.load(_env_file=None))
D = Decimal
OPTION = "AAPL260619C00200000"
CLASSES = {"AAPL": "us_equity", "BTC/USD": "crypto", OPTION: "us_option"}
MULTIPLIERS = {OPTION: 100}


def an_activity(of_type: str, number: int, ts: int, **more: Any) -> Event:
    """A decoded account_activity record, as the producer makes it of what REST shows."""
    raw = {"id": f"a::{number}", "activity_type": of_type, "created_at": "2026-05-28T20:00:00Z"}
    raw |= {name: str(value) for name, value in more.items() if value is not None}
    found = activities.content("demo-1", raw)
    return {**found, "ts": ts, "received_ts": ts + 3_000 * SECOND, "source": "rest", "owner_epoch": 1}


def a_buy(order: str, ts: int, symbol: str, quantity: Any, price: Any, side: str = "buy") -> Event:
    what = {"symbol": symbol, "asset_class": CLASSES.get(symbol, "us_equity"), "side": side}
    amount = {"quantity": D(quantity), "price": D(price), "cumulative_quantity": D(quantity)}
    return an_update("fill", order, ts, execution_id=f"x-{order}", **what, **amount)


def opened(*events: Event, **snapshot: Any) -> Book:
    """A book that was opened and then has folded these."""
    book = Book(Records(1))
    book.fold_snapshot(a_snapshot(BASE - 90 * SECOND, **snapshot), 0)
    for offset, event in enumerate(events):
        fold(book, event, offset)
    return book


def fold(book: Book, event: Event, offset: int) -> str:
    return (book.fold_activity if "activity_id" in event else book.fold_update)(event, offset)


# ---------------------------------------------------------------- random histories


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


# ---------------------------------------------------------------- Alpaca's examples


def position(book: Book, symbol: str = "AAPL") -> tuple[Any, ...]:
    """Quantity, cost, realized P&L and epoch."""
    now = book.account("demo-1").holdings[symbol].now
    return now.quantity, now.cost, now.realized_ever, now.epoch


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


# ---------------------------------------------------------------- collected samples

FIXTURES = Path(__file__).parents[3] / "shared" / "data" / "alpaca" / "fixtures"


@pytest.mark.skipif(not FIXTURES.is_dir(), reason="no collected samples beside this checkout")
def test_every_collected_activity_goes_through_or_says_why() -> None:
    """Shapes that were really seen would stop the fold, or move shares that nobody moved."""
    book, results = opened(), Counter[str]()
    for offset, raw in enumerate(samples("rest_activity")):
        try:
            found = activities.content("demo-1", raw)
        except RecordError:
            results["no record"] += 1
            continue
        record = found | {"received_ts": BASE, "source": "rest", "owner_epoch": 1}
        stored = CODEC.decode(CODEC.encode("account_activity", record))[1]
        assert refusals.of_activity(stored) is None
        results[book.fold_activity(stored, offset)] += 1
    # No record: three descriptions of fields, and a fill with an id of a test that no broker gives.
    assert results == {APPLIED: 10, STREAMED: 7, "no record": 4}
    paid = D("33324.35") + D("29161.91") + D("43864.18") + D("32155.97") + D("20979.69") + D("22386.64")
    with exact():
        assert book.account("demo-1").cash > 1_000_000 + paid
    assert {h.now.quantity for h in book.account("demo-1").holdings.values()} == {0}


@pytest.mark.skipif(not FIXTURES.is_dir(), reason="no collected samples beside this checkout")
def test_every_collected_trade_update_goes_through_or_says_why() -> None:
    """The stream's own shapes, from the message to the position."""
    book, results = opened(), Counter[str]()
    raws = [*samples("ws_trade_update"), *samples("ws_trade_update_data")]
    for offset, raw in enumerate(raws):
        try:
            found = updates.content("demo-1", raw.get("data", raw))
        except RecordError:
            results["no record"] += 1
            continue
        record = found | {"received_ts": BASE, "source": "ws", "owner_epoch": 1}
        stored = CODEC.decode(CODEC.encode("trade_update", record))[1]
        assert refusals.of_update(stored) is None
        results[book.fold_update(stored, offset)] += 1
    assert results.total() == len(raws) >= 5


def samples(stem: str) -> list[Any]:
    """The payloads of a file of samples."""
    found: list[Any] = []
    for line in (FIXTURES / f"{stem}.jsonl").read_text().splitlines():
        payload = values.parse(json.dumps(json.loads(line)["payload"]))
        found += payload if isinstance(payload, list) else [payload]
    return found
