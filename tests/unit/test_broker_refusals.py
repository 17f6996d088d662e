"""Alpaca's refusals: whoever handles them well here must handle them well there."""

from __future__ import annotations

from typing import Any

import pytest

from simulator.broker.rejections import Rejection
from tests.broker_harness import World

FORBIDDEN, INVALID, MALFORMED = (403, 40310000), (422, 42210000), (400, 40010001)


@pytest.fixture
def world() -> World:
    world = World()
    world.quote("AAPL", 99, 100)
    world.quote("BTC/USD", 60_000, 60_010)
    return world


def code(refusal: dict[str, Any]) -> tuple[int, int]:
    return refusal["status"], refusal["code"]


def test_a_wash_trade_names_the_order_in_the_way(world: World) -> None:
    order = world.order("AAPL", "buy", 1, type="limit", limit_price="90")["id"]
    refusal = world.refused("AAPL", "sell", 1)
    assert code(refusal) == FORBIDDEN
    assert refusal["message"] == "potential wash trade detected. use complex orders"
    assert refusal["existing_order_id"] == order
    assert refusal["reject_reason"] == "opposite side limit order exists"
    assert world.refused("AAPL", "sell", 1, type="limit", limit_price="90")["existing_order_id"] == order
    world.order("AAPL", "sell", 1, type="limit", limit_price="110")


def test_a_stop_on_the_other_side_is_in_the_way_of_everything(world: World) -> None:
    world.order("AAPL", "buy", 1, type="stop", stop_price="120")
    refusal = world.refused("AAPL", "sell", 1, type="limit", limit_price="130")
    assert refusal["reject_reason"] == "opposite side market/stop order exists"


def test_what_is_held_by_one_order_cannot_be_sold_by_another(world: World) -> None:
    world.order("AAPL", "buy", 10)
    world.order("AAPL", "sell", 7, type="limit", limit_price="110")
    refusal = world.refused("AAPL", "sell", 5)
    assert code(refusal) == FORBIDDEN
    assert refusal["message"] == "insufficient qty available for order (requested: 5, available: 3)"
    assert (refusal["existing_qty"], refusal["held_for_orders"], refusal["available"]) == ("10", "7", "3")
    assert world.refused("AAPL", "sell", 11)["available"] == "3", "nor can an order turn a position around"


def test_coins_cannot_be_sold_short(world: World) -> None:
    refusal = world.refused("BTC/USD", "sell", "0.5")
    assert code(refusal) == FORBIDDEN
    assert refusal["message"] == "insufficient balance for BTC (requested: 0.5, available: 0)"


def test_buying_power_counts_open_orders(world: World) -> None:
    world.order("AAPL", "buy", 39_000, type="limit", limit_price="95")
    refusal = world.refused("AAPL", "buy", 39_000, type="limit", limit_price="95")
    assert code(refusal) == FORBIDDEN
    assert refusal["message"] == "insufficient buying power"
    assert world.refused("BTC/USD", "buy", 20)["message"] == "insufficient buying power"


def test_the_configuration_is_obeyed(world: World) -> None:
    configuration = world.broker.accounts[1].configuration
    configuration["no_shorting"] = True
    assert world.refused("AAPL", "sell", 1)["message"] == "account is not allowed to short"
    configuration["fractional_trading"] = False
    assert code(world.refused("AAPL", "buy", "0.5")) == FORBIDDEN
    configuration["suspend_trade"] = True
    refusal = world.refused("AAPL", "buy", 1)
    assert code(refusal) == FORBIDDEN
    assert "suspended" in refusal["message"]


def test_a_client_order_id_is_used_once(world: World) -> None:
    world.order("AAPL", "buy", 1, client_order_id="mine")
    refusal = world.refused("AAPL", "buy", 1, client_order_id="mine")
    assert (code(refusal), refusal["message"]) == ((422, 40010001), "client_order_id must be unique")
    world.order("AAPL", "buy", 1, n=2, client_order_id="mine")


def test_unknown_assets(world: World) -> None:
    refusal = world.refused("NOSUCH", "buy", 1)
    assert (code(refusal), refusal["message"]) == (INVALID, 'asset "NOSUCH" not found')
    assert world.order("BTCUSD", "buy", 1, time_in_force="gtc")["symbol"] == "BTC/USD"


LIMIT = {"type": "limit", "limit_price": "100"}
STOP = {"stop_loss": {"stop_price": "90"}}
BRACKET = {"order_class": "bracket", "take_profit": {"limit_price": "110"}, "stop_loss": {"stop_price": "90"}}


@pytest.mark.parametrize(
    ("symbol", "fields", "expected", "message"),
    [
        ("AAPL", {}, MALFORMED, "qty or notional is required"),
        ("AAPL", {"qty": "1", "notional": "5"}, MALFORMED, "only one of qty or notional is accepted"),
        ("AAPL", {"qty": "nan"}, MALFORMED, "qty must be a number"),
        ("AAPL", {"qty": True}, MALFORMED, "qty must be a number"),
        ("AAPL", {"qty": "1e999999"}, MALFORMED, "qty must be a number"),
        ("AAPL", {"qty": "-1"}, INVALID, "qty must be > 0"),
        ("AAPL", {"qty": "0"}, INVALID, "qty must be > 0"),
        ("AAPL", {"qty": "1.0000000001"}, INVALID, "qty must be limited to 9 decimal places"),
        ("AAPL", {"qty": "1", "side": "hold"}, INVALID, "invalid side"),
        ("AAPL", {"qty": "1", "side": None}, MALFORMED, "side is required"),
        ("AAPL", {"qty": "1", "type": "iceberg"}, INVALID, "invalid type"),
        ("AAPL", {"qty": "1", "time_in_force": "gtd"}, INVALID, "invalid time_in_force"),
        ("AAPL", {"qty": "1", "type": "limit"}, MALFORMED, "limit orders require limit price"),
        ("AAPL", {"qty": "1", "limit_price": "1"}, MALFORMED, "market orders must not have limit price"),
        ("AAPL", {"qty": "1", "type": "stop"}, MALFORMED, "stop orders require stop price"),
        ("AAPL", {"qty": "1", "type": "trailing_stop"}, INVALID,
         "trailing stop orders must specify one of trail_price or trail_percent"),
        ("AAPL", {"qty": "1", "type": "limit", "limit_price": "100.001"}, INVALID,
         "invalid limit_price 100.001. sub-penny increment does not fulfill minimum pricing criteria"),
        ("AAPL", {"qty": "1", "extended_hours": True}, INVALID,
         "extended hours order must be DAY or GTC limit orders"),
        ("AAPL", {"qty": "0.5", "time_in_force": "gtc"}, INVALID, "fractional orders must be DAY orders"),
        ("AAPL", {"qty": "0.5", **BRACKET}, INVALID, "fractional orders must be simple orders"),
        ("AAPL", {"qty": "0.5", "side": "sell"}, INVALID, "fractional orders cannot be sold short"),
        ("AAPL", {"notional": "5.001"}, INVALID, "notional value must be limited to 2 decimal places"),
        ("AAPL", {"notional": "0.5"}, FORBIDDEN, "cost basis must be >= minimal amount of order 1"),
        ("AAPL", {"qty": "1", "order_class": "bracket", "take_profit": {"limit_price": "110"}}, INVALID,
         "bracket orders require stop_loss.stop_price"),
        ("AAPL", {"qty": "1", **BRACKET, "take_profit": {"limit_price": "100"}}, INVALID,
         "take_profit.limit_price must be >= base_price + 0.01"),
        ("AAPL", {"qty": "1", **BRACKET, "take_profit": {"limit_price": "80"}}, INVALID,
         "take_profit.limit_price must be > stop_loss.stop_price"),
        ("AAPL", {"qty": "1", "side": "sell", **BRACKET}, INVALID,
         "take_profit.limit_price must be < stop_loss.stop_price"),
        ("AAPL", {"qty": "1", "side": "sell", **LIMIT, "order_class": "oco", **STOP}, INVALID,
         "oco orders must be exit orders"),
        ("AAPL", {"qty": "1", **BRACKET, "time_in_force": "ioc"}, INVALID,
         "bracket orders must be day or gtc orders"),
        ("AAPL", {"qty": "1", "client_order_id": "x" * 129}, INVALID,
         "client_order_id must be no more than 128 characters"),
        ("BTC/USD", {"qty": "1", "time_in_force": "day"}, INVALID, "invalid crypto time_in_force"),
        ("BTC/USD", {"qty": "1", "type": "stop", "stop_price": "1"}, INVALID,
         "invalid order type for crypto order"),
        ("AAPL260918C00100000", {"qty": "0.5"}, MALFORMED, "qty must be integer"),
    ],
)  # fmt: skip
def test_parameters(
    world: World, symbol: str, fields: dict[str, Any], expected: tuple[int, int], message: str
) -> None:
    asked = {"side": "buy"} | fields
    refusal = world.refused(symbol, asked.pop("side"), **asked)
    assert (code(refusal), refusal["message"]) == (expected, message)
    assert not world.broker.accounts[1].orders, "a refused order leaves nothing behind"


def test_orders_that_are_not_there_or_not_open(world: World) -> None:
    filled = world.order("AAPL", "buy", 1)["id"]
    for act in (world.cancel, world.replace):
        with pytest.raises(Rejection) as caught:
            act("00000000-0000-0000-0000-000000000000")
        assert (caught.value.status, caught.value.body["code"]) == (404, 40410000)
    with pytest.raises(Rejection, match='already in "filled" state') as caught:
        world.cancel(filled)
    assert caught.value.status == 422
    with pytest.raises(Rejection, match="cannot replace order in filled status"):
        world.replace(filled, qty="2")
    with pytest.raises(Rejection, match="position does not exist"):
        world.broker.close(1, "IBM", None, None)


def test_a_replacement_is_checked_like_an_order(world: World) -> None:
    world.order("AAPL", "buy", 10)
    order = world.order("AAPL", "sell", 7, type="limit", limit_price="110")["id"]
    with pytest.raises(Rejection, match="insufficient qty available"):
        world.replace(order, qty="11")
    with pytest.raises(Rejection, match="order parameters are not changed"):
        world.replace(order, qty="7")
    with pytest.raises(Rejection, match="must not have stop price"):
        world.replace(order, stop_price="7")
    assert world.status(order) == "new"
    assert world.replace(order, qty="10")["qty"] == "10"
