"""The house strategy: else a demo showed nothing, or showed something else each time, or grew without end."""

from __future__ import annotations

import random
from typing import Any

from simulator.broker.strategy import MOST_ORDERS, MOST_POSITIONS, Strategy
from tests.broker_harness import SECOND, World

MINUTES = 6


def played(seed: int) -> World:
    """Six minutes of a wandering market, with the strategy in it."""
    world, chance = World(), random.Random(7)
    strategy = Strategy(world.broker, 1, seed)
    prices = {"AAPL": 200.0, "IBM": 150.0, "BTC/USD": 60_000.0, "ETH/USD": 3_000.0}
    for _ in range(MINUTES * 15):
        for symbol in prices:
            prices[symbol] *= 1 + chance.gauss(0, 0.0004)
            bid = round(prices[symbol], 2)
            world.quote(symbol, bid, round(bid + 0.02, 2), chance.choice([20, 100, 300]))
        strategy.act(world.now)
        world.flush()
        account = world.broker.accounts[1]
        working = [o for o in account.orders.values() if o.open and not o.role]
        assert len(working) <= MOST_ORDERS + 1
        assert len(account.book.open_positions()) <= MOST_POSITIONS + MOST_ORDERS
    return world


def story(world: World) -> list[Any]:
    """What happened, without the ids."""
    found = [u.message["data"] for c in world.changes for u in c.updates]
    return [
        (d["event"], d["order"]["symbol"], d["order"]["side"], d.get("qty"), d.get("price")) for d in found
    ]


def test_there_is_something_of_everything_to_see() -> None:
    world = played(1)
    orders = world.broker.accounts[1].orders.values()
    assert len(orders) > MINUTES * 5
    assert {o.asset_class for o in orders} == {"us_equity", "crypto"}
    assert {o.side for o in orders} == {"buy", "sell"}
    assert {"fill", "partial_fill", "canceled", "new"} <= set(world.events())
    assert {"bracket", ""} <= {o.order_class for o in orders}
    assert any(e.signed < 0 for e in world.broker.accounts[1].book.executions.values())
    assert world.now - min(o.submitted for o in orders) > (MINUTES - 1) * 60 * SECOND


def test_the_same_seed_trades_the_same() -> None:
    first = story(played(3))
    assert story(played(3)) == first
    assert story(played(4)) != first
