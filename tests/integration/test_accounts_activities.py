"""Activities that are no fills: from the broker's REST through the topic into the position.

If these fail, fees, splits and expiries make every position differ from the broker's, or count twice.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from processors.columns.records import Records
from processors.portfolio.book import Book
from schemas import cluster
from schemas.catalogue import ACCOUNT_SNAPSHOTS, ACTIVITIES, TRADE_UPDATES
from tests.integration.accounts_world import TOPICS, accounts, has, opened, running, until, until_held
from tests.integration.topic_content import decoded
from tests.integration.trading_server import Broker
from tidewire.config import Settings

pytestmark = pytest.mark.kafka


@pytest.fixture
async def ready(settings: Settings, tmp_path: Path) -> Settings:
    await cluster.apply(settings, TOPICS)
    return settings.model_copy(update={"tidewire_accounts_file": tmp_path / "accounts.toml"})


async def told(settings: Settings) -> list[dict[str, Any]]:
    return list(await decoded(settings, ACTIVITIES))


async def folded(settings: Settings) -> Book:
    """What the portfolio makes of the topics, activities last."""
    book = Book(Records(1))
    for offset, update in enumerate(await decoded(settings, TRADE_UPDATES)):
        book.fold_update(update, offset)
    for offset, snapshot in enumerate(await decoded(settings, ACCOUNT_SNAPSHOTS)):
        book.fold_snapshot(snapshot, offset)
    for offset, activity in enumerate(await told(settings)):
        book.fold_activity(activity, offset)
    return book


async def test_activities_reach_the_position_once_through_restarts_and_late_bookings(ready: Settings) -> None:
    """Alpaca books a fee a day after the day that its id begins with: a newest id would pass it by."""
    broker = Broker()
    accounts(ready, one="test-key-1 test-secret-1")
    old = await broker.submit(qty="5")
    await broker.fill(old, "5")
    before = broker.book("FEE", net_amount="-1")
    async with broker as url:
        async with running(ready, url) as (service, health):
            await until(lambda: opened(health))
            order = await broker.submit()
            await broker.fill(order, "10")
            await until_held(lambda: has(ready, 2))
            out = broker.book("SPLIT", symbol="AAPL", qty="-15", group_id="g", moves="-15")
            back = broker.book("SPLIT", symbol="AAPL", qty="45", group_id="g", moves="45")
            broker.others[-2]["id"] = f"20200101000000000::{out[19:]}"  # booked now, dated long ago
            strange = broker.book("XYZ", net_amount="0", symbol="AAPL", qty="3")
            service.watches[0].reconcile()
            await until_held(lambda: _count(ready, 4))
        fee = broker.book("CFEE", symbol="BTCUSD", qty="-0.001", price="60000")
        async with running(ready, url) as (service, health):
            await until(lambda: opened(health))
            await until_held(lambda: _count(ready, 5))
            broker.others[2]["status"] = "canceled"
            service.watches[0].reconcile()
            await until_held(lambda: _count(ready, 6))
            snapshots = len(await decoded(ready, ACCOUNT_SNAPSHOTS))
            service.watches[0].reconcile()
            await until_held(lambda: _more(ready, snapshots))
    found = await told(ready)
    seen = Counter((a["activity_id"], a["status"]) for a in found)
    split = f"20200101000000000::{out[19:]}"
    wanted = [(name, "executed") for name in (before, split, back, strange, fee)]
    assert seen == Counter([*wanted, (back, "canceled")])
    assert len({a["event_id"] for a in found}) == len(found)
    by_id = {a["activity_id"]: a for a in found}
    assert by_id[fee]["symbol"] == "BTC/USD"
    first = (await decoded(ready, ACCOUNT_SNAPSHOTS))[0]
    assert first["contained_activities"] == [before]


async def test_the_fold_of_the_topics_is_the_brokers_position(ready: Settings) -> None:
    """A user would see three times fewer shares than they hold after a split, and an alert for it."""
    broker = Broker()
    accounts(ready, one="test-key-1 test-secret-1")
    async with broker as url, running(ready, url) as (service, health):
        await until(lambda: opened(health))
        order = await broker.submit()
        await broker.fill(order, "10")
        await until_held(lambda: has(ready, 2))
        broker.book("SPLIT", symbol="AAPL", qty="-10", group_id="g", moves="-10")
        broker.book("SPLIT", symbol="AAPL", qty="30", group_id="g", moves="30")
        broker.book("JNLC", net_amount="0")
        service.watches[0].reconcile()
        await until_held(lambda: _count(ready, 3))
        snapshots = len(await decoded(ready, ACCOUNT_SNAPSHOTS))
        service.watches[0].reconcile()
        await until_held(lambda: _more(ready, snapshots))
    book = await folded(ready)
    held = book.account("one").holdings["AAPL"]
    assert held.now.quantity == broker.positions["AAPL"] == 30
    assert held.now.cost == Decimal("1002.50")
    assert (held.now.epoch, held.unexplained) == (1, False)


async def _count(settings: Settings, count: int) -> bool:
    await asyncio.sleep(0)
    return len(await told(settings)) >= count


async def _more(settings: Settings, snapshots: int) -> bool:
    return len(await decoded(settings, ACCOUNT_SNAPSHOTS)) > snapshots
