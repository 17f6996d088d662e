"""Each kind of exit rule at its boundary, long and short, on each reference price.

If these fail, a stop fires a cent early or late, or on the wrong side of a position.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from processors.exits.exactly import at_least, at_most, dec
from processors.exits.explain import explain
from tests.exits_market import HOUR, MINUTE, NOON, OPENS, SECOND, Market, a_watch

SHORT: dict[str, Any] = {"quantity": -100}

CROSSINGS = [
    # kind, watch, (bid, ask) that do nothing, (bid, ask) that fires
    ("stop_loss", {"stop_price": "95"}, (95.01, 95.02), (95.0, 95.02)),
    ("stop_loss", {"stop_price": "95.005"}, (95.01, 95.02), (95.0, 95.02)),
    ("stop_loss", {"stop_price": "105", **SHORT}, (104.0, 104.99), (104.0, 105.0)),
    ("stop_loss", {"stop_price": "95", "reference": "ask"}, (94.0, 95.01), (94.0, 95.0)),
    ("stop_loss", {"stop_price": "95", "reference": "mid"}, (94.99, 95.02), (94.99, 95.01)),
    ("take_profit", {"limit_price": "110"}, (109.99, 110.5), (110.0, 110.5)),
    ("take_profit", {"limit_price": "90", **SHORT}, (89.0, 90.01), (89.0, 90.0)),
]


@pytest.mark.parametrize(("kind", "more", "quiet", "fires"), CROSSINGS)
def test_a_level_is_reached_at_the_cent_and_not_before(
    kind: str, more: dict[str, Any], quiet: tuple[float, float], fires: tuple[float, float]
) -> None:
    """A stop that fires early sells what its owner meant to keep."""
    market = Market()
    market.watch(a_watch(kind, **more))
    market.quote(*quiet)
    assert market.fired() == []
    market.quote(*fires)
    assert market.fired() == ["a:AAPL:1:0"]
    assert explain(market.triggers[0]).fires


def test_an_absolute_trail_follows_the_best_price() -> None:
    """101 is the best bid, so that 99 is the stop; a better price moves it, a worse one does not."""
    market = Market()
    market.watch(a_watch("trailing_stop", trail_price="2"))
    for bid in (100.0, 101.0, 99.01, 100.5):
        market.quote(bid, bid + 0.1)
    assert market.fired() == []
    market.quote(99.0, 99.1)
    (trigger,) = market.triggers
    assert (trigger["high_water"], trigger["threshold"]) == (Decimal("101.0"), Decimal(99))


def test_a_trail_in_percent_follows_a_short_position_down() -> None:
    """80 is the best ask of a short position: 5 percent above it is the stop."""
    market = Market()
    market.watch(a_watch("trailing_stop", trail_percent="5", **SHORT))
    for ask in (90.0, 80.0, 83.99):
        market.quote(ask - 0.1, ask)
    assert market.fired() == []
    market.quote(83.9, 84.0)
    assert market.triggers[0]["threshold"] == Decimal(84)
    assert explain(market.triggers[0]).fires


def test_trades_move_a_rule_on_last_and_quotes_do_not() -> None:
    """The reference price is the rule's choice."""
    market = Market()
    market.watch(a_watch(reference="last"))
    market.quote(94.0, 94.1)
    assert market.fired() == []
    market.trade(95.01)
    market.trade(94.05)
    assert market.fired() == ["a:AAPL:1:0"]
    assert [(i["topic"], i["value"]) for i in market.triggers[0]["inputs"]] == [
        ("stocks.trades", 94.05),
        ("stocks.quotes", 94.0),
        ("stocks.quotes", 94.1),
    ]
    assert explain(market.triggers[0]).fires


def test_a_time_stop_fires_at_its_second_though_another_symbol_tells_the_time() -> None:
    """A quiet position must be closed in time as well; its last quote is fresh enough."""
    market = Market()
    market.watch(a_watch("time_stop", after_seconds=60, opened_ts=NOON))
    market.watch(a_watch(symbol="MSFT", position_symbol="MSFT"))
    market.quote(100.0, 100.1, NOON + 50 * SECOND)
    market.quote(200.0, 200.1, NOON + 60 * SECOND - 1, "MSFT")
    assert market.fired() == []
    market.quote(200.0, 200.1, NOON + 60 * SECOND, "MSFT")
    (trigger,) = market.triggers
    assert [i["offset"] for i in trigger["inputs"]] == [0, 2]
    assert explain(trigger).fires


def test_an_end_of_day_rule_fires_so_long_before_the_close() -> None:
    """Five minutes before four o'clock, not a nanosecond earlier; the next day again, for what is left."""
    market = Market()
    market.watch(a_watch("end_of_day", before_close_seconds=300))
    due = OPENS + 385 * MINUTE
    market.quote(100.0, 100.1, due - 1)
    assert market.fired() == []
    market.quote(100.0, 100.1, due)
    assert market.fired() == ["a:AAPL:1:0"]
    market.watch(a_watch("end_of_day", before_close_seconds=300, exit_epoch=1))
    market.quote(100.0, 100.1, due + HOUR)
    market.quote(100.0, 100.1, due + 20 * HOUR)
    assert len(market.fired()) == 1
    market.quote(100.0, 100.1, due + 24 * HOUR)
    market.quote(100.0, 100.1, due + 24 * HOUR + 1)
    assert market.fired() == ["a:AAPL:1:0", "a:AAPL:1:1"]


def test_a_put_guarded_by_its_underlying_is_stopped_when_the_underlying_rises() -> None:
    """A long put loses when the stock rises: its stop on the stock lies above, its profit below."""
    put = "AAPL260619P00100000"
    market = Market()
    market.watch(a_watch(position_symbol=put, asset_class="us_option", stop_price="105", reference="ask"))
    market.quote(104.0, 104.99)
    assert market.fired() == []
    market.quote(104.9, 105.0)
    assert market.fired() == [f"a:{put}:1:0"]


def test_an_option_on_its_own_quote_and_a_pair_at_night() -> None:
    """Options trade by the exchange's hours, crypto at any."""
    call, midnight = "AAPL260619C00100000", OPENS - 9 * HOUR
    market = Market(midnight)
    market.watch(a_watch(symbol=call, position_symbol=call, stop_price="1.2", asset_class="us_option"))
    market.watch(a_watch(symbol="BTC/USD", position_symbol="BTC/USD", stop_price="60000.5", quantity="0.5"))
    market.quote(1.2, 1.3, symbol=call)
    market.quote(60000.5, 60001.0, symbol="BTC/USD")
    assert market.fired() == ["a:BTC/USD:1:0"]
    assert market.told("held") == [("session", "outside the regular hours")]
    market.quote(1.15, 1.3, NOON, symbol=call)
    market.quote(1.15, 1.3, NOON + 1, symbol=call)
    assert market.fired() == ["a:BTC/USD:1:0", f"a:{call}:1:0"]


def test_signals_tighten_a_rule_or_end_a_position() -> None:
    """A flash crash: one account wants out, the other a stop two percent from the price of that moment."""
    market = Market()
    tighten = {"kind": "flash_crash", "action": "tighten", "percent": "2"}
    market.watch(a_watch(stop_price="50", on_signal=tighten))
    market.watch(a_watch(account="b", stop_price="50", on_signal={"kind": "flash_crash", "action": "exit"}))
    market.watch(a_watch(account="c", stop_price="50", on_signal={"kind": "news_spike", "action": "exit"}))
    market.quote(100.0, 100.1)
    market.other("signal", {"kind": "flash_crash"})
    assert market.fired() == []
    market.quote(90.0, 90.1)
    assert market.fired() == ["b:AAPL:1:0"]
    market.quote(88.21, 88.3)
    market.quote(88.2, 88.3)
    assert market.fired() == ["b:AAPL:1:0", "a:AAPL:1:0"]
    assert all(explain(t).fires for t in market.triggers)


@pytest.mark.parametrize("wrong", [{"stop_price": None}, {"reference": "open"}, {"quantity": 0}])
def test_a_watch_that_cannot_be_read_is_held_with_an_alert(wrong: dict[str, Any]) -> None:
    """Nobody is guarded by a rule that says nothing: that must be seen, not found out."""
    market = Market()
    market.watch(a_watch(**wrong))
    market.quote(1.0, 1.1)
    assert [gate for gate, _ in market.told("held")] == [gate for gate, _ in market.told("alert")] == ["rule"]
    assert market.fired() == []


prices = st.floats(min_value=1e-9, max_value=1e9)
levels = st.decimals(min_value="0.000000001", max_value="1000000000", places=9)


@settings(max_examples=30)
@given(prices, levels)
def test_a_float_compares_with_a_level_as_its_decimal_does(price: float, level: Decimal) -> None:
    """Rounding must not move a stop: 0.1 + 0.2 is not 0.3, but a quote of 0.3 is."""
    for tried in (price, float(level)):
        assert (tried <= at_most(level)) is (dec(tried) <= level)
        assert (tried >= at_least(level)) is (dec(tried) >= level)
