"""Account activities as tests make them up, and a book that folds them."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from processors.columns.records import Records
from processors.portfolio.book import Book
from producers.accounts import activities
from tests.portfolio_history import BASE, SECOND, Event, a_snapshot, an_update

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


def position(book: Book, symbol: str = "AAPL") -> tuple[Any, ...]:
    """Quantity, cost, realized P&L and epoch."""
    now = book.account("demo-1").holdings[symbol].now
    return now.quantity, now.cost, now.realized_ever, now.epoch
