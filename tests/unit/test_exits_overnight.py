"""Prices that change over night: splits rescale a rule once, and what nobody can explain holds.

If these fail, a position is sold because of a split, or kept through a crash.
"""

from __future__ import annotations

from typing import Any

import pytest

from processors.exits.explain import explain
from tests.exits_market import DAY, HOUR, NOON, OPENS, SECOND, Market, a_watch, guarded


def test_an_unexplained_move_over_night_holds_until_the_account_side_confirms() -> None:
    """Half the price in the morning: a crash, or a split that nobody announced. Only the broker knows."""
    market = guarded()
    tomorrow = NOON + DAY
    market.quote(50.0, 50.1, tomorrow)
    market.quote(50.0, 50.1, tomorrow + 1)
    assert ([g for g, _ in market.told("held")], market.fired()) == (["overnight_move"], [])
    market.watch(a_watch(price_basis_ts=tomorrow))
    market.quote(50.0, 50.1, tomorrow + 2)
    assert market.fired() == ["a:AAPL:1:0"]


@pytest.mark.parametrize(("bid", "fires"), [(75.0, True), (74.99, False)])
def test_a_quarter_of_the_price_over_night_is_the_limit(bid: float, fires: bool) -> None:
    """A fall by 25 percent is a bad morning, more may be a split."""
    market = guarded()
    market.quote(bid, bid + 0.1, NOON + DAY)
    market.quote(bid, bid + 0.1, NOON + DAY + 1)
    assert bool(market.fired()) is fires


def an_action(**more: Any) -> dict[str, Any]:
    """A split of 2 for 1 that takes effect the next morning."""
    known = {"action_id": "x", "kind": "forward_split", "ts": OPENS + DAY - 9 * HOUR, "removed": False}
    return {**known, "old_rate": 1, "new_rate": 2, **more}


def test_a_split_rescales_rule_and_high_water_mark_as_one_event() -> None:
    """100 becomes 50 over night; a trailing stop of 5 behind 100 becomes one of 2.50 behind 50."""
    market = guarded(kind="trailing_stop", trail_price="5")
    market.other("corporate_action", an_action())
    market.quote(50.0, 50.1, NOON + DAY)
    market.quote(47.51, 47.6, NOON + DAY + SECOND)
    assert market.fired() == []
    assert market.told("rescaled") == [("", "forward_split x: 1 to 2")]
    market.quote(47.5, 47.6, NOON + DAY + 2 * SECOND)
    (trigger,) = market.triggers
    assert (float(trigger["high_water"]), float(trigger["threshold"])) == (50.0, 47.5)
    assert explain(trigger).fires


def test_a_split_of_long_ago_is_no_concern_of_a_new_rule() -> None:
    """Announcements are kept; a rule that was set after a split is in its shares already."""
    market = Market()
    market.other("corporate_action", an_action(ts=OPENS - 100 * DAY))
    market.watch(a_watch("trailing_stop", trail_price="5"))
    market.quote(100.0, 100.1)
    market.quote(95.01, 95.1)
    assert (market.told("rescaled"), market.fired()) == ([], [])


def test_the_account_sides_prices_after_a_split_are_not_rescaled_twice() -> None:
    """The watch comes again in new shares: 47.50 stays 47.50, whichever comes first."""
    market = guarded()
    market.other("corporate_action", an_action())
    market.quote(50.0, 50.1, NOON + DAY)
    market.watch(a_watch(stop_price="47.5", quantity=200, price_basis_ts=NOON + DAY))
    market.quote(47.51, 47.6, NOON + DAY + SECOND)
    assert market.fired() == []
    market.quote(47.5, 47.6, NOON + DAY + 2 * SECOND)
    assert market.fired() == ["a:AAPL:1:0"]


@pytest.mark.parametrize("kind", ["spin_off", "stock_merger"])
def test_an_action_that_cannot_be_computed_holds_with_an_alert_until_it_is_confirmed(kind: str) -> None:
    """What a share is worth after it, only the broker's position tells."""
    market = guarded()
    market.other("corporate_action", an_action(kind=kind))
    market.quote(94.0, 94.1, NOON + DAY)
    market.quote(94.0, 94.1, NOON + DAY + 1)
    assert market.fired() == []
    assert {g for g, _ in market.told("alert")} == {"corporate_action"}
    market.watch(a_watch(price_basis_ts=NOON + DAY))
    market.quote(94.0, 94.1, NOON + DAY + 2)
    assert market.fired() == ["a:AAPL:1:0"]


def test_a_split_that_is_withdrawn_after_it_took_effect_holds() -> None:
    """Rules were rescaled by it: nothing is sold on that."""
    market = guarded()
    market.other("corporate_action", an_action())
    market.quote(50.0, 50.1, NOON + DAY)
    market.other("corporate_action", an_action(removed=True))
    market.quote(40.0, 40.1, NOON + DAY + SECOND)
    assert ({g for g, _ in market.told("held")}, market.fired()) == ({"corporate_action"}, [])
