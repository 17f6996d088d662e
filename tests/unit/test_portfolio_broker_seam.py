"""The simulated broker's book against the fold of what it tells by its stream and by its REST.

If this fails, quantities are not the broker's exactly, and every split or fee is an alert.
"""

from __future__ import annotations

from contextlib import suppress
from decimal import Decimal
from random import Random
from typing import Any

import pytest

from processors.columns.records import Records
from processors.portfolio.book import APPLIED, CONTAINED, DUPLICATE, Book
from processors.portfolio.exact import exact
from producers.accounts import activities, updates
from simulator.broker import corporate, revisions
from simulator.broker.account_routes import activities as rest
from simulator.broker.rejections import Rejection
from tests.broker_harness import SECOND, World
from tests.portfolio_history import a_snapshot

CENT = Decimal("0.01")


def told(world: World, account: int = 1) -> list[dict[str, Any]]:
    """Every record that the producer makes of what the broker has told of one account."""
    events = [u for c in world.changes for u in c.updates if u.account == account]
    found = [updates.content("demo-1", u.message["data"]) for u in events]
    shown = rest(world.broker.accounts[account], {"category": "non_trade_activity"}, None)
    found += [activities.content("demo-1", activity) for activity in shown]
    more = {"received_ts": world.now + SECOND, "source": "rest", "owner_epoch": 1}
    return [content | more for content in found]


@pytest.mark.parametrize("seed", range(8))
def test_quantities_and_cash_are_the_brokers_in_any_order(seed: int) -> None:
    """Fees in kind, splits both ways, dividends and busts between fills and flips, read in any order."""
    world, chance = World(), Random(seed)
    opening = world.now - SECOND
    world.broker.exchange.crypto_fee = Decimal("0.0025")
    for symbol, price in (("AAPL", 100), ("BTC/USD", 60_000)):
        world.quote(symbol, price, price + 1)
    world.order("AAPL", "buy", 10)
    world.order("BTC/USD", "buy", "0.5")
    for _ in range(12):
        world.quote("AAPL", chance.randint(90, 110), 111)
        act = chance.choice(["buy", "sell", "coins", "split", "dividend"])
        if act in ("buy", "sell"):
            with suppress(Rejection):  # it may hold less than that after a reverse split
                order = world.order("AAPL", act, chance.randint(1, 9))
                if chance.random() < 0.3 and world.status(order["id"]) == "filled":
                    revisions.bust(world.broker, order["id"])
        elif act == "coins":
            world.order("BTC/USD", "buy", "0.25")
        elif act == "split":
            corporate.split(world.broker, "AAPL", *map(Decimal, chance.choice([(1, 3), (2, 1), (20, 1)])))
        else:
            corporate.dividend(world.broker, "AAPL", Decimal("0.51"))
        world.flush()
    log = told(world)
    log += chance.choices(log, k=5)
    chance.shuffle(log)
    book = Book(Records(1))
    book.fold_snapshot(a_snapshot(opening), 0)
    for offset, record in enumerate(log):
        if "activity_id" in record:
            assert book.fold_activity(record, offset) in (APPLIED, DUPLICATE)
        else:
            assert book.fold_update(record, offset) != CONTAINED
    theirs, ours = world.broker.accounts[1].book, book.account("demo-1")
    with exact():
        for symbol in ("AAPL", "BTC/USD"):
            held = ours.holdings[symbol]
            assert held.now.quantity == theirs.quantity(symbol), symbol
            cost = theirs.positions[symbol].cost
            assert abs(held.now.cost - cost) <= CENT, symbol
        assert abs(ours.cash - theirs.cash) <= CENT
