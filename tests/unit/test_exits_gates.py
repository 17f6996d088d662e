"""Each gate at its boundary: it holds with its reason, and lets go on good data.

If these fail, a position is sold on a price that was none, or kept though its stop was reached.
"""

from __future__ import annotations

from typing import Any

import pytest

from processors.exits.explain import explain
from processors.exits.hours import NewYork
from tests.exits_market import DAY, HOUR, MINUTE, NOON, OPENS, SECOND, Market, a_watch, guarded

CLOSES = OPENS + 390 * MINUTE


BAD_QUOTES = [
    ((94.0, 93.9), "crossed"),
    ((94.0, 94.0), "locked"),
    ((0.0, 94.0), "zero"),
    ((94.0, 0.0), "zero"),
]


@pytest.mark.parametrize(("quote", "gate"), BAD_QUOTES)
def test_a_quote_that_is_none_holds_and_a_good_one_fires(quote: tuple[float, float], gate: str) -> None:
    """Invariant 9: IBM had 43 crossed quotes on a day; none of them is a price to sell at."""
    market = guarded()
    market.quote(*quote)
    market.quote(*quote)
    assert ([g for g, _ in market.told("held")], market.fired()) == ([gate], [])
    market.quote(94.0, 94.1)
    assert [g for g, _ in market.told("released")] == [gate]
    assert market.fired() == ["a:AAPL:1:0"]


def test_a_price_that_comes_back_lets_a_hold_go_without_an_exit() -> None:
    """The crossed quote was wrong, and nothing happened."""
    market = guarded()
    market.quote(94.0, 93.0)
    market.quote(101.0, 100.0)
    assert market.told("released") == []
    market.quote(100.0, 100.1)
    assert len(market.told("released")) == 1
    assert market.fired() == []


def test_a_crossed_quote_does_not_raise_the_high_water_mark() -> None:
    """Else the next good price would be far below a best price that never was."""
    market = guarded(kind="trailing_stop", trail_price="5")
    market.quote(120.0, 101.0)
    market.quote(100.0, 100.1)
    assert market.fired() == []


@pytest.mark.parametrize(("away", "held"), [(0, False), (1, True)])
def test_a_print_outside_the_nbbo_waits_until_the_quotes_are_there(away: int, held: bool) -> None:
    """One percent of the middle outside the bid of 96 is the limit: 95.0395 is at 96 - 0.9605."""
    market = guarded(reference="last", stop_price="95.5")
    market.quote(96.0, 96.1)
    market.trade(round(95.0395 - away * 0.0001, 4))
    assert [g for g, _ in market.told("held")] == (["print"] if held else [])
    assert market.fired() == ([] if held else ["a:AAPL:1:0"])
    market.quote(95.0, 95.1)
    assert market.fired() == ["a:AAPL:1:0"]
    assert explain(market.triggers[0]).fires


@pytest.mark.parametrize("letters", [["I"], ["@", "W"], ["Z"]])
def test_sale_conditions_that_do_not_set_the_last_price_fire_nothing(letters: list[str]) -> None:
    """Odd lots and average prices are no last price."""
    market = guarded(reference="last")
    market.trade(94.0, letters)
    assert ([g for g, _ in market.told("held")], market.fired()) == (["conditions"], [])
    market.trade(100.0, ["@"])
    assert [g for g, _ in market.told("released")] == ["conditions"]


def test_a_halt_holds_until_trading_goes_on_and_a_fresh_price_comes() -> None:
    """A quote of during the halt is no price; a status may be older than the watch."""
    market = Market()
    halt = {"status_code": "H", "status_message": "Trading Halt", "reason_message": ""}
    market.other("status", halt)
    market.watch(a_watch())
    assert market.told("held") == [("halt", "H: Trading Halt")]
    market.quote(94.0, 94.1)
    market.other("status", {**halt, "status_code": "Q"})
    market.quote(94.0, 94.1)
    market.other("status", {**halt, "status_code": "T"})
    assert market.fired() == []
    market.quote(94.0, 94.1)
    assert market.fired() == ["a:AAPL:1:0"]


def test_a_price_outside_the_luld_band_is_held() -> None:
    """Nothing trades there."""
    market = guarded()
    market.other("luld", {"limit_up_price": 105.0, "limit_down_price": 94.5})
    market.quote(94.49, 94.6)
    assert [g for g, _ in market.told("held")] == ["luld"]
    market.quote(94.5, 94.6)
    assert market.fired() == ["a:AAPL:1:0"]


@pytest.mark.parametrize(
    ("ts", "extended", "fires"),
    [
        (OPENS - 1, False, False),
        (OPENS, False, True),
        (CLOSES - 1, False, True),
        (CLOSES, False, False),
        (OPENS - 331 * MINUTE, True, False),
        (OPENS - 330 * MINUTE, True, True),
        (CLOSES + 4 * HOUR, True, False),
        (NOON + 5 * DAY, False, False),
    ],
)
def test_the_session_is_the_rules(ts: int, extended: bool, fires: bool) -> None:
    """Regular hours, or extended ones where the rule says so; never on a Saturday."""
    market = Market(ts)
    market.watch(a_watch(extended_hours=extended))
    market.quote(94.0, 94.1, ts)
    assert bool(market.fired()) is fires
    assert [g for g, _ in market.told("held")] == ([] if fires else ["session"])


@pytest.mark.parametrize(("age", "fires"), [(30 * SECOND, True), (30 * SECOND + 1, False)])
def test_no_trigger_on_stale_data(age: int, fires: bool) -> None:
    """Invariant 9: the newest quote is as old as the rule allows, or one nanosecond older."""
    market = Market()
    market.watch(a_watch("time_stop", at_ts=NOON + age, max_quote_age_seconds="30"))
    market.watch(a_watch(symbol="MSFT", position_symbol="MSFT"))
    market.quote(100.0, 100.1, NOON)
    market.quote(200.0, 200.1, NOON + age, "MSFT")
    assert bool(market.fired()) is fires
    assert [g for g, _ in market.told("held")] == ([] if fires else ["stale"])


def test_the_rhythm_of_a_symbol_decides_what_is_old() -> None:
    """Quotes each second: ten seconds are old. Another symbol quotes once a minute: two minutes are not."""
    for pace, silence, gate in ((1, 9, []), (1, 11, ["stale"]), (25, 240, []), (25, 260, ["stale"])):
        market = Market()
        market.watch(a_watch("time_stop", at_ts=NOON + (20 * pace + silence) * SECOND))
        market.watch(a_watch(symbol="MSFT", position_symbol="MSFT"))
        for i in range(21):
            market.quote(100.0, 100.1, NOON + i * pace * SECOND)
        for i in range(0, silence + 1):
            market.quote(200.0, 200.1, NOON + (20 * pace + i) * SECOND, "MSFT")
        assert [g for g, _ in market.told("held")] == gate


def test_prices_that_a_backfill_brings_fire_nothing() -> None:
    """Invariant 9: they are of the past, however lately they were received."""
    market = guarded()
    market.quote(94.0, 94.1, source="rest")
    assert ([g for g, _ in market.told("held")], market.fired()) == (["fresh"], [])
    market.quote(94.0, 94.1)
    assert market.fired() == ["a:AAPL:1:0"]


def test_an_older_quote_than_the_newest_is_late_and_changes_nothing() -> None:
    """Out of order: the market has moved on since."""
    market = guarded()
    assert market.quote(94.0, 94.1, NOON - SECOND) == "late"
    assert market.fired() == []


def test_one_wild_time_stamp_stops_nobody() -> None:
    """A quote of the year 2099 would make every price after it look old, for ever."""
    market = guarded()
    market.watch(a_watch(symbol="MSFT", position_symbol="MSFT"))
    market.quote(100.0, 100.1, 4_000_000_000 * SECOND)
    market.quote(94.0, 94.1, NOON + SECOND)
    market.quote(94.0, 94.1, NOON + SECOND, "MSFT")
    assert market.fired() == ["a:AAPL:1:0", "a:MSFT:1:0"]


def a_gap(**more: Any) -> dict[str, Any]:
    """A gap of the quotes of the stock feed, which lasts."""
    return {
        "id": "g",
        "feed": "stocks:iex",
        "channels": ["quotes"],
        "symbols": ["*"],
        "reason": "disconnect",
        "opened_ts": 1,
        "from_ts": NOON,
        "until_ts": None,
        "state": "opened",
        "ts": 1,
        "found": 0,
        "published": 0,
        "unrecoverable": [],
        "detail": None,
        "placed": [],
        "owner_epoch": 1,
        "source": "ws",
        "received_ts": 1,
        **more,
    }


def test_a_gap_holds_its_symbols_until_it_has_ended() -> None:
    """What stands in it is not known; told twice, it is held once."""
    market = guarded()
    market.put("gap", a_gap())
    market.put("gap", a_gap())
    market.quote(94.0, 94.1)
    assert ([g for g, _ in market.told("held")], market.fired()) == (["gap"], [])
    market.put("gap", a_gap(until_ts=NOON + SECOND, ts=2))
    market.put("gap", a_gap())
    assert market.fired() == []
    market.quote(94.0, 94.1)
    assert market.fired() == ["a:AAPL:1:0"]


def test_a_lost_feed_holds_and_alerts_by_its_own_records() -> None:
    """Event time stands still without prices, so the feed's own records tell for how long."""
    market = guarded()
    lost = {"feed": "stocks:iex", "state": "DISCONNECTED", "ts": 0, "received_ts": 1, "source": "ws"}
    market.put("connection", lost)
    market.put("connection", {**lost, "ts": 60 * SECOND - 1})
    assert [g for g, _ in market.told("held")] == ["feed"]
    assert market.told("alert") == []
    market.put("connection", {**lost, "ts": 60 * SECOND})
    market.put("connection", {**lost, "ts": 90 * SECOND})
    assert [g for g, _ in market.told("alert")] == ["feed"]
    market.put("connection", {**lost, "state": "CONNECTED", "ts": 91 * SECOND})
    market.quote(94.0, 94.1)
    assert market.fired() == ["a:AAPL:1:0"]


def test_no_trigger_before_the_account_side_has_reconciled() -> None:
    """Invariant 9: during start-up nobody knows what is held; it comes with the first good price after."""
    market = Market()
    market.watch(a_watch(held="unreconciled"))
    market.quote(94.0, 94.1)
    assert (market.told("held"), market.fired()) == ([("account", "unreconciled")], [])
    market.watch(a_watch())
    assert market.fired() == []
    market.quote(94.0, 94.1)
    assert market.fired() == ["a:AAPL:1:0"]


@pytest.mark.parametrize(("seconds", "alerts"), [(5 * SECOND - 1, 0), (5 * SECOND, 1), (50 * SECOND, 1)])
def test_a_hold_longer_than_the_rules_limit_alerts_once(seconds: int, alerts: int) -> None:
    """Whoever relies on a stop must hear that it cannot fire."""
    market = guarded(max_hold_seconds=5)
    begin = market.now + 1
    market.quote(94.0, 93.0, begin)
    market.quote(94.0, 93.0, begin + seconds)
    market.quote(94.0, 93.0, begin + seconds)
    assert len(market.told("alert")) == alerts


def test_the_exchanges_calendar_knows_holidays_and_short_days() -> None:
    """No exit is fired into a closed market on the day after Thanksgiving, when it closes at one."""
    hours, friday = NewYork(), 1_385_740_800 * SECOND  # 2013-11-29 16:00 UTC
    session = hours.session("us_equity", friday)
    assert session is not None
    assert (session.closes, session.ends) == (friday + 2 * HOUR, friday + 6 * HOUR)
    assert hours.session("us_option", friday - DAY) is None
    assert hours.session("crypto", friday - DAY) is not None
