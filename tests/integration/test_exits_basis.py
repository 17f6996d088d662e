"""A split of the simulator's broker, through accounts producer and portfolio to the exits, on a real Kafka.

If this fails, the first split of a held stock sells it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack
from decimal import Decimal
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiokafka import AIOKafkaProducer

from processors.exits.hours import NewYork, Session
from processors.placing.basis import takes_effect
from schemas import cluster
from schemas.catalogue import ACTIVITIES, EXIT_RULES, EXIT_WATCH
from schemas.codec import Codec, load_codec
from schemas.exit_rules import parse, rule_key, rule_record
from tests.integration import accounts_world, executor_broker, executor_world, exits_world
from tests.integration.exits_world import Market, a_quote, outcome
from tests.integration.processor_process import read_all
from tests.integration.processor_process import worker as exits_worker
from tests.integration.test_portfolio_service import TOPICS
from tests.integration.test_portfolio_service import worker as portfolio_worker
from tidewire.config import Settings
from tidewire.kafka import client_arguments
from tidewire.placing import partition_of

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(180)]

DAY = 24 * 3600 * 10**9
MINUTE = 60 * 10**9
HOURS = NewYork()


@pytest.fixture
def codec(settings: Settings) -> Codec:
    return load_codec(settings)


@pytest.fixture
async def producer(settings: Settings) -> AsyncIterator[AIOKafkaProducer]:
    await cluster.apply(settings, sorted({*TOPICS, *accounts_world.TOPICS, *exits_world.NEEDED}))
    client = AIOKafkaProducer(**client_arguments(settings), enable_idempotence=True)
    await client.start()
    yield client
    await client.stop()


def session(ts: int, step: int) -> Session:
    """The first session from a day on, forwards or backwards."""
    while (found := HOURS.session("us_equity", ts)) is None:
        ts += step * DAY
    return found


async def until(held: Callable[[], Awaitable[Any]], seconds: float = 60) -> Any:
    """What it returns, once it is something."""
    deadline = time.monotonic() + seconds
    while not (found := await held()):
        assert time.monotonic() < deadline, "did not happen in time"
        await asyncio.sleep(0.2)
    return found


async def test_a_split_alone_sells_nothing_and_a_fall_after_it_does(
    settings: Settings, codec: Codec, producer: AIOKafkaProducer, tmp_path: Path, monkeypatch: Any
) -> None:
    """4 for 1, announced by nobody: a stop at 95 under 100 becomes one at 23.75 under 25."""
    own = settings.model_copy(update={"tidewire_accounts_file": tmp_path / "accounts.toml"})
    accounts_world.accounts(own, one=executor_broker.KEYS)
    monkeypatch.setenv("TIDEWIRE_ACCOUNTS_FILE", str(own.tidewire_accounts_file))
    market = Market(settings, codec, producer)

    async def watch(wanted: Callable[[dict[str, Any]], bool]) -> Any:
        records = [r for r in await read_all(settings, EXIT_WATCH) if r.value is not None]
        mine = [w for w in (codec.decode(r.value)[1] for r in records) if w["rule"] == "mine"]
        return mine[-1] if mine and wanted(mine[-1]) else None

    async def activities() -> Any:
        found = [codec.decode(r.value)[1] for r in await read_all(settings, ACTIVITIES)]
        return [a for a in found if a["activity_type"] == "SPLIT"][1:]

    with ExitStack() as processes:
        portfolio = processes.enter_context(portfolio_worker(settings))
        exits = processes.enter_context(exits_worker(settings, exits_world.PROGRAM))
        async with (
            executor_world.market(tmp_path, "AAPL") as broker,
            accounts_world.running(own, broker.url, 1) as (_, health),
        ):
            await accounts_world.until(lambda: accounts_world.opened(health))
            await broker.buy("AAPL", "100")
            before = session(takes_effect(time.time_ns()) - DAY // 2, -1)
            rule = rule_record(
                "one", "AAPL", "mine", parse({"kind": "stop_loss", "price": "95"}), "cli:a", before.opens
            )
            await producer.send_and_wait(
                settings.tidewire_topic_prefix + EXIT_RULES, codec.encode("exit_rule", rule),
                key=rule_key("one", "AAPL", "mine"), partition=partition_of(b"one", 4),
            )  # fmt: skip
            await until(lambda: watch(lambda w: w["active"] and w["quantity"] == 100))

            async def quotes(price: float, ts: int, seen: int) -> None:
                """Two quotes, folded when this returns."""
                now = time.time_ns()
                await market.quotes(a_quote("AAPL", ts + n, price, received_ts=now) for n in (0, 1))

                async def folded() -> bool:
                    state = exits.get("/health")
                    return state.get("status") == "healthy" and not any(state["lag"].values())

                await until(folded)
                assert len((await outcome(settings, codec)).triggers) == seen

            await quotes(100.0, before.closes - MINUTE, 0)
            async with aiohttp.ClientSession() as http:
                body = {"symbol": "AAPL", "old_rate": "1", "new_rate": "4"}
                async with http.post(f"{broker.url}/sim/trading/split", json=body) as answer:
                    assert answer.status == 200, await answer.text()
            booked = await until(activities)
            # The test may run across a close, after which a split is the next day's: its own time counts.
            effect = takes_effect(max(a["ts"] for a in booked))
            after = session(effect + DAY // 2, 1)
            split = await until(lambda: watch(lambda w: w["quantity"] == 400 and w["held"] is None))
            assert split["stop_price"] == 95, "whoever has the prices rescales it"
            await quotes(25.0, after.opens + MINUTE, 0)
            await quotes(23.8, after.opens + 2 * MINUTE, 0)
            now = time.time_ns()
            await market.quotes([a_quote("AAPL", after.opens + 3 * MINUTE, 23.7, received_ts=now)])

            async def fired() -> list[Any]:
                return (await outcome(settings, codec)).intents

            (intent,) = await until(fired)
            assert (intent["symbol"], intent["side"]) == ("AAPL", "sell")
            found = await outcome(settings, codec)
            assert {t["threshold"] for t in found.triggers} == {Decimal("23.75")}
            assert "rescaled" in {e["event"] for e in found.events}
            assert portfolio.process.poll() is None
