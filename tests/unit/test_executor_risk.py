"""The checks before an order: at each limit it passes, one step beyond it is refused. An unchecked order can
lose more than an account holds; an exit that is checked like one traps its position."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from schemas.event_id import intent_event_id
from schemas.order_ids import client_order_id, trigger_name
from sinks.executor import intents, risk
from sinks.executor.broker_types import NewOrder
from sinks.executor.intents import Intent
from sinks.executor.risk import Breach, Proposal
from sinks.executor.rulebook import rules_of
from sinks.executor.sizing import Size
from tests.unit.executor_model import (
    ACCOUNT,
    ASSET,
    NOW,
    SECOND,
    clock,
    exit_intent,
    facts,
    order_intent,
    position,
)
from tidewire.errors import RecordError
from tidewire.risk_limits import RiskLimits

D = Decimal
NONE = RiskLimits(max_quantity=None, max_notional=None, price_band_percent=None, max_daily_loss=None)


def proposed(limits: RiskLimits, look: dict[str, Any], **order: Any) -> Breach | None:
    own: dict[str, Any] = {
        "client_order_id": "c", "symbol": "AAPL", "side": "buy", "type": "market", "time_in_force": "day",
        "quantity": D(10),
    }  # fmt: skip
    new = NewOrder(**(own | order))
    intent = order_intent(side=new.side, quantity=new.quantity, notional=new.notional)
    return risk.for_order(Proposal(intent, new, facts(**look), limits))


def account(**more: Any) -> dict[str, Any]:
    return {"account": replace(ACCOUNT, **more)}


def asset(**more: Any) -> dict[str, Any]:
    return {"asset": replace(ASSET, **more)}


SHORT = replace(NONE, allow_short=True)
SELL = {"side": "sell"}
FRACTION = {"quantity": D("0.5")}
# check, limits, order; what is known of the world at the limit, and beyond it. The quote is 99 by 101.
BOUNDARIES: list[tuple[str, RiskLimits, dict[str, Any], dict[str, Any], dict[str, Any]]] = [
    ("account", NONE, {}, account(status="ACTIVE"), account(status="ACCOUNT_CLOSED")),
    ("account", NONE, {}, account(trading_blocked=False), account(trading_blocked=True)),
    ("account", NONE, {}, {}, account(trade_suspended_by_user=True)),
    ("asset", NONE, {}, asset(tradable=True), asset(tradable=False)),
    ("asset", NONE, {}, {}, {"asset": None}),
    ("fractionable", NONE, FRACTION, asset(fractionable=True), asset(fractionable=False)),
    ("shortable", SHORT, SELL, asset(shortable=True), asset(shortable=False)),
    ("shortable", SHORT, SELL, asset(easy_to_borrow=True), asset(easy_to_borrow=False)),
    ("shortable", SHORT, SELL, {}, account(shorting_enabled=False)),
    ("shortable", NONE, SELL, {"position": position(10)}, {"position": position(9)}),
    (
        "orders_per_minute", replace(NONE, orders_per_minute=3), {},
        {"orders_in_minute": 2}, {"orders_in_minute": 3},
    ),
    (
        "daily_loss", replace(NONE, max_daily_loss=D(100)), {},
        account(equity=D(9_900)), account(equity=D("9899.99")),
    ),
    ("duplicate", NONE, {}, {"twin": None}, {"twin": "other"}),
    ("buying_power", NONE, {}, account(buying_power=D(1_010)), account(buying_power=D("1009.99"))),
    ("buying_power", SHORT, SELL, account(buying_power=D(990)), account(buying_power=D("989.99"))),
]  # fmt: skip


@pytest.mark.parametrize(("check", "limits", "order", "at", "beyond"), BOUNDARIES)
def test_each_check_at_its_boundary(
    check: str, limits: RiskLimits, order: dict[str, Any], at: dict[str, Any], beyond: dict[str, Any]
) -> None:
    """A limit that is one off is no limit."""
    assert proposed(limits, at, **order) is None
    refused = proposed(limits, beyond, **order)
    assert refused is not None
    assert refused.check == check


# check, limits; the order at the limit, and beyond it
SIZES: list[tuple[str, RiskLimits, dict[str, Any], dict[str, Any]]] = [
    ("quantity", replace(NONE, max_quantity=D(10)), {}, {"quantity": D("10.000000001")}),
    ("notional", replace(NONE, max_notional=D(1_010)), {}, {"quantity": D("10.01")}),
    ("notional", replace(NONE, max_notional=D(500)), {"quantity": None, "notional": D(500)},
     {"quantity": None, "notional": D("500.01")}),
    ("price_band", replace(NONE, price_band_percent=D(10)), {"type": "limit", "limit_price": D(110)},
     {"type": "limit", "limit_price": D("110.01")}),
    ("price_band", replace(NONE, price_band_percent=D(10)), {"type": "limit", "limit_price": D(90)},
     {"type": "limit", "limit_price": D("89.99")}),
]  # fmt: skip


@pytest.mark.parametrize(("check", "limits", "at", "beyond"), SIZES)
def test_each_size_at_its_boundary(
    check: str, limits: RiskLimits, at: dict[str, Any], beyond: dict[str, Any]
) -> None:
    """The same for what the order itself says."""
    rich = account(buying_power=D(10**9))
    assert proposed(limits, rich, **at) is None
    refused = proposed(limits, rich, **beyond)
    assert refused is not None
    assert refused.check == check


def test_without_a_price_nothing_that_needs_one_passes() -> None:
    """Not knowing what an order costs must refuse it."""
    blind = proposed(replace(NONE, max_notional=D(1)), {"quote": None})
    assert blind is not None
    assert blind.check == "notional"


def test_closing_needs_no_buying_power_and_is_no_short() -> None:
    """A strategy out of money must still be able to sell what it holds."""
    assert proposed(NONE, account(buying_power=D(0)) | {"position": position(10)}, **SELL) is None


def test_no_check_traps_a_position() -> None:
    """A stop fires when prices run and money is lost: just then each of the limits would hold it back."""
    rules = rules_of(RiskLimits(max_quantity=D(1), max_notional=D(1), price_band_percent=D("0.1"),
                                orders_per_minute=0, max_daily_loss=D(0)))  # fmt: skip
    look = facts(
        position=position(10), orders_in_minute=100, account=replace(ACCOUNT, equity=D(1), buying_power=D(0))
    )
    intent = exit_intent(reference_price=D(1_000))
    order = rules.shape(intent, Size("sell", D(10)), look, "c")
    assert isinstance(order, NewOrder)
    assert rules.check(intent, order, look) is None


def test_an_exit_waits_for_trading_hours() -> None:
    """A market order for a closed exchange trades at the next open, at a price that no rule has seen."""
    rules = rules_of(RiskLimits())
    evening = facts(clock=clock(NOW + 9 * 3600 * SECOND, is_open=False), position=position(10))
    held = rules.shape(exit_intent(), Size("sell", D(10)), evening, "c")
    assert isinstance(held, Breach)
    assert held.check == "trading_hours"
    extended = rules.shape(exit_intent(extended_hours=True), Size("sell", D(10)), evening, "c")
    assert isinstance(extended, NewOrder)
    assert (extended.type, extended.extended_hours, extended.limit_price) == ("limit", True, D("98.5"))


def record(**more: Any) -> dict[str, Any]:
    intent = exit_intent()
    own = {name: getattr(intent, name) for name in Intent.__dataclass_fields__ if name != "exit_epoch"}
    own |= {
        "client_order_id": client_order_id(intent.intent_id, 0), "origin": "exit:stop", "attempt": 0,
        "reason": "", "source": "ws", "event_id": intent_event_id("one", intent.intent_id),
    }  # fmt: skip
    return own | more


@pytest.mark.parametrize(
    "wrong",
    [
        {"trigger_id": trigger_name("one", "AAPL", 0, 1)},
        {"trigger_id": None},
        {"position_epoch": None},
        {"intent_id": "x"},
        {"client_order_id": "x"},
        {"attempt": 1},
        {"side": "hold"},
        {"kind": "wish"},
        {"foreign_orders": "ignore"},
        {"quantity": D(0)},
        {"limit_price": D(-1)},
        {"kind": "order", "trigger_id": None, "quantity": None},
        {"kind": "order", "trigger_id": None, "quantity": D(1), "order_type": "limit"},
        {"kind": "order", "quantity": D(1)},
    ],
)
def test_a_malformed_intent_is_refused_whole(wrong: dict[str, Any]) -> None:
    """What contradicts itself must never be guessed at with somebody's money."""
    assert intents.read(record()) == exit_intent()
    with pytest.raises(RecordError):
        intents.read(record(**wrong))
