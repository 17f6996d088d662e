"""Signals to exits: a rule as a user sets it, through the placing, to the trigger and its explanation.

If these fail, a crash that everybody is told of ends no position, or ends one that nobody asked to end.
"""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest

from processors.exits.explain import explain
from processors.exits.intents import intent_of
from schemas.order_ids import trigger_name
from tests.unit.test_exits_basis import World, at


def guarded(action: str, kind: str = "flash_crash", **more: Any) -> World:
    """A stop at 50 under 100, with a wish for when a signal comes."""
    world = World()
    wish = {"kind": kind, "action": action, **more}
    world.rule({"kind": "stop_loss", "price": "50", "on_signal": wish}, at(11))
    world.quote(100.0, at(12))
    return world


def signal(world: World, kind: str = "flash_crash", symbol: str = "AAPL") -> None:
    """As the processor publishes it."""
    world.market.other("signal", {"kind": kind, "symbol": symbol})


def test_an_exit_on_a_signal_goes_at_the_next_good_price() -> None:
    """Not at a crossed one, and with an intent that says what is to be sold."""
    world = guarded("exit")
    signal(world)
    world.market.quote(96.0, 95.0)
    assert world.market.fired() == []
    world.market.quote(95.0, 95.02)
    (trigger,) = world.market.triggers
    assert explain(trigger).fires
    assert json.loads(trigger["evidence"])["what"] == "signal"
    intent = intent_of(trigger)
    assert (intent["symbol"], intent["side"], intent["reference_price"]) == ("AAPL", "sell", Decimal("95.0"))


def test_a_signal_tightens_to_the_price_of_its_moment_and_the_stop_never_loosens() -> None:
    """2 percent below 95; a second signal at a lower price leaves the nearer stop."""
    world = guarded("tighten", percent="2")
    signal(world)
    world.market.quote(95.0, 95.02)
    world.market.quote(93.11, 93.13)
    assert world.market.fired() == []
    world.market.quote(93.1, 93.12)
    (trigger,) = world.market.triggers
    assert trigger["threshold"] == Decimal("93.1")
    assert explain(trigger).fires


@pytest.mark.parametrize(("kind", "symbol"), [("news_spike", "AAPL"), ("flash_crash", "MSFT")])
def test_another_kind_or_symbol_changes_nothing(kind: str, symbol: str) -> None:
    """A user's rule names one kind."""
    world = guarded("exit")
    signal(world, kind, symbol)
    world.market.quote(95.0, 95.02)
    assert world.market.fired() == []


def test_an_exit_that_was_in_vain_is_tried_again_without_another_signal() -> None:
    """The broker refused the first attempt: the crash goes on, and its signal does not come twice."""
    world = guarded("exit")
    signal(world)
    world.market.quote(95.0, 95.02)
    name = trigger_name("demo-1", "AAPL", 1, 0)
    world.market.exits.result_published(name)
    result = {
        "account": "demo-1", "symbol": "AAPL", "trigger_id": name, "position_epoch": 1, "final": True,
        "outcome": "rejected", "reason": "", "remaining": Decimal(100), "filled_quantity": Decimal(0),
        "ts": world.market.now, "received_ts": world.market.now, "source": "rest",
    }  # fmt: skip
    assert world.desk.fold_result(result) == "applied"
    for change in world.desk.take():
        world.market.watch(change.watch)
    world.quote(94.0, world.market.now + 2_000_000_000)
    assert world.market.fired() == [name, trigger_name("demo-1", "AAPL", 1, 1)]


def test_a_signal_is_no_wish_of_a_later_position() -> None:
    """Whoever buys again after the crash wants to hold."""
    world = guarded("exit")
    signal(world)
    watch = world.watch() | {"position_epoch": 2}
    world.market.watch(watch)
    world.market.quote(95.0, 95.02)
    assert world.market.fired() == []
