"""Orders, positions and the rest: between what the executor says and Alpaca's JSON. Pure, exact numbers."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from schemas import trading_values as values
from schemas.trading_values import Json
from sinks.executor.broker_types import (
    Asset,
    BrokerAccount,
    BrokerClock,
    BrokerOrder,
    BrokerPosition,
    BrokerQuote,
    NewOrder,
)
from tidewire.errors import RecordError


def request(order: NewOrder) -> dict[str, Any]:
    """The body that places an order; numbers as text, so that none is rounded on the way.

    Raises:
        ValueError: not exactly one of quantity and notional.
    """
    if (order.quantity is None) == (order.notional is None):
        raise ValueError("an order has a quantity or a notional, and not both")
    amounts = {
        "qty": order.quantity,
        "notional": order.notional,
        "limit_price": order.limit_price,
        "stop_price": order.stop_price,
    }
    body: dict[str, Any] = {
        "client_order_id": order.client_order_id,
        "symbol": order.symbol,
        "side": order.side,
        "type": order.type,
        "time_in_force": order.time_in_force,
    }
    body |= {name: plain(amount) for name, amount in amounts.items() if amount is not None}
    if order.extended_hours:
        body["extended_hours"] = True
    if order.position_intent is not None:
        body["position_intent"] = order.position_intent
    return body


def plain(amount: Decimal) -> str:
    """Without an exponent and without needless zeros."""
    text = f"{amount:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def order(answer: Json) -> BrokerOrder:
    """An order as REST shows it. Raises RecordError."""
    return BrokerOrder(
        id=values.identity(answer, "id"),
        client_order_id=values.text(answer, "client_order_id") or "",
        symbol=values.symbol(answer),
        asset_class=values.text(answer, "asset_class") or "",
        side=values.side(answer),
        type=values.text(answer, "type") or values.text(answer, "order_type") or "",
        time_in_force=values.text(answer, "time_in_force") or "",
        status=values.identity(answer, "status"),
        quantity=values.number(answer, "qty"),
        notional=values.number(answer, "notional"),
        filled_quantity=values.number(answer, "filled_qty") or Decimal(0),
        average_price=values.loose(answer, "filled_avg_price"),
        limit_price=values.number(answer, "limit_price"),
        stop_price=values.number(answer, "stop_price"),
        extended_hours=answer.get("extended_hours") is True,
        submitted_ns=values.time(answer, "submitted_at"),
        updated_ns=values.time(answer, "updated_at"),
        replaced_by=values.text(answer, "replaced_by"),
        replaces=values.text(answer, "replaces"),
        reject_reason=values.text(answer, "reject_reason"),
        position_intent=values.text(answer, "position_intent"),
        order_class=values.text(answer, "order_class") or "",
        legs=tuple(order(leg) for leg in values.objects(answer, "legs")),
    )


def position(answer: Json) -> BrokerPosition:
    """A position as REST shows it: the sign of a short one is in `side`, in `qty`, or in both.

    Raises:
        RecordError: a number is missing or none.
    """
    size = abs(values.needed(answer, "qty"))
    short = values.text(answer, "side") == "short" or values.needed(answer, "qty") < 0
    available = values.number(answer, "qty_available")
    return BrokerPosition(
        symbol=values.symbol(answer),
        asset_class=values.text(answer, "asset_class") or "",
        quantity=-size if short else size,
        qty_available=size if available is None else abs(available),
        side="short" if short else "long",
        average_entry_price=values.loose(answer, "avg_entry_price"),
        current_price=values.loose(answer, "current_price"),
        market_value=values.loose(answer, "market_value"),
    )


def account(answer: Json) -> BrokerAccount:
    """The account as REST shows it. Raises RecordError."""
    power = values.needed(answer, "buying_power")
    cash_power = values.number(answer, "non_marginable_buying_power")
    options_power = values.number(answer, "options_buying_power")
    equity = values.needed(answer, "equity")
    return BrokerAccount(
        status=values.identity(answer, "status"),
        equity=equity,
        last_equity=values.needed(answer, "last_equity"),
        cash=values.needed(answer, "cash"),
        buying_power=power,
        non_marginable_buying_power=power if cash_power is None else cash_power,
        options_buying_power=power if options_power is None else options_power,
        shorting_enabled=answer.get("shorting_enabled") is True,
        # What is not said counts as blocked.
        trading_blocked=answer.get("trading_blocked") is not False,
        account_blocked=answer.get("account_blocked") is not False,
        trade_suspended_by_user=answer.get("trade_suspended_by_user") is not False,
    )


def asset(answer: Json, asset_class: str) -> Asset:
    """What REST says of a stock, a pair or an option contract. Raises RecordError."""
    return Asset(
        symbol=values.identity(answer, "symbol"),
        asset_class=values.text(answer, "class") or asset_class,
        status=values.text(answer, "status") or "",
        tradable=answer.get("tradable") is True and answer.get("status") == "active",
        fractionable=answer.get("fractionable") is True,
        shortable=answer.get("shortable") is True,
        easy_to_borrow=answer.get("easy_to_borrow") is True,
        marginable=answer.get("marginable") is True,
        overnight=_overnight(answer.get("attributes")),
        min_order_size=values.loose(answer, "min_order_size"),
        min_trade_increment=values.loose(answer, "min_trade_increment"),
        price_increment=values.loose(answer, "price_increment"),
    )


def clock(answer: Json) -> BrokerClock:
    """The broker's time. Raises RecordError."""
    return BrokerClock(
        _time(answer, "timestamp"),
        answer.get("is_open") is True,
        _time(answer, "next_open"),
        _time(answer, "next_close"),
    )


def quote(symbol: str, answer: Json) -> BrokerQuote:
    """A quote as the data API shows it. Raises RecordError."""
    return BrokerQuote(symbol, values.needed(answer, "bp"), values.needed(answer, "ap"), _time(answer, "t"))


def _time(answer: Json, name: str) -> int:
    found = values.time(answer, name)
    if found is None:
        raise RecordError(f"{name} is missing")
    return found


def _overnight(attributes: object) -> bool:
    known = attributes if isinstance(attributes, list) else []
    return "overnight_tradable" in known and "overnight_halted" not in known
