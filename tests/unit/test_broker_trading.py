"""How orders trade: else a demo's fills, brackets and stops would teach users another broker than Alpaca."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from simulator.broker import revisions
from simulator.broker.exchange import Exchange
from simulator.broker.sessions import RoundTheClock
from tests.broker_harness import HOUR, SECOND, TEN_O_CLOCK, World


@pytest.fixture
def world() -> World:
    world = World()
    world.quote("AAPL", "99.98", "100.02")
    world.quote("BTC/USD", 60_000, 60_010, "0.75")
    return world


def test_a_market_order_fills_at_once_at_the_side_it_takes(world: World) -> None:
    shown = world.order("AAPL", "buy", 10)
    assert (shown["status"], shown["filled_qty"]) == ("pending_new", "0")
    assert world.events(shown["id"]) == ["pending_new", "new", "fill"]
    fill = world.data(shown["id"], "fill")
    assert (fill["price"], fill["qty"], fill["position_qty"]) == ("100.02", "10", "10")
    assert fill["order"]["filled_avg_price"] == "100.02"
    assert fill["order"]["filled_at"] == fill["timestamp"]
    assert world.data(world.order("AAPL", "sell", 4)["id"], "fill")["price"] == "99.98"
    assert world.position("AAPL") == 6


def test_what_the_quote_cannot_fill_fills_on_the_next_ones(world: World) -> None:
    world.quote("AAPL", 99, 100, 40)
    order = world.order("AAPL", "buy", 100)["id"]
    for ask in (101, 102):
        world.quote("AAPL", 99, ask, 40)
    assert world.events(order) == ["pending_new", "new", "partial_fill", "partial_fill", "fill"]
    last = world.data(order, "fill")
    assert (last["qty"], last["position_qty"], last["order"]["filled_qty"]) == ("20", "100", "100")
    assert last["order"]["filled_avg_price"] == "100.8"


def test_a_limit_waits_until_the_market_crosses_it(world: World) -> None:
    order = world.order("AAPL", "buy", 10, type="limit", limit_price="99.50")["id"]
    world.quote("AAPL", "99.50", "99.60")
    assert world.status(order) == "new"
    world.quote("AAPL", "99.30", "99.40")
    assert world.data(order, "fill")["price"] == "99.4"


@pytest.mark.parametrize("tif", ["ioc", "fok"])
def test_ioc_takes_what_there_is_and_fok_all_or_nothing(world: World, tif: str) -> None:
    world.quote("AAPL", 99, 100, 40)
    order = world.order("AAPL", "buy", 100, time_in_force=tif)["id"]
    assert world.status(order) == "canceled"
    assert world.position("AAPL") == (40 if tif == "ioc" else 0)


def test_stops_are_triggered_by_quotes_and_by_trades(world: World) -> None:
    world.order("AAPL", "buy", 20)
    by_quote = world.order("AAPL", "sell", 5, type="stop", stop_price="99")["id"]
    by_trade = world.order("AAPL", "sell", 5, type="stop", stop_price="98")["id"]
    limited = world.order("AAPL", "sell", 5, type="stop_limit", stop_price="98", limit_price="98.80")["id"]
    world.quote("AAPL", "98.90", "99")
    assert [world.status(o) for o in (by_quote, by_trade, limited)] == ["filled", "new", "new"]
    world.print("AAPL", "97.99")
    assert world.status(by_trade) == world.status(limited) == "filled"
    assert world.data(by_trade, "fill")["price"] == "98.9"


def test_a_trailing_stop_follows_its_high_water_mark(world: World) -> None:
    world.order("AAPL", "buy", 10)
    order = world.order("AAPL", "sell", 10, type="trailing_stop", trail_percent="1")["id"]
    world.quote("AAPL", 110, 111)
    world.quote("AAPL", 109, 110)
    found = world.broker.find(order)
    assert found is not None
    assert found.hwm == 110
    assert found.stop_price == Decimal("108.9")
    world.quote("AAPL", "108.90", 109)
    assert world.data(order, "fill")["price"] == "108.9"


def test_day_orders_expire_at_the_close_and_good_ones_stay(world: World) -> None:
    day = world.order("AAPL", "buy", 1, type="limit", limit_price="50")["id"]
    good = world.order("AAPL", "buy", 1, type="limit", limit_price="50", time_in_force="gtc")["id"]
    world.wait(6 * HOUR)
    assert (world.status(day), world.status(good)) == ("expired", "new")
    assert world.data(day, "expired")["order"]["expired_at"] is not None
    world.wait(120 * 24 * HOUR)
    assert world.status(good) == "expired"


def test_auction_orders_trade_when_they_are_due(world: World) -> None:
    close = world.order("AAPL", "buy", 3, time_in_force="cls")["id"]
    missed = world.order("AAPL", "buy", 3, time_in_force="opg", type="limit", limit_price="50")["id"]
    assert world.status(close) == world.status(missed) == "accepted"
    world.wait(6 * HOUR)
    assert world.status(close) == "filled"
    world.wait(18 * HOUR)
    assert world.status(missed) == "canceled"


class FromNineThirty(RoundTheClock):
    """Regular hours of the day on which the tests begin."""

    def regular(self, now: int) -> bool:
        return now >= TEN_O_CLOCK - HOUR // 2


def test_a_closed_exchange_accepts_and_trades_at_the_opening() -> None:
    world = World(FromNineThirty())
    world.now -= 2 * HOUR
    world.quote("AAPL", 99, 100)
    ordinary = world.order("AAPL", "buy", 1)["id"]
    early = world.order("AAPL", "buy", 1, type="limit", limit_price="101", extended_hours=True)["id"]
    assert (world.status(ordinary), world.status(early)) == ("accepted", "filled")
    world.wait(2 * HOUR)
    world.quote("AAPL", 99, 100)
    assert world.events(ordinary) == ["pending_new", "accepted", "new", "fill"]


def bracket(world: World, **fields: Any) -> tuple[str, str, str]:
    shown = world.order(
        "AAPL", "buy", 10, order_class="bracket", take_profit={"limit_price": "105"},
        stop_loss={"stop_price": "95"}, **fields,
    )  # fmt: skip
    profit, loss = (leg["id"] for leg in shown["legs"])
    return shown["id"], profit, loss


def test_a_bracket_ends_with_its_profit(world: World) -> None:
    entry, profit, loss = bracket(world)
    assert [world.status(o) for o in (entry, profit, loss)] == ["filled", "new", "held"]
    assert world.refused("AAPL", "sell", 1)["message"].startswith("insufficient qty available")
    world.quote("AAPL", 104, 105, 4)
    world.quote("AAPL", 105, 106, 4)
    held = world.broker.find(loss)
    assert held is not None
    assert held.qty == 6, "the stop guards what is left"
    world.quote("AAPL", 105, 106, 100)
    assert [world.status(o) for o in (profit, loss)] == ["filled", "canceled"]
    assert world.position("AAPL") == 0


def test_a_bracket_ends_with_its_loss(world: World) -> None:
    _, profit, loss = bracket(world)
    world.quote("AAPL", "94.90", 95, 6)
    assert world.status(profit) == "canceled"
    assert world.events(loss) == ["new", "partial_fill"]
    world.quote("AAPL", 94, 95, 6)
    assert world.status(loss) == "filled"
    assert world.position("AAPL") == 0


def test_legs_wait_for_the_whole_entry_and_go_with_it(world: World) -> None:
    entry, profit, loss = bracket(world, type="limit", limit_price="99")
    world.quote("AAPL", 98, 99, 4)
    assert [world.status(o) for o in (entry, profit, loss)] == ["partially_filled", "held", "held"]
    world.cancel(entry)
    assert {world.status(o) for o in (entry, profit, loss)} == {"canceled"}
    assert world.events(entry)[-2:] == ["pending_cancel", "canceled"]


def test_canceling_one_exit_takes_the_other(world: World) -> None:
    _, profit, loss = bracket(world)
    world.cancel(loss)
    assert world.status(profit) == "canceled"


def test_one_cancels_other_and_one_triggers_other(world: World) -> None:
    world.order("AAPL", "buy", 10)
    shown = world.order(
        "AAPL", "sell", 10, type="limit", order_class="oco", take_profit={"limit_price": "105"},
        stop_loss={"stop_price": "95", "limit_price": "94"},
    )  # fmt: skip
    assert shown["limit_price"] == "105"
    world.quote("AAPL", "94.50", 95)
    assert world.status(shown["id"]) == "canceled"
    assert world.status(shown["legs"][0]["id"]) == "filled"
    shown = world.order("AAPL", "sell", 10, order_class="oto", stop_loss={"stop_price": "110"})
    stop = shown["legs"][0]["id"]
    assert world.position("AAPL") == -10
    assert world.status(stop) == "new"
    world.quote("AAPL", 109, 110)
    assert world.position("AAPL") == 0


def test_replacing_makes_another_order_for_what_is_left(world: World) -> None:
    world.quote("AAPL", 99, 100, 4)
    old = world.order("AAPL", "buy", 10, type="limit", limit_price="100")["id"]
    new = world.replace(old, limit_price="98")
    assert (new["qty"], new["limit_price"], new["replaces"]) == ("6", "98", old)
    assert world.events(old)[-2:] == ["pending_replace", "replaced"]
    assert world.data(old, "replaced")["order"]["replaced_by"] == new["id"]
    assert world.status(new["id"]) == "new"
    world.quote("AAPL", 97, 98)
    assert world.position("AAPL") == 10


def test_a_replaced_stop_loss_still_guards(world: World) -> None:
    _, profit, loss = bracket(world)
    new = world.replace(loss, stop_price="97")["id"]
    world.quote("AAPL", "96.99", 97)
    assert [world.status(o) for o in (profit, loss, new)] == ["canceled", "replaced", "filled"]


def test_notional_and_fractional_orders(world: World) -> None:
    order = world.order("AAPL", "buy", notional="250.55")["id"]
    fill = world.data(order, "fill")
    assert (fill["qty"], fill["order"]["qty"], fill["order"]["notional"]) == ("2.504999", None, "250.55")
    coins = world.order("BTC/USD", "buy", notional="60010")["id"]
    assert world.events(coins)[-1] == "partial_fill"
    world.quote("BTC/USD", 60_100, 60_110, 1)
    assert world.position("BTC/USD") == 1
    world.order("AAPL", "sell", "2.504999")
    assert world.position("AAPL") == 0


def test_a_multi_leg_order_fills_leg_by_leg_in_one_update(world: World) -> None:
    legs = [
        {"symbol": "AAPL260918C00100000", "side": "buy", "ratio_qty": "1"},
        {"symbol": "AAPL260918C00110000", "side": "sell", "ratio_qty": "2"},
    ]
    body = {"order_class": "mleg", "type": "limit", "limit_price": "20", "qty": "3", "time_in_force": "day"}
    shown = world.broker.submit(1, body | {"legs": legs})
    world.wait(SECOND)
    data = world.data(shown["id"], "fill")
    assert data["order"]["symbol"] == data["order"]["asset_class"] == ""
    assert "execution_id" not in data
    assert data["position_qtys"] == {"AAPL260918C00100000": "3", "AAPL260918C00110000": "-6"}
    assert [leg["qty"] for leg in data["legs"]] == ["3", "6"]
    assert [leg["filled_qty"] for leg in data["order"]["legs"]] == ["3", "6"]
    net = sum(Decimal(leg["price"]) * ratio for leg, ratio in zip(data["legs"], (1, -2), strict=True))
    assert Decimal(data["price"]) == net
    account = world.broker.accounts[1]
    assert account.book.cash == 1_000_000 - net * 3 * 100


def test_busts_and_corrections_name_the_execution(world: World) -> None:
    order = world.order("AAPL", "buy", 10)["id"]
    execution = world.data(order, "fill")["execution_id"]
    revisions.correct(world.broker, execution, Decimal(4), Decimal(99))
    corrected = world.broker.announce.take().updates[-1].message["data"]
    assert (corrected["event"], corrected["previous_execution_id"]) == ("trade_correct", execution)
    assert (corrected["qty"], corrected["price"], corrected["position_qty"]) == ("4", "99", "4")
    revisions.bust(world.broker, order)
    busted = world.broker.announce.take().updates[-1].message["data"]
    assert (busted["event"], busted["position_qty"]) == ("trade_bust", "0")
    assert busted["order"]["filled_qty"] == "10", "the quantity that names the fill stays"
    assert world.broker.accounts[1].book.cash == 1_000_000


@pytest.mark.parametrize("event", [*revisions.STATES, *revisions.KEEPING, *revisions.ENDS])
def test_rare_events_can_be_had(world: World, event: str) -> None:
    order = world.order("AAPL", "buy", 1, type="limit", limit_price="50")["id"]
    revisions.emit(world.broker, order, event, "because")
    message = world.broker.announce.take().updates[-1].message["data"]
    assert message["event"] == event
    ended = event in revisions.ENDS
    assert (message["order"]["status"] == event) == (ended or event in revisions.STATES)
    assert message["order"].get("reject_reason") == ("because" if event == "rejected" else None)


def test_only_symbols_with_orders_are_watched(world: World) -> None:
    exchange: Exchange = world.broker.exchange
    assert not exchange.working
    order = world.order("AAPL", "buy", 1, type="limit", limit_price="50")["id"]
    assert set(exchange.working) == {"AAPL"}
    world.cancel(order)
    assert not exchange.working
