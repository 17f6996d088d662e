"""Volatility pauses and price bands: what holds an exit, and what lets it go when the word of it was lost.

If these fail, a stop is sent into a pause and fills at whatever comes after it, or is held for a whole day
because one message was missed.
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.exits_market import MINUTE, SECOND, Market, guarded

FIRED = ["a:AAPL:1:0"]
PAUSES = [
    {"status_code": "P", "status_message": "Volatility Trading Pause", "reason_message": "LUDP"},
    {"status_code": "H", "status_message": "Trading Halt", "reason_message": "Volatility Trading Pause"},
    {"status_code": "2", "status_message": "Trading Halt", "reason_message": "LULD pause"},
    {"status_code": "1", "status_message": "Trading Halt", "reason_message": "Market-wide circuit breaker"},
]
RESUMES = {"P": "T", "H": "T", "2": "3", "1": "3"}


def held(market: Market) -> list[str]:
    """Names of the gates that held a rule."""
    return [gate for gate, _ in market.told("held")]


@pytest.mark.parametrize("pause", PAUSES)
def test_a_pause_of_either_tape_holds_until_trading_goes_on(pause: dict[str, Any]) -> None:
    """Each tape has letters of its own for it."""
    market = guarded()
    market.other("status", pause)
    market.quote(94.0, 94.1)
    assert (held(market), market.fired()) == (["halt"], [])
    market.other("status", {**pause, "status_code": RESUMES[pause["status_code"]]})
    market.quote(94.0, 94.1)
    assert market.fired() == FIRED


def test_the_limit_state_before_a_pause_is_a_price_and_what_lies_outside_is_none() -> None:
    """At the band shares trade, so a stop that is reached there is sent before the pause comes."""
    market = guarded()
    market.other("luld", {"limit_up_price": 105.0, "limit_down_price": 94.5})
    market.quote(94.4, 94.5)  # the offer at the band: nobody may buy below it
    assert (held(market), market.fired()) == (["luld"], [])
    market.quote(94.5, 94.5001)
    assert market.fired() == FIRED


def test_a_band_that_nobody_has_told_for_long_says_nothing() -> None:
    """Bands are told twice a minute; a word of them that was lost must not hold a stop for ever."""
    market = guarded()
    market.other("luld", {"limit_up_price": 105.0, "limit_down_price": 94.5})
    market.quote(94.0, 94.1)
    assert held(market) == ["luld"]
    market.quote(94.0, 94.1, market.now + 11 * MINUTE)
    assert market.fired() == FIRED


def test_trades_after_a_halt_prove_that_trading_goes_on() -> None:
    """Statuses are told once and have no history: a resumption that was lost in a gap never comes again."""
    market = guarded()
    market.other("status", PAUSES[0])
    paused = market.now
    market.trade(94.0, ts=paused + 2 * SECOND)  # of before the pause, as other clocks have it
    for second in range(6, 12):
        market.trade(94.0, ["Z"], paused + second * SECOND)  # reported late: no news of trading
        market.trade(94.0, ts=paused + second * SECOND, source="rest")
    for second in (13, 14):
        market.trade(94.0, ts=paused + second * SECOND)
    market.quote(94.0, 94.1)
    assert (held(market), market.fired()) == (["halt"], [])
    market.commit()
    market.crash()
    market.trade(94.0, ts=paused + 15 * SECOND)
    assert market.fired() == []  # the price of during the halt is none: a new one decides
    market.quote(94.0, 94.1)
    assert market.fired() == FIRED


def test_a_new_halt_asks_for_new_proof() -> None:
    """Trades between two pauses prove nothing of the second."""
    market = guarded()
    market.other("status", PAUSES[0])
    for second in (6, 7):
        market.trade(94.0, ts=market.now + second * SECOND)
    market.other("status", PAUSES[1])
    market.trade(94.0, ts=market.now + 6 * SECOND)
    market.quote(94.0, 94.1)
    assert (held(market), market.fired()) == (["halt"], [])
