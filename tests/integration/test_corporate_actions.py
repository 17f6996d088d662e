"""The poller against the simulator's REST and a real Kafka, within the subscriber service."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession
from aiokafka import AIOKafkaProducer

from producers.subscriber.app import Subscriber
from schemas import cluster
from schemas.catalogue import CORPORATE_ACTIONS, EXIT_WATCH, LEASES, PORTFOLIO_POSITIONS, SUBSCRIPTIONS
from schemas.codec import load_codec
from simulator.app import Simulator, SimulatorOptions
from tests.integration.producer_venues import until
from tests.integration.service_run import running as service_running
from tests.integration.test_portfolio_service import read_all
from tests.integration.test_subscriber_service import Clock, Portfolio
from tidewire import kafka
from tidewire.config import Settings, load

pytestmark = pytest.mark.kafka

TOPICS = (PORTFOLIO_POSITIONS, SUBSCRIPTIONS, LEASES, CORPORATE_ACTIONS, EXIT_WATCH)
PARTITIONS = [0, 1, 2, 3]
HOUR_NS = 3_600 * 10**9


class Broker:
    """What Alpaca announces: the simulator's control routes."""

    def __init__(self, url: str) -> None:
        self._url = url + "/sim/corporate-actions"

    async def announce(self, kind: str, days: int, **fields: Any) -> None:
        day = (datetime.now(UTC) + timedelta(days)).date().isoformat()
        body = {"type": kind, "ex_date": day, **fields}
        async with ClientSession() as http, http.post(self._url, json=body) as response:
            assert response.status == 200, await response.text()

    async def withdraw(self, name: str) -> None:
        async with ClientSession() as http, http.delete(f"{self._url}/{name}") as response:
            assert response.status == 204


@asynccontextmanager
async def alpaca(home: Path) -> AsyncIterator[tuple[Simulator, Broker]]:
    simulator = Simulator(
        load(_env_file=None, tidewire_home=home), SimulatorOptions(symbols=("AAPL",), strategy=False)
    )
    await simulator.start()
    try:
        yield simulator, Broker(simulator.url)
    finally:
        await simulator.stop()


async def told(settings: Settings) -> list[tuple[str, str, bool]]:
    """(symbol, action, removed) of every record, by offset within its partition."""
    codec = load_codec(settings)
    found = [codec.decode(r.value)[1] for r in await read_all(settings, CORPORATE_ACTIONS, PARTITIONS)]
    return [(r["symbol"], r["action_id"], r["removed"]) for r in found]


async def test_announcements_of_what_is_held_watched_or_followed_reach_the_log_once(
    settings: Settings, tmp_path: Path
) -> None:
    """Whoever holds a stock whose split nobody announced is sold out of it by his own stops."""
    await cluster.apply(settings, TOPICS)
    clock = Clock()
    async with (
        alpaca(tmp_path / "alpaca") as (simulator, broker),
        AIOKafkaProducer(**kafka.client_arguments(settings)) as producer,
    ):
        chosen = settings.model_copy(
            update={
                "tidewire_data_url": simulator.url,
                "tidewire_trading_url": simulator.url,
                "tidewire_symbols": ("IBM",),
            }
        )
        portfolio = Portfolio(chosen, producer, clock)
        await broker.announce("forward_split", 3, id="split", symbol="AAPL", old_rate=1, new_rate=4)
        await broker.announce("cash_dividend", 5, id="paid", symbol="IBM", rate=0.25)
        await broker.announce("cash_dividend", 5, id="other", symbol="MSFT", rate=0.25)
        await broker.announce("reverse_split", 5, id="watched", symbol="QQQ", old_rate=2, new_rate=1)
        await portfolio.position("one", "AAPL260320C00090000", "us_option", 1)
        subscriber = Subscriber(chosen, clock=clock, start_seconds=10)
        async with service_running(subscriber, "subscriber"):
            await until(lambda: _looked(subscriber, 2))
            assert sorted(await told(chosen)) == [("AAPL", "split", False), ("IBM", "paid", False)]
            topic = chosen.tidewire_topic_prefix + EXIT_WATCH
            await producer.send_and_wait(topic, key=b"QQQ:one:QQQ:stop", value=b"a watch")
            await until(lambda: _looked(subscriber, 3))
            assert ("QQQ", "watched", False) in await told(chosen)
        before = await told(chosen)
        await broker.announce("forward_split", 3, id="split", symbol="AAPL", old_rate=1, new_rate=5)
        await broker.withdraw("paid")
        again = Subscriber(chosen, clock=clock, start_seconds=10)
        async with service_running(again, "subscriber"):
            await until(lambda: _looked(again, 3))
            fresh = set(await told(chosen)) - set(before)
            assert fresh == {("IBM", "paid", True)}
            assert len(await told(chosen)) == len(before) + 2
            await broker.announce("forward_split", 200, id="split", symbol="AAPL", old_rate=1, new_rate=5)
            clock.ahead_ns += HOUR_NS
            await until(lambda: _looked(again, 3) and _seconds(again) < 60)
        assert len(await told(chosen)) == len(before) + 3, "put off beyond the window is no removal"
        assert ("AAPL", "split", True) not in await told(chosen)


def _details(subscriber: Subscriber) -> dict[str, Any]:
    found = subscriber.details()["corporate_actions"]
    return dict(found) if isinstance(found, dict) else {}


def _looked(subscriber: Subscriber, symbols: int) -> bool:
    details = _details(subscriber)
    return details.get("trouble") is None and details.get("symbols", 0) >= symbols


def _seconds(subscriber: Subscriber) -> float:
    """Since the last look, by the test's clock."""
    return float(_details(subscriber)["seconds_since_look"])
