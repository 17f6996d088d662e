"""How long 100,000 keys are away after kill -9 of a worker: with a standby, and by a cold start."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from statistics import median
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from benchmarks import fleet
from benchmarks.fleet import PARTITIONS, Processor
from benchmarks.process import side
from benchmarks.servers import APP, Servers
from schemas.catalogue import STOCK_QUOTES, STOCK_TRADES
from tidewire.config import Settings
from tidewire.kafka import client_arguments
from tidewire.placing import partition_of

KEYS = 100_000
_START_NS = 1_381_152_600 * 10**9
_BATCH = 200


def standby(servers: Servers, repetitions: int, say: Callable[[str], None]) -> tuple[float, dict[str, float]]:
    """Seconds from the kill of one of two workers, which share KEYS, until the other serves every key."""
    return _measure(servers, repetitions, say, workers=2)


def cold(servers: Servers, repetitions: int, say: Callable[[str], None]) -> tuple[float, dict[str, float]]:
    """Seconds from the kill of the only worker until the next, started at once, serves every key."""
    return _measure(servers, repetitions, say, workers=1)


def _measure(
    servers: Servers, repetitions: int, say: Callable[[str], None], workers: int
) -> tuple[float, dict[str, float]]:
    runs: list[dict[str, float]] = []
    with servers.topics("recovery") as mine:
        say(f"a trade of each of {KEYS:,} symbols")
        side("benchmarks.recovery:publish", {"keys": KEYS}, mine.env())
        for n in range(repetitions):
            say(f"kill {n + 1} of {repetitions}")
            runs.append(side("benchmarks.recovery:kill", {"keys": KEYS, "workers": workers}, mine.env()))
    seconds = [run["seconds"] for run in runs]
    details = {"longest_s": round(max(seconds), 2), "keys": float(KEYS)}
    return median(seconds), details | {"changelog_records_read": median(run["read"] for run in runs)}


def publish(keys: int) -> dict[str, float]:
    """A trade of each symbol."""
    asyncio.run(_publish(keys))
    return {}


async def _publish(keys: int) -> None:
    from schemas.codec import load_codec
    from tidewire import config

    settings = config.load()
    encode = load_codec(settings).encoder("stock_trade")
    lanes: dict[int, list[tuple[bytes, bytes]]] = {p: [] for p in range(PARTITIONS)}
    for trade in _trades(keys):
        key = trade["symbol"].encode()
        lanes[partition_of(key, PARTITIONS)].append((key, encode(trade)))
    producer = AIOKafkaProducer(**client_arguments(settings), enable_idempotence=True)
    await producer.start()
    try:
        for partition, lane in lanes.items():
            for at in range(0, len(lane), _BATCH):
                batch = producer.create_batch()
                for key, value in lane[at : at + _BATCH]:
                    batch.append(key=key, value=value, timestamp=None)
                topic = settings.tidewire_topic_prefix + STOCK_TRADES
                await producer.send_batch(batch, topic, partition=partition)
        await producer.flush()
    finally:
        await producer.stop()


def _trades(keys: int) -> Iterator[dict[str, Any]]:
    for n in range(keys):
        yield {
            "symbol": f"K{n:06d}", "ts": _START_NS + n, "id": n, "exchange": "V", "price": 10 + n / 10_000,
            "size": 100, "conditions": ["@"], "tape": "C", "extra": None, "received_ts": _START_NS + n,
            "source": "ws", "owner_epoch": 1, "event_id": n.to_bytes(8, "big"),
        }  # fmt: skip


def kill(keys: int, workers: int) -> dict[str, float]:
    """One kill -9 of a settled group: seconds until one worker is ready with everything, and what it read."""
    from tidewire import config

    settings = config.load()
    topic = settings.tidewire_topic_prefix + STOCK_TRADES

    def complete(health: dict[str, Any]) -> bool:
        return fleet.served(health, topic) == PARTITIONS and health["keys"] == keys

    with fleet.processors(settings, workers) as running:
        _until_committed(settings, running)
        fleet.until_shared(running, topic)
        survivor, before = running[-1], 0
        if workers > 1:
            before = _read(survivor.health())
        killed = time.monotonic()
        running[0].kill()
        if workers == 1:
            survivor = fleet.start(settings)
            running.append(survivor)
        health = survivor.until(complete)
        return {"seconds": time.monotonic() - killed, "read": _read(health) - before}


def _read(health: dict[str, Any]) -> int:
    return int(health["read"]["features"]["served"])


def _until_committed(settings: Settings, running: list[Processor]) -> None:
    """Everything that was published is folded, and in the changelog."""
    deadline = time.monotonic() + fleet.PATIENCE
    while not asyncio.run(_is_committed(settings)):
        if time.monotonic() > deadline or any(one.process.poll() is not None for one in running):
            raise fleet.StuckError(running[0].log.read_text()[-600:])
        time.sleep(0.5)


async def _is_committed(settings: Settings) -> bool:
    prefix = settings.tidewire_topic_prefix
    client = AIOKafkaConsumer(**client_arguments(settings), group_id=prefix + APP)
    await client.start()
    try:
        lanes = [
            TopicPartition(prefix + t, p) for t in (STOCK_TRADES, STOCK_QUOTES) for p in range(PARTITIONS)
        ]
        ends = await client.end_offsets(lanes)
        return all([(await client.committed(lane) or 0) == ends[lane] for lane in lanes])
    finally:
        await client.stop()
