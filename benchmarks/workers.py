"""Two workers that share the partitions and stand by for each other, against one that has them all."""

from __future__ import annotations

import asyncio
import itertools
import signal
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

from aiokafka import AIOKafkaProducer

from benchmarks import fleet, market
from benchmarks.fleet import PARTITIONS, Processor
from benchmarks.process import sample
from benchmarks.results import Sample, compared
from benchmarks.servers import Servers
from console.screen.exposition import parse
from processors.stock_features import STAGE
from schemas.catalogue import STOCK_QUOTES, STOCK_TRADES
from tidewire.config import Settings
from tidewire.kafka import client_arguments
from tidewire.placing import partition_of

RECORDS = 1_000_000
_DISTINCT = 30_000
"""Different records; they are sent again and again: the table counts by offset, not by content."""
_BATCH = 1_000
_STOPPED_SECONDS = 3.5
"""So long at most the workers stand still while the topics are filled: less than their session's timeout."""
_SETTLE = 1.5

Batch = tuple[str, int, list[tuple[bytes, bytes]]]
"""Topic without prefix, partition, records."""


def measure(servers: Servers, repetitions: int, say: Callable[[str], None]) -> tuple[float, dict[str, float]]:
    """Ratio of records per CPU-second of all workers together."""
    two: list[Sample] = []
    one: list[Sample] = []
    for n in range(repetitions):
        say(f"run {n + 1} of {repetitions}")
        for workers, samples in ((2, two), (1, one)):
            with servers.topics(f"workers{n}-{workers}") as mine:
                samples.append(sample("benchmarks.workers:share", {"workers": workers}, mine.env()))
    return compared(two, one)


def share(workers: int) -> dict[str, float]:
    """So many workers fold what came while they stood still; the CPU time is that of all of them."""
    from tidewire import config

    settings = config.load()
    batches = _batches(settings)
    with fleet.processors(settings, workers) as running:
        fleet.until_shared(running, settings.tidewire_topic_prefix + STOCK_TRADES)
        for one in running:
            one.send(signal.SIGSTOP)
        try:
            count = asyncio.run(_publish(settings, batches))
        finally:
            for one in running:
                one.send(signal.SIGCONT)
        cpu, started = sum(one.cpu() for one in running), time.perf_counter()
        _until_applied(running, count)
        wall = time.perf_counter() - started
        time.sleep(_SETTLE)  # the last commit and what the standbys read of it count
        return {"records": count, "wall": wall, "cpu": sum(one.cpu() for one in running) - cpu}


def _until_applied(running: list[Processor], count: int) -> None:
    deadline = time.monotonic() + fleet.PATIENCE
    while (applied := sum(map(_applied, running))) < count:
        if time.monotonic() > deadline:
            raise fleet.StuckError(f"{applied:,.0f} of {count:,} applied")
        time.sleep(0.1)


def _applied(one: Processor) -> float:
    found = parse(one.get("/metrics").decode())
    mine = (n for s, labels, n in found if s == "tidewire_records_applied_total" and labels["stage"] == STAGE)
    return sum(mine)


def _batches(settings: Settings) -> list[Batch]:
    """Two quotes for each trade, encoded once, before anything is measured."""
    from schemas.codec import load_codec

    codec = load_codec(settings)
    trade, quote = codec.encoder("stock_trade"), codec.encoder("stock_quote")
    lanes: defaultdict[tuple[str, int], list[tuple[bytes, bytes]]] = defaultdict(list)
    for n in range(_DISTINCT):
        key = market.SYMBOLS[n * 7 % len(market.SYMBOLS)].encode()
        topic, value = (
            (STOCK_TRADES, trade(_trade(n, key))) if n % 3 == 0 else (STOCK_QUOTES, quote(_quote(n, key)))
        )
        lanes[topic, partition_of(key, PARTITIONS)].append((key, value))
    return [
        (topic, partition, lane[at : at + _BATCH])
        for (topic, partition), lane in lanes.items()
        for at in range(0, len(lane), _BATCH)
    ]


def _trade(n: int, key: bytes) -> dict[str, Any]:
    own = {"id": n, "exchange": "V", "price": 100 + n % 50 / 100, "size": 100, "conditions": ["@", "I"]}
    return _common(n, key) | own


def _quote(n: int, key: bytes) -> dict[str, Any]:
    bid = {"bid_exchange": "Q", "bid_price": 100 + n % 50 / 100, "bid_size": 3}
    return _common(n, key) | bid | {
        "ask_exchange": "P", "ask_price": 101.0, "ask_size": 2, "conditions": ["R"],
    }  # fmt: skip


def _common(n: int, key: bytes) -> dict[str, Any]:
    ts = market.START_NS + n * 37_001
    stamp = {"received_ts": ts, "source": "ws", "owner_epoch": 1, "event_id": n.to_bytes(8, "big")}
    return {"symbol": key.decode(), "ts": ts, "tape": "C", "extra": None} | stamp


async def _publish(settings: Settings, batches: list[Batch]) -> int:
    """Send the batches again and again, until it is enough or the workers have stood still long enough."""
    producer = AIOKafkaProducer(
        **client_arguments(settings), enable_idempotence=True, max_batch_size=1 << 20, linger_ms=0
    )
    await producer.start()
    try:
        count, deadline = 0, time.monotonic() + _STOPPED_SECONDS
        for topic, partition, records in itertools.cycle(batches):
            if count >= RECORDS or time.monotonic() > deadline:
                break
            batch = producer.create_batch()
            for key, value in records:
                batch.append(key=key, value=value, timestamp=None)
            await producer.send_batch(batch, settings.tidewire_topic_prefix + topic, partition=partition)
            count += len(records)
        await producer.flush()
        return count
    finally:
        await producer.stop()
