"""The machine among orders and hands of others: what stays in the way, what takes our order's place, dust.

If these fail, an exit uses up the account's requests, miscounts what it sold, or never ends.
"""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from processors.placing.attempts import Attempt, from_row, to_row
from schemas.exit_rules import PERMANENT
from sinks.executor import machine
from sinks.executor.broker_types import Asset, BrokerOrder, NewOrder
from sinks.executor.machine import LONGEST_PAUSE_NS, PAUSE_NS
from sinks.executor.moves import Clear, Denied, Event, Post, Shown, State, Step, Survey, Surveyed, Watch
from sinks.executor.refusals import Verdict
from sinks.executor.rulebook import rules_of
from tests.unit.executor_model import ASSET, NOW, broker_order, exit_intent, facts, order_intent, position
from tidewire.risk_limits import RiskLimits

RULES = rules_of(RiskLimits())
FOREIGN = broker_order(NewOrder("theirs", "AAPL", "sell", "limit", "day", Decimal(10), None, Decimal(500)), 9)


def step(state: State, event: Event, **intent: Any) -> Step:
    return machine.step(exit_intent(**intent), state, event, RULES)


def test_what_stays_in_the_way_is_asked_for_ever_more_rarely() -> None:
    """An order that cannot be cancelled, or is adopted, would cost 10 requests a second, of 200 a minute."""
    look = Surveyed(facts(position=position(10, 0), open_orders=(FOREIGN,)))
    for mode in ("cancel", "adopt"):
        state, pauses = State(), []
        for _ in range(8):
            found = step(state, look, foreign_orders=mode)
            assert isinstance(found.action, Clear if mode == "cancel" else Survey)
            pauses.append(found.action.pause)
            state = found.state
        assert pauses[0] <= PAUSE_NS  # the first cancel goes out at once
        assert pauses[2:] == [min(PAUSE_NS << n, LONGEST_PAUSE_NS) for n in range(1, 7)]


@pytest.mark.parametrize(("mode", "ends"), [("respect", True), ("cancel", False)])
def test_a_wash_trade_with_a_respected_order_ends_the_attempt(mode: str, ends: bool) -> None:
    """Nothing changes while it stands: the same POST again and again is no exit either."""
    sent = step(State(), Surveyed(facts(position=position(10))), foreign_orders=mode).state
    found = step(sent, Denied("wash trade", NOW, Verdict("crossing", "clear")), foreign_orders=mode)
    assert found.state.done is ends
    assert found.state.outcome == ("rejected" if ends else None)


def test_the_fills_of_an_order_and_of_the_one_in_its_place_add_up() -> None:
    """Two of ten are sold at 100, somebody changes the price, eight at 110: ten in all, at 108."""
    sent = step(State(), Surveyed(facts(position=position(10))))
    assert isinstance(sent.action, Post)
    first = replace(
        broker_order(sent.action.order, 1), filled_quantity=Decimal(2), average_price=Decimal(100)
    )
    followed = step(sent.state, Shown(replace(first, status="replaced", replaced_by="o2"), NOW))
    assert followed.action == Watch("o2")
    other: BrokerOrder = replace(first, id="o2", filled_quantity=Decimal(8), average_price=Decimal(110))
    ended = step(followed.state, Shown(replace(other, status="filled"), NOW))
    assert [ended.state.all_filled, ended.state.all_average, ended.state.attempt] == [10, 108, 0]


COIN = replace(
    ASSET, asset_class="crypto", min_order_size=Decimal("0.01"), min_trade_increment=Decimal("0.01")
)


@pytest.mark.parametrize(
    ("held", "free", "outcome"),
    [("0.009", "0.009", "closed"), ("0.01", "0.01", None), ("5", "0.009", "refused")],
)
def test_dust_is_what_is_held_and_not_what_others_leave(held: str, free: str, outcome: str | None) -> None:
    """Five coins that others hold for orders are no dust: their exit must be tried again."""
    found = _of_coin(COIN, held, free)
    assert found.state.outcome == outcome
    assert not found.state.reason.startswith(PERMANENT)
    assert found.state.remaining == (None if outcome is None else Decimal(held))


def _of_coin(asset: Asset, held: str, free: str) -> Step:
    intent = exit_intent(symbol="BTC/USD", foreign_orders="respect")
    state = State(looks=machine.MOST_LOOKS)  # the hold of others is believed
    there = position(Decimal(held), Decimal(free))
    return machine.step(intent, state, Surveyed(facts(position=there, asset=asset)), RULES)


def test_dust_ends_an_exit_until_there_is_more() -> None:
    """The broker keeps showing it: each of its words would fire the exit again, for nothing."""
    result = {
        "outcome": "closed", "reason": "dust: 0.009 are less than the broker trades", "received_ts": NOW,
        "filled_quantity": Decimal("0.49"), "remaining": Decimal("0.009"),
    }  # fmt: skip
    done = Attempt(3).ended(3, result)
    assert (done.epoch, done.dust, done.down, done.done_ts) == (3, True, False, NOW)
    assert from_row(to_row({1: done})) == {1: done}
    left = Attempt(3).ended(3, result | {"outcome": "canceled"})
    assert (left.epoch, left.dust, left.done_ts) == (4, False, None)


@pytest.mark.parametrize(
    ("changed", "same"),
    [({"quantity": Decimal(11)}, False), ({"side": "sell"}, False), ({"ts": NOW + 1}, True), ({}, True)],
)
def test_an_intent_is_a_repeat_when_it_says_the_same(changed: dict[str, Any], same: bool) -> None:
    """Two orders under one id are two orders to whoever sent them; the second must not vanish."""
    assert order_intent(**changed).says_as(order_intent()) is same


def test_the_other_rule_of_a_position_fires_as_the_same_exit() -> None:
    """Stop and trailing stop may both fire, each with its own words; that is one exit."""
    assert exit_intent(order_type="limit", limit_price=Decimal(5)).says_as(exit_intent())
    assert not exit_intent().says_as(order_intent())
