"""An order's state from its events, and what it takes to forget one.

If these fail, a canceled order hangs around as pending, or a filled one comes back to life.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from processors.columns.records import Records
from processors.portfolio import book as books
from processors.portfolio.book import APPLIED, DUPLICATE, LATE, Book
from processors.portfolio.orders import TERMINAL, Order, from_row
from tests.portfolio_history import BASE, SECOND, Event, a_snapshot, an_update

EVENTS = ["pending_new", "new", "partial_fill", "fill", "canceled", "expired", "rejected", "pending_cancel"]


def an_event(kind: str, ts: int, filled: int) -> Event:
    more: Event = {"reason": "not enough buying power"} if kind == "rejected" else {}
    if kind in ("fill", "partial_fill"):
        more |= {"cumulative_quantity": Decimal(filled), "average_price": Decimal(10 + filled)}
        more |= {"quantity": Decimal(1), "price": Decimal(10)}
    return an_update(kind, "o1", BASE + ts * SECOND, **more)


lives = st.lists(
    st.builds(an_event, st.sampled_from(EVENTS), st.integers(0, 9), st.integers(1, 5)), min_size=1, max_size=8
)


@settings(max_examples=60)
@given(lives, st.randoms(use_true_random=False))
def test_any_order_of_arrival_and_repeats_leave_the_same_order(life: list[Event], chance: Any) -> None:
    """The status is that of the last event, but for one that ended the order: that one stays."""
    unique = {e["event_id"]: e for e in life}
    log = list(unique.values()) + chance.choices(list(unique.values()), k=3)
    chance.shuffle(log)
    order = Order("demo-1", "o1")
    for offset, event in enumerate(log):
        order.fold(event, offset)
        order = from_row("demo-1", "o1", order.to_row())
    ended = [e for e in unique.values() if e["status"] in TERMINAL]
    among = ended or list(unique.values())
    newest = max(e["ts"] for e in among)
    record = order.record()
    assert record["status"] in {e["status"] for e in among if e["ts"] == newest}
    assert record["filled_quantity"] == max(e["cumulative_quantity"] for e in log)
    averages = {e["average_price"] for e in log if e["cumulative_quantity"] == record["filled_quantity"]}
    assert record["average_price"] in averages
    assert record["ts"] == max(e["ts"] for e in log)
    rejected = any(e["event"] == "rejected" for e in log)
    assert record["reason"] == ("not enough buying power" if rejected else None)
    other = Order("demo-1", "o1")
    for offset, event in enumerate(unique.values()):
        other.fold(event, offset)
    assert other.record() == record


@pytest.mark.parametrize("end", ["canceled", "expired", "rejected"])
def test_the_end_of_an_order_ends_it_whatever_comes_after(end: str) -> None:
    """A cancel or an expiry takes the pending order away; a late `new` must not bring it back."""
    book = Book(Records(1))
    for offset, event in enumerate(
        [an_event("new", 1, 0), an_event(end, 2, 0), an_event("pending_new", 3, 0)]
    ):
        book.fold_update(event, offset)
    assert [order["status"] for order in book.take_announced().orders] == ["new", end, end]


def test_a_replaced_order_names_its_successor_and_the_successor_its_predecessor() -> None:
    """Without the chain a client shows two orders where there is one."""
    order, successor = Order("demo-1", "o1"), Order("demo-1", "o2")
    order.fold(an_event("new", 1, 0), 0)
    order.fold(an_event("replaced", 2, 0) | {"replaced_by": "o2"}, 1)
    successor.fold(an_update("new", "o2", BASE, replaces="o1"), 2)
    assert (order.record()["status"], order.record()["replaced_by"]) == ("replaced", "o2")
    assert successor.record()["replaces"] == "o1"


def test_a_replayed_event_is_a_duplicate_and_its_record_is_sent_again() -> None:
    """The send may be what the crash before the replay prevented."""
    book = Book(Records(1))
    event = an_event("new", 1, 0)
    assert book.fold_update(event, 7) == APPLIED
    sent = book.take_announced().orders
    assert book.fold_update(event, 7) == DUPLICATE
    assert book.take_announced().orders == sent
    assert book.fold_update(event, 8) == DUPLICATE  # a repeat at another offset
    assert book.take_announced().orders == []


def test_open_orders_of_a_snapshot_are_known_until_an_event_says_more() -> None:
    """Orders sent before tidewire was started are pending, too."""
    listed = {
        "order_id": "o1",
        "client_order_id": "mine",
        "symbol": "AAPL",
        "side": "buy",
        "order_type": "limit",
        "status": "new",
        "quantity": Decimal(5),
        "filled_quantity": Decimal(0),
        "limit_price": Decimal(10),
        "stop_price": None,
        "submitted_ts": BASE,
    }
    book = Book(Records(1))
    book.fold_snapshot(a_snapshot(BASE, orders=[listed]), 0)
    book.fold_update(an_event("canceled", 0, 0), 0)
    assert [order["status"] for order in book.take_announced().orders] == ["new", "canceled"]


def test_ended_orders_are_forgotten_in_the_end_and_do_not_come_back() -> None:
    """The state must not grow with every order that ever was."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(books, "PRUNE_ORDERS_AT", 6)
        patch.setattr(books, "KEEP_ORDERS", 3)
        records = Records(1)
        book = Book(records)
        for number in range(20):
            book.fold_update(an_update("canceled", f"o{number}", BASE + number * SECOND), number)
            records.take_changed()
        assert len(book.account("demo-1").orders) < 6
        assert len([key for key in records.keys() if key.startswith(b"order|")]) < 6  # noqa: SIM118
        assert book.fold_update(an_update("new", "o1", BASE + SECOND), 20) == LATE
