"""If these fail, the report says that every activity arrived while one was lost, or calls a fee a loss."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

from verify.activities import Activity, Booked, after_fills, compare, read_journal
from verify.orders import Holding, Sent

D = Decimal


def a_line(**more: Any) -> str:
    return json.dumps(more) + "\n"


def test_the_journal_gives_what_was_booked_and_what_it_moved(tmp_path: Path) -> None:
    """Splits move by both of their activities, a fee by its own, money none."""
    split = {"activity_type": "SPLIT", "symbol": "AAPL", "group_id": "g"}
    change = {"symbol": "AAPL", "kind": "split", "amount": "3", "base": "1", "at": 9, "activity": "b"}
    legs = [[1, split | {"id": "a", "qty": "-5"}, None], [1, split | {"id": "b", "qty": "15"}, change]]
    fee = {"symbol": "BTC/USD", "kind": "fee", "amount": "-0.1", "base": "0", "at": 7, "activity": "c"}
    body = {"id": "c", "activity_type": "CFEE", "symbol": "BTCUSD", "qty": "-0.1"}
    (tmp_path / "updates.jsonl").write_text(a_line(state={"activities": [[2, body, fee]]}) + '{"state"')
    paid = {"id": "d", "activity_type": "CSD", "net_amount": "5"}
    (tmp_path / "state.jsonl").write_text(
        a_line(at=0, changed={"activities": legs}) + a_line(at=0, account=1, transfer=paid)
    )
    booked = read_journal(tmp_path)
    assert [(b.activity.id, b.number, b.symbol, b.quantity, b.ts) for b in booked] == [
        ("c", 2, "BTC/USD", D("-0.1"), 7),
        ("a", 1, "AAPL", D(-5), 9),
        ("b", 1, "AAPL", D(15), 9),
        ("d", 1, "", D(0), 0),
    ]
    sent = Sent(
        positions={(1, "AAPL"): D(5), (2, "BTC/USD"): D(1)},
        position_times={(1, "AAPL"): 8, (2, "BTC/USD"): 8},
    )
    # What was booked before the last fill is in the position that it told of.
    assert after_fills(sent, booked).positions == {(1, "AAPL"): D(15), (2, "BTC/USD"): D(1)}


def test_each_place_is_held_against_the_one_before_it() -> None:
    """Lost, doubled and invented activities are named."""
    booked = [Booked(Activity(id), 1, "", D(0), 0) for id in ("a", "b")]
    whole = compare(booked, [Activity("a"), Activity("b")], [Activity("a"), Activity("b")])
    assert (whole.sent, whole.topic, whole.postgres, whole.missing, whole.extra) == (2, 2, 2, 0, 0)
    assert not whole.problems
    canceled = Activity("a", "canceled")
    found = compare(booked, [Activity("a"), Activity("a"), canceled], [Activity("a"), Activity("z")])
    assert (found.missing, found.extra, len(found.problems)) == (2, 2, 4)
    assert compare(None, [Activity("a")], [Activity("a")]).sent is None


def test_the_brokers_average_may_be_ours_or_that_of_its_rule() -> None:
    """Its number changes over night; only a third one is a difference."""
    held = Holding("one", "AAPL", D(60), D("11.39"), D(60), D("12.833333333"), D(770) / 60)
    assert not held.differs
    assert not Holding("one", "AAPL", D(60), D("11.39"), D(60), D("11.39"), D("12.8")).differs
    assert Holding("one", "AAPL", D(60), D("11.39"), D(60), D("13.5"), D("12.8")).differs
    assert not Holding("one", "AAPL", D(60), D("11.39"), D(50), D("13.5"), D("12.8")).differs
