"""The table of orders that Alpaca takes, row by row, and what its refusals mean.

A wrong row costs a user an exit: the broker refuses it while the price runs away, or it waits until tomorrow.
"""

from __future__ import annotations

import itertools
from datetime import datetime
from decimal import Decimal
from typing import Any, get_args
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sinks.executor import order_table, refusals
from sinks.executor.broker_types import (
    Asset,
    BrokerClock,
    BrokerQuote,
    NewOrder,
    OrderType,
    Refused,
    TimeInForce,
)
from sinks.executor.order_table import No, Session, Shape, Size

EQUITY, OPTION, CRYPTO = "us_equity", "us_option", "crypto"
SESSIONS: tuple[Session, ...] = get_args(Session)
SIZES: dict[Size, Decimal | None] = {"whole": Decimal(3), "fractional": Decimal("0.5"), "notional": None}
MARKET_DAY, LIMIT_OUT, COIN = (
    Shape("market", "day", False),
    Shape("limit", "day", True),
    Shape("market", "gtc", False),
)


def asset(*, overnight: bool = True) -> Asset:
    return Asset("X", EQUITY, "active", True, True, True, True, True, overnight)


def order(size: Size, type: OrderType, tif: TimeInForce, *, extended: bool = False) -> NewOrder:
    quantity = SIZES[size]
    notional = Decimal(50) if quantity is None else None
    return NewOrder("id", "X", "sell", type, tif, quantity, notional, extended_hours=extended)


STOCK_LONG: dict[OrderType, str] = {
    "market": "day gtc ioc fok cls",
    "limit": "day gtc ioc fok cls",
    "stop": "day gtc",
    "stop_limit": "day gtc",
}
FRACTIONS: dict[OrderType, str] = {"market": "day", "limit": "day", "stop": "day", "stop_limit": "day"}
COINS: dict[OrderType, str] = {"market": "gtc ioc", "limit": "gtc ioc", "stop_limit": "gtc ioc"}

# (class, session, size) -> (what is taken, whether only with extended_hours, what an exit is sent as)
WANTED: dict[tuple[str, Session, Size], tuple[dict[OrderType, str], bool, Shape | None]] = {
    (EQUITY, "regular", "whole"): (STOCK_LONG, False, MARKET_DAY),
    (EQUITY, "regular", "fractional"): (FRACTIONS, False, MARKET_DAY),
    (EQUITY, "regular", "notional"): ({"market": "day"}, False, None),
    (EQUITY, "pre", "whole"): ({"limit": "day"}, True, LIMIT_OUT),
    (EQUITY, "pre", "fractional"): ({"limit": "day"}, True, LIMIT_OUT),
    (EQUITY, "post", "whole"): ({"limit": "day"}, True, LIMIT_OUT),
    (EQUITY, "post", "fractional"): ({"limit": "day"}, True, LIMIT_OUT),
    (EQUITY, "overnight", "whole"): ({"limit": "day"}, True, LIMIT_OUT),
    (EQUITY, "overnight", "fractional"): ({"limit": "day"}, True, LIMIT_OUT),
    (OPTION, "regular", "whole"): ({"market": "day", "limit": "day"}, False, MARKET_DAY),
    **{(CRYPTO, s, "whole"): (COINS, False, COIN) for s in SESSIONS},
    **{(CRYPTO, s, "fractional"): (COINS, False, COIN) for s in SESSIONS},
    **{(CRYPTO, s, "notional"): ({"market": "gtc ioc"}, False, None) for s in SESSIONS},
}
ROWS: list[Any] = list(itertools.product((EQUITY, OPTION, CRYPTO), SESSIONS, SIZES))


@pytest.mark.parametrize(("of_class", "session", "size"), ROWS)
def test_every_row_takes_what_it_says_and_nothing_else(of_class: str, session: Session, size: Size) -> None:
    """Every type and time in force, in every session: a row that is too wide is refused by the broker."""
    taken, extended, _ = WANTED.get((of_class, session, size), ({}, False, None))
    for type, tif in itertools.product(get_args(OrderType), get_args(TimeInForce)):
        found = order_table.forbids(order(size, type, tif, extended=extended), of_class, session, asset())
        assert (found is None) == (tif in taken.get(type, "").split()), (type, tif, found)
        if extended:  # without the flag it would wait for the opening
            assert order_table.forbids(order(size, type, tif), of_class, session, asset()) is not None


@pytest.mark.parametrize(("of_class", "session", "size"), ROWS)
def test_what_an_exit_is_sent_as(of_class: str, session: Session, size: Size) -> None:
    """An exit in a session of limit orders must not be a market order, nor the other way round."""
    quantity = SIZES[size]
    if quantity is None:
        return
    _, extended, exit = WANTED.get((of_class, session, size), ({}, False, None))
    found = order_table.exit_shape(of_class, session, quantity, asset(), extended_hours=True)
    assert found == exit or (exit is None and isinstance(found, No))
    shy = order_table.exit_shape(of_class, session, quantity, asset(), extended_hours=False)
    assert isinstance(shy, No) if extended or exit is None else shy == exit
    if exit is not None and found == exit:  # and what it is sent as, is taken
        sent = order(size, exit.type, exit.time_in_force, extended=exit.extended_hours)
        assert order_table.forbids(sent, of_class, session, asset()) is None
        limit = order_table.exit_shape(of_class, session, quantity, asset(), extended_hours=True, limit=True)
        assert isinstance(limit, Shape)
        assert limit.priced
        sent = order(size, limit.type, limit.time_in_force, extended=limit.extended_hours)
        assert order_table.forbids(sent, of_class, session, asset()) is None


def test_overnight_is_for_stocks_that_the_broker_names() -> None:
    """The broker would refuse the others, every few seconds, all night."""
    for known in (asset(overnight=False), None):
        found = order_table.exit_shape(EQUITY, "overnight", Decimal(1), known, extended_hours=True)
        assert isinstance(found, No)
        assert found.later
    assert not isinstance(
        order_table.exit_shape(CRYPTO, "overnight", Decimal(1), None, extended_hours=False), No
    )


def test_an_order_for_extended_hours_may_be_placed_in_the_regular_session() -> None:
    """A strategy's limit order that is to work on after the close is no mistake."""
    assert order_table.forbids(order("whole", "limit", "day", extended=True), EQUITY, "regular", None) is None
    for wrong in (
        order("whole", "market", "day", extended=True),
        order("whole", "limit", "gtc", extended=True),
    ):
        assert order_table.forbids(wrong, EQUITY, "regular", None) is not None
    assert order_table.forbids(order("whole", "limit", "gtc", extended=True), CRYPTO, "regular", None)


def ns(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo("America/New_York")).timestamp()) * 10**9


@pytest.mark.parametrize(
    ("now", "is_open", "next_open", "session"),
    [
        ("2026-03-03T03:59:59", False, "2026-03-03T09:30", "overnight"),
        ("2026-03-03T04:00:00", False, "2026-03-03T09:30", "pre"),
        ("2026-03-03T09:29:59", False, "2026-03-03T09:30", "pre"),
        ("2026-03-03T09:30:00", True, "2026-03-04T09:30", "regular"),
        ("2026-03-03T15:59:59", True, "2026-03-04T09:30", "regular"),
        ("2026-03-03T16:00:00", False, "2026-03-04T09:30", "post"),
        ("2026-03-03T19:59:59", False, "2026-03-04T09:30", "post"),
        ("2026-03-03T20:00:00", False, "2026-03-04T09:30", "overnight"),
        ("2026-03-06T20:00:00", False, "2026-03-09T09:30", "closed"),  # a Friday
        ("2026-03-07T12:00:00", False, "2026-03-09T09:30", "closed"),
        ("2026-03-07T15:00:00", False, "2026-03-09T09:30", "closed"),
        ("2026-03-08T19:59:59", False, "2026-03-09T09:30", "closed"),
        ("2026-03-08T20:00:00", False, "2026-03-09T09:30", "overnight"),  # Sunday evening
        ("2026-11-26T10:00:00", False, "2026-11-27T09:30", "closed"),  # Thanksgiving
        ("2026-11-27T13:00:00", False, "2026-11-30T09:30", "post"),  # closes early
    ],
)
def test_the_session_by_the_brokers_clock(now: str, is_open: bool, next_open: str, session: Session) -> None:
    """A second at each boundary: an order of the wrong kind is refused, or fills at the opening."""
    clock = BrokerClock(ns(now), is_open, ns(next_open), ns(next_open))
    assert order_table.session_of(clock) == session


PRICES = st.decimals(Decimal("0.0002"), Decimal(100_000), places=4)


@settings(max_examples=60)
@given(
    PRICES,
    st.decimals(0, 20, places=2),
    st.sampled_from(["buy", "sell"]),
    st.sampled_from([EQUITY, OPTION, CRYPTO]),
)
def test_limit_prices_go_through_the_quote(price: Decimal, offset: Decimal, side: Any, of_class: str) -> None:
    """A limit on the near side of the quote would not trade, and the loss runs on."""
    quote = BrokerQuote("X", price, price, 0)
    found = order_table.limit_through(side, quote, offset, of_class)
    if found is None:
        assert side == "sell"  # nothing above zero is left of it
        return
    assert found >= price if side == "buy" else found <= price
    step = {EQUITY: Decimal("0.01") if found >= 1 else Decimal("0.0001"), OPTION: Decimal("0.05")}
    assert found % step.get(of_class, Decimal("0.000000001")) == 0
    exact = price * (100 + (offset if side == "buy" else -offset)) / 100
    assert abs(found - exact) <= Decimal("0.1")


def test_no_limit_price_without_a_quote() -> None:
    """Nothing may be sold at a price that nobody named."""
    empty = BrokerQuote("X", Decimal(0), Decimal(5), 0)
    assert order_table.limit_through("sell", empty, Decimal(1), EQUITY) is None
    assert order_table.limit_through("sell", None, Decimal(1), EQUITY) is None
    assert order_table.limit_through("buy", empty, Decimal(1), EQUITY) == Decimal("5.05")


@pytest.mark.parametrize(
    ("status", "code", "message", "name", "next"),
    [
        (422, 40010001, "client_order_id must be unique", "reused", "look_up"),
        (403, 40310000, "insufficient qty available for order (requested: 1, available: 0)", "held", "clear"),
        (403, 40310000, "insufficient balance for BTC (requested: 1, available: 0)", "held", "clear"),
        (403, 40310000, "potential wash trade detected. use complex orders", "crossing", "clear"),
        (403, 40310000, "insufficient buying power", "buying_power", "end"),
        (403, 40310000, "trading is suspended by user (suspend_trade)", "suspended", "end"),
        (403, 40310000, "account is not allowed to short", "short", "end"),
        (403, 40310000, "cost basis must be >= minimal amount of order 1", "too_small", "end"),
        (422, 42210000, "position intent mismatch, inferred: sell_to_open, specified: sell_to_close",
         "flipped", "look_again"),
        (422, 42210000, 'asset "X" not found', "asset", "end"),
        (422, 42210000, "invalid limit_price 1.001. sub-penny increment does not fulfill", "price", "end"),
        (401, 40110000, "request is not authorized", "keys", "end"),
        (401, 0, "no reason given", "keys", "end"),
        (403, 40310000, "the moon is full", "unknown", "end"),
        (422, 42299999, "something new", "unknown", "end"),
        (418, 0, "no reason given", "unknown", "end"),
    ],
)  # fmt: skip
def test_what_refusals_mean(status: int, code: int, message: str, name: str, next: str) -> None:
    """A refusal that is not understood must end the order and be seen, not be tried for ever."""
    found = refusals.verdict(Refused(status, code, message))
    assert (found.name, found.next) == (name, next)
    assert found.alert == (name in ("unknown", "keys", "asset"))
