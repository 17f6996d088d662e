"""The subscriber against a real Kafka: positions in, entries of control.subscriptions out."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer

from producers.app import Producer
from producers.interest import Entry
from producers.subscriber.app import Subscriber
from schemas import cluster
from schemas.catalogue import LEASES, PORTFOLIO_POSITIONS, SUBSCRIPTIONS
from schemas.codec import Codec, load_codec
from tests.integration.producer_venues import CRYPTO, OPTIONS, STOCKS, Alpaca
from tests.integration.producer_venues import until as wait
from tests.integration.service_run import running as service_running
from tests.integration.test_portfolio_service import read_all
from tests.integration.test_producer_feeds import TOPICS as PRODUCER_TOPICS
from tidewire import kafka
from tidewire.config import Settings
from tidewire.health import Health

pytestmark = pytest.mark.kafka


@pytest.fixture
async def ready(settings: Settings) -> Settings:
    await cluster.apply(settings, (PORTFOLIO_POSITIONS, SUBSCRIPTIONS, LEASES))
    return settings.model_copy(update={"tidewire_position_grace_seconds": 30.0})


class Clock:
    """Real time, moved on by the test."""

    def __init__(self) -> None:
        self.ahead_ns = 0

    def __call__(self) -> int:
        return time.time_ns() + self.ahead_ns


class Portfolio:
    """Writes positions as the portfolio processor does."""

    def __init__(self, settings: Settings, producer: AIOKafkaProducer, clock: Clock) -> None:
        self._topic = settings.tidewire_topic_prefix + PORTFOLIO_POSITIONS
        self._producer, self._codec, self._clock = producer, load_codec(settings), clock

    async def position(self, account: str, symbol: str, of_class: str, quantity: int) -> None:
        now = self._clock()
        record: dict[str, Any] = {
            "account": account, "symbol": symbol, "ts": 1_500_000_000 * 10**9, "asset_class": of_class,
            "epoch": 1, "quantity": Decimal(quantity), "average_price": Decimal(1), "cost_basis": Decimal(1),
            "multiplier": Decimal(1), "realized_pnl": Decimal(0), "opened_ts": now, "received_ts": now,
            "source": "ws", "event_id": bytes(8), "mark_price": None, "mark_ts": None, "market_value": None,
            "unrealized_pnl": None, "broker_quantity": None, "broker_average_price": None, "strategy": None,
        }  # fmt: skip
        value = self._codec.encode("portfolio_position", record)
        await self._producer.send_and_wait(self._topic, key=f"{account}:{symbol}".encode(), value=value)


@asynccontextmanager
async def running(settings: Settings, clock: Clock) -> AsyncIterator[Subscriber]:
    subscriber = Subscriber(settings, clock=clock, start_seconds=10)
    async with service_running(subscriber, "subscriber") as health:
        await wait(lambda: health.not_ready is None)
        yield subscriber


async def entries(settings: Settings, codec: Codec) -> dict[str, Entry]:
    last = {r.key.decode(): r.value for r in await read_all(settings, SUBSCRIPTIONS, [0])}
    return {
        key: Entry.of(codec.decode(value)[1]) for key, value in last.items() if value not in (None, b"junk")
    }


async def until(
    settings: Settings, codec: Codec, check: Callable[[dict[str, Entry]], bool]
) -> dict[str, Entry]:
    deadline = time.monotonic() + 30
    while not check(found := await entries(settings, codec)):
        assert time.monotonic() < deadline, sorted(found)
        await asyncio.sleep(0.05)
    return found


def _keys(feed: str, symbol: str, *channels: str) -> set[str]:
    return {f"{feed}:{channel}:{symbol}:positions" for channel in channels}


async def test_a_position_is_subscribed_at_once_and_released_after_its_grace(ready: Settings) -> None:
    """A user who buys must see prices of what was bought without asking, in every account, for as long as the
    last one holds it, and after a restart of the subscriber too.
    """
    clock, codec = Clock(), load_codec(ready)
    apple = _keys("stocks", "AAPL", "trades", "quotes", "bars")
    coin = _keys("crypto", "BTC/USD", "trades", "quotes", "bars")
    call = _keys("options", "AAPL240315C00172500", "trades", "quotes")
    async with AIOKafkaProducer(**kafka.client_arguments(ready)) as producer:
        portfolio = Portfolio(ready, producer, clock)
        await portfolio.position("old", "GONE", "us_equity", 0)
        await portfolio.position("one", "AAPL", "us_equity", 10)
        clock.ahead_ns += 60 * 10**9  # GONE was closed longer ago than the grace
        async with running(ready, clock) as subscriber:
            await until(ready, codec, lambda found: set(found) == apple)
            await portfolio.position("two", "AAPL", "us_equity", -5)
            await portfolio.position("two", "BTC/USD", "crypto", 1)
            await portfolio.position("two", "AAPL240315C00172500", "us_option", 1)
            found = await until(ready, codec, lambda found: set(found) == apple | coin | call)
            assert {entry.priority for entry in found.values()} == {"position"}
            assert all(clock() < (e.expires_ts or 0) <= clock() + 3600 * 10**9 for e in found.values())
            await portfolio.position("one", "AAPL", "us_equity", 0)
            await portfolio.position("two", "BTC/USD", "crypto", 0)
            # Somebody meddles: an entry of ours is deleted, another is left by an earlier life.
            topic = ready.tidewire_topic_prefix + SUBSCRIPTIONS
            orphan = {**_record(codec, found), "symbol": "ORPHAN"}
            await producer.send_and_wait(
                topic, key=b"stocks:trades:ORPHAN:positions", value=codec.encode("subscription", orphan)
            )
            await producer.send_and_wait(topic, key=b"stocks:trades:AAPL:positions", value=None)
            await producer.send_and_wait(topic, key=b"stocks:quotes:AAPL:positions", value=b"junk")
            await until(ready, codec, lambda found: set(found) == apple | coin | call)
            clock.ahead_ns += 31 * 10**9  # BTC's grace is over; AAPL is still held by two
            await until(ready, codec, lambda found: set(found) == apple | call)
            assert subscriber.details()["held_symbols"] == 2
        await portfolio.position("two", "AAPL240315C00172500", "us_option", 0)
        clock.ahead_ns += 31 * 10**9
        async with running(ready, clock) as one:  # nobody watched while the grace ended
            await until(ready, codec, lambda found: set(found) == apple)
            async with running(ready, clock) as two:  # stands by
                await portfolio.position("one", "MSFT", "us_equity", 1)
                both = apple | _keys("stocks", "MSFT", "trades", "quotes", "bars")
                await until(ready, codec, lambda found: set(found) == both)
                assert [s.details()["active"] for s in (one, two)] == [True, False]


def _record(codec: Codec, found: dict[str, Entry]) -> dict[str, Any]:
    entry = found["stocks:trades:AAPL:positions"]
    return {
        "feed": entry.feed, "channel": entry.channel, "symbol": entry.symbol, "holder": entry.holder, "ts": 1,
        "priority": entry.priority, "expires_ts": entry.expires_ts, "received_ts": 1, "source": "ws",
        "event_id": bytes(8),
    }  # fmt: skip


async def test_a_running_producer_makes_room_for_a_position_without_reconnecting(ready: Settings) -> None:
    """The user's plan is full when a position opens: its prices must come within moments, and every other
    tape but the least important one goes on without a gap.
    """
    await cluster.apply(ready, PRODUCER_TOPICS)
    configured, clock, alpaca = tuple(f"S{n:02}" for n in range(30)), Clock(), Alpaca()
    contract = "AAPL240315C00172500"
    async with AIOKafkaProducer(**kafka.client_arguments(ready)) as producer, alpaca as url:
        chosen = ready.model_copy(
            update={
                "tidewire_symbols": configured, "tidewire_option_symbols": ("SPY240315C00500000",),
                "tidewire_crypto_symbols": ("BTC/USD",), "tidewire_plan": "basic", "tidewire_stream_url": url,
            }
        )  # fmt: skip
        portfolio, stop = Portfolio(ready, producer, clock), asyncio.Event()
        feeds = Producer(chosen, start_seconds=10, clock=clock)
        working = asyncio.create_task(feeds.run(Health("producer"), stop))
        try:
            async with running(chosen, clock):
                venues = [alpaca.venues[path] for path in (STOCKS, OPTIONS, CRYPTO)]
                stocks, options, crypto = venues
                await wait(lambda: stocks.held.get("trades", ()) and len(stocks.held["trades"]) == 30)
                await wait(lambda: all(venue.held.get("quotes") for venue in venues))
                await portfolio.position("one", "ZZZ", "us_equity", 5)
                await portfolio.position("one", contract, "us_option", 1)
                await portfolio.position("one", "ETH/USD", "crypto", 1)
                await wait(lambda: "ZZZ" in stocks.held["trades"] and "ZZZ" in stocks.held["quotes"])
                await wait(lambda: contract in options.held["quotes"] and "ETH/USD" in crypto.held["bars"])
                await wait(lambda: sorted(stocks.held["trades"]) == sorted([*configured[:29], "ZZZ"]))
                (told, *_) = [f for f in _feeds(feeds) if f["name"].startswith("stocks")]
                assert told["beyond_plan_limit"]["trades"] == ["S29"]
                await portfolio.position("one", "ZZZ", "us_equity", 0)
                clock.ahead_ns += 31 * 10**9
                await wait(lambda: sorted(stocks.held["trades"]) == sorted(configured))
                assert [venue.connections for venue in venues] == [1, 1, 1]
        finally:
            stop.set()
            await asyncio.wait_for(working, 20)


def _feeds(producer: Producer) -> list[dict[str, Any]]:
    found: Any = producer.details()["feeds"]
    return list(found.values())
