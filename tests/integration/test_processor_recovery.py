"""The processor on a real Kafka: killed with -9 again and again, fed with broken records, stopped politely.

If these fail, volumes and VWAPs are counted twice or not at all after a crash, or records vanish unseen.
"""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer

from schemas import cluster
from schemas.catalogue import STOCK_QUOTES, STOCK_TRADES
from schemas.codec import Codec, load_codec
from tests.integration.processor_market import (
    SYMBOLS,
    a_quote,
    a_trade,
    assert_equal,
    has_keys,
    is_healthy,
    last_features,
    naive,
)
from tests.integration.processor_process import (
    NEEDED,
    PARTITION_OF,
    PARTITIONS,
    Feeder,
    read_all,
    until_folded,
    worker,
)
from tidewire.config import Settings
from tidewire.kafka import client_arguments

pytestmark = pytest.mark.kafka


@pytest.fixture
def codec(settings: Settings) -> Codec:
    return load_codec(settings)


@pytest.fixture
async def producer(settings: Settings) -> AsyncIterator[AIOKafkaProducer]:
    await cluster.apply(settings, only=NEEDED)
    client = AIOKafkaProducer(
        **client_arguments(settings), enable_idempotence=True, compression_type="lz4", max_batch_size=1 << 20
    )
    await client.start()
    yield client
    await client.stop()


async def test_every_record_is_folded_once_although_the_worker_is_killed_again_and_again(
    settings: Settings, codec: Codec, producer: AIOKafkaProducer
) -> None:
    """kill -9 before, in and after batches of changing sizes: the table equals a fold that never crashed."""
    chance = random.Random(7)
    feeder = Feeder(settings, producer)
    trades: list[dict[str, Any]] = []
    quotes: list[dict[str, Any]] = []
    for kill, size in enumerate([1, 400, 37]):
        new_trades = [a_trade(len(trades) + i, chance) for i in range(3_000)]
        new_quotes = [a_quote(len(quotes) + i, chance) for i in range(3_000)]
        trades, quotes = trades + new_trades, quotes + new_quotes
        encoded = [(t["symbol"], codec.encode("stock_trade", t)) for t in new_trades]
        await feeder.send(STOCK_TRADES, encoded[: 1_000 * kill], size)
        with worker(settings) as running:
            await running.until(has_keys if kill else is_healthy)
            feeding = asyncio.create_task(feeder.send(STOCK_TRADES, encoded[1_000 * kill :], size))
            await feeder.send(
                STOCK_QUOTES, [(q["symbol"], codec.encode("stock_quote", q)) for q in new_quotes]
            )
            await asyncio.sleep(chance.uniform(0, 1.5))  # the moment of the crash, not a wait for something
            running.process.kill()
            running.process.wait()
            await feeding
    with worker(settings) as running:
        await until_folded(settings, running)  # what it says of its lag is as old as its last fetch
        health = await running.until(is_healthy)
        assert health["keys"] == len(SYMBOLS)
        assert sorted(health["partitions"][settings.tidewire_topic_prefix + STOCK_TRADES]) == PARTITIONS
        running.process.send_signal(signal.SIGTERM)
        stopping = time.monotonic()
        assert running.process.wait(10) == 0
        assert time.monotonic() - stopping < 5
    assert_equal(await last_features(settings, codec), naive(trades, quotes))
    assert await read_all(settings, STOCK_TRADES + ".dlq") == []


async def test_broken_records_in_a_batch_are_dead_letters_and_their_neighbours_are_folded(
    settings: Settings, codec: Codec, producer: AIOKafkaProducer
) -> None:
    """A corrupt record, an unknown schema id and a NaN price: each with its bytes, its place and why."""
    chance = random.Random(8)
    trades = [a_trade(i, chance) | {"symbol": "SYM1"} for i in range(300)]
    values = [codec.encode("stock_trade", t) for t in trades]
    nan = codec.encode("stock_trade", trades[0] | {"price": float("nan")})
    broken = {
        50: (values[50][:-9], "value does not decode as stock_trade"),
        120: (b"\0\0\0\0\x07" + values[120][5:], "unknown schema id 7"),
        200: (nan, "price nan is not a price in USD"),
    }
    for at, (value, _) in broken.items():
        values[at] = value
    with worker(settings) as running:
        await Feeder(settings, producer).send(STOCK_TRADES, [("SYM1", value) for value in values])
        await running.until(lambda h: h.get("keys") == 1 and not any(h["lag"].values()))
        running.process.send_signal(signal.SIGTERM)
        assert running.process.wait(10) == 0
    letters = await read_all(settings, STOCK_TRADES + ".dlq")
    partition = PARTITION_OF(b"SYM1", PARTITIONS, PARTITIONS)
    found = {int(dict(letter.headers)["offset"]): letter for letter in letters}
    assert sorted(found) == sorted(broken)
    for offset, letter in found.items():
        headers = {name: text.decode() for name, text in letter.headers}
        assert (letter.key, letter.value) == (b"SYM1", broken[offset][0])
        assert headers["topic"] == settings.tidewire_topic_prefix + STOCK_TRADES
        assert headers["partition"] == str(partition)
        assert headers["stage"] == "processor"
        assert broken[offset][1] in headers["reason"]
    record = (await last_features(settings, codec))["SYM1"]
    sound = [t for i, t in enumerate(trades) if i not in broken]
    assert record["trades_folded"] == len(sound)
    assert record["last"] == max(sound, key=lambda t: (t["ts"], t["id"]))["price"]


async def test_a_flood_of_broken_records_stops_the_service_with_a_message(
    settings: Settings, producer: AIOKafkaProducer
) -> None:
    """A wrong schema deployed would else bury the day in dead letters, record by record."""
    await Feeder(settings, producer).send(STOCK_TRADES, [("SYM1", b"{}")] * 150)
    with worker(settings) as running:
        assert await asyncio.to_thread(running.process.wait, 60) == 7
        text = running.log.read_text()
    assert "records of" in text
    assert "were refused" in text


async def test_missing_topics_are_named(settings: Settings) -> None:
    with worker(settings) as running:
        assert await asyncio.to_thread(running.process.wait, 60) == 6
        assert f"{settings.tidewire_topic_prefix}{STOCK_TRADES}" in running.log.read_text()
        assert "tidewire topics apply" in running.log.read_text()
