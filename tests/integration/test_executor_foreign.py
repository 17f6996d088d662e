"""Exits among orders of others, over the broker's REST: they hold the shares, would be crossed, or are put in
the place of ours. And somebody who closes, turns or cancels by hand.
"""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

from tests.integration.executor_broker import Broker, until
from tests.integration.executor_world import (
    exit_intent,
    final,
    market,
    prepared,
    running,
    send,
    told,
)
from tidewire.config import Settings

FAR = Decimal(99999)


async def test_orders_of_others_are_cancelled_respected_or_adopted(
    settings: Settings, tmp_path: Path
) -> None:
    """The broker's 40310000: an exit that gives up on shares that others hold leaves the loss running; one
    that cancels what its rule respects takes somebody's order away."""
    symbols = ("BRAC", "RESP", "ADOP", "WASH", "WRES")
    async with market(tmp_path, *symbols) as broker:
        own = await prepared(settings, broker, tmp_path)
        legs = await bracket(broker, "BRAC", "5")
        broker.fill(legs[0], "2")
        for symbol in symbols[1:]:
            await broker.buy(symbol, "5")
        respected = await broker.rest("RESP", "sell", "2", "99999")
        adopted = await broker.rest("ADOP", "sell", "5", "99999")
        crossed = await broker.rest("WASH", "buy", "1", "1.25")
        spared = await broker.rest("WRES", "buy", "1", "1.25")
        modes = dict(zip(symbols, ("cancel", "respect", "adopt", "cancel", "respect"), strict=True))
        intents = {symbol: exit_intent(symbol, foreign_orders=mode) for symbol, mode in modes.items()}
        async with running(own):
            await send(own, *intents.values())
            ends = {s: await final(own, intents[s]["intent_id"]) for s in symbols if s != "ADOP"}
            broker.fill(adopted, "5")
            ends["ADOP"] = await final(own, intents["ADOP"]["intent_id"])
        assert {s: (e["outcome"], e["filled_quantity"], e["remaining"]) for s, e in ends.items()} == {
            "BRAC": ("filled", 3, 0),
            "RESP": ("refused", 3, 2),
            "ADOP": ("closed", 0, 0),
            "WASH": ("filled", 5, 0),
            "WRES": ("rejected", 0, None),
        }
        assert ends["RESP"]["reason"] == "2 held, 0 available for orders"
        assert "wash trade" in ends["WRES"]["reason"]
        statuses = [broker.order(each).status for each in (*legs, respected, crossed, spared)]
        assert statuses == ["canceled", "canceled", "new", "canceled", "new"]
        assert {order.symbol for order in broker.orders()} == {"BRAC", "RESP", "WASH"}
        assert max((await broker.posts()).values()) == 1  # a refusal that stays is not asked for again


async def test_orders_that_cannot_be_cancelled_do_not_cost_the_accounts_requests(
    settings: Settings, tmp_path: Path
) -> None:
    """200 requests a minute are all that the account's other exits have."""
    async with market(tmp_path) as broker:
        own = await prepared(settings, broker, tmp_path, "max_age_seconds = 4")
        await broker.buy("AAPL", "5")
        await broker.rest("AAPL", "sell", "5", "99999")
        await broker.inflict(kind="status_http", code=422, method="DELETE", path="/v2/orders", count=1000)
        async with running(own):
            intent = exit_intent("AAPL")
            await send(own, intent)
            done = await final(own, intent["intent_id"])
        assert (done["outcome"], done["remaining"]) == ("stale", 5)
        assert done["reason"].endswith("; other orders held what it was to close")
        assert not broker.orders()
        assert await broker.requests("DELETE") <= 7


async def test_our_order_is_replaced_or_cancelled_by_somebody(settings: Settings, tmp_path: Path) -> None:
    """A rule stands until it is removed: an exit whose order somebody cancels goes on with the rest, and one
    whose order was changed at the broker's site follows the new one. Else shares stay, or are sold twice."""
    async with market(tmp_path) as broker:
        own = await prepared(settings, broker, tmp_path, "max_age_seconds = 600")
        await broker.buy("AAPL", "5")
        await broker.buy("MSFT", "5")
        replaced, cancelled = (
            exit_intent(symbol, order_type="limit", limit_price=FAR) for symbol in ("AAPL", "MSFT")
        )
        async with running(own):
            await send(own, replaced, cancelled)
            await until(lambda: len(broker.orders()) == 2)
            first = next(order for order in broker.orders() if order.symbol == "AAPL")
            broker.fill(first.id, "2", "100")
            other = await broker.ask(f"orders/{first.id}", {"limit_price": "88888"}, "PATCH")
            broker.fill(other["id"], "3", "110")
            done = await final(own, replaced["intent_id"])
            assert (done["outcome"], done["filled_quantity"], done["remaining"]) == ("filled", 5, 0)
            assert (done["average_price"], done["attempt"]) == (106, 0)
            assert done["order_id"] == other["id"]

            for attempt, fills in enumerate(("1", None, "4")):
                await attempts(broker, "MSFT", attempt + 1)
                order = ours(broker, "MSFT")[-1]
                if fills is not None:
                    broker.fill(order.id, fills)
                if order.open:
                    await broker.cancel(order.id)
            done = await final(own, cancelled["intent_id"])
        assert (done["outcome"], done["filled_quantity"], done["remaining"]) == ("filled", 5, 0)
        assert [order.qty for order in ours(broker, "MSFT")] == [5, 4, 4]
        results = [(r["outcome"], r["attempt"], r["final"]) for r in await told(own, cancelled["intent_id"])]
        assert [r for r in results if r[0] == "canceled"] == [("canceled", 0, False), ("canceled", 1, False)]


async def test_a_position_that_is_gone_or_turned_is_not_traded(settings: Settings, tmp_path: Path) -> None:
    """Somebody was faster: an order now would open a position, or enlarge one on the other side."""
    async with market(tmp_path, "GONE", "TURN") as broker:
        own = await prepared(settings, broker, tmp_path)
        await broker.sell_short("TURN", "3")
        async with running(own):
            gone, turned = exit_intent("GONE"), exit_intent("TURN")
            await send(own, gone, turned)
            closed, refused = [await final(own, each["intent_id"]) for each in (gone, turned)]
        assert (closed["outcome"], closed["reason"], closed["remaining"]) == ("closed", "nothing is held", 0)
        assert (refused["outcome"], refused["remaining"]) == ("refused", 3)
        assert refused["reason"].startswith("permanent: the broker holds a short position")
        assert not broker.orders()
        assert broker.held("TURN") == -3


async def bracket(broker: Broker, symbol: str, quantity: str) -> list[str]:
    """A position with a take-profit and a stop at the broker; their ids."""
    body = {
        "symbol": symbol, "side": "buy", "type": "market", "qty": quantity, "time_in_force": "day",
        "order_class": "bracket", "take_profit": {"limit_price": "99999"}, "stop_loss": {"stop_price": "0.5"},
    }  # fmt: skip
    answer = await broker.ask("orders", body)
    await until(lambda: broker.held(symbol) == Decimal(quantity))
    return [leg["id"] for leg in answer["legs"]]


async def attempts(broker: Broker, symbol: str, count: int) -> None:
    """Wait for so many orders of tidewire."""
    await until(lambda: len(ours(broker, symbol)) == count)


def ours(broker: Broker, symbol: str) -> list[Any]:
    """Tidewire's orders of a symbol, in the order in which they came."""
    found = [order for order in broker.orders() if order.symbol == symbol]
    return sorted(found, key=lambda order: order.created)
