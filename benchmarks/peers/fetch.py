"""aiokafka's fetch and nothing else: a record's bytes are in an object, nobody looks at them."""

from __future__ import annotations

import asyncio
import time

from aiokafka import AIOKafkaConsumer, TopicPartition

from benchmarks.ingest import cpu_seconds
from schemas.catalogue import STOCK_TRADES
from tidewire import config
from tidewire.kafka import client_arguments


def run(count: int) -> dict[str, float]:
    """Fetch `count` trades."""
    return asyncio.run(_run(count))


async def _run(count: int) -> dict[str, float]:
    settings = config.load()
    topic = settings.tidewire_topic_prefix + STOCK_TRADES
    consumer = AIOKafkaConsumer(
        **client_arguments(settings),
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        max_partition_fetch_bytes=8 << 20,
    )
    await consumer.start()
    consumer.assign([TopicPartition(topic, p) for p in range(4)])
    done = 0
    cpu, wall = cpu_seconds(), time.perf_counter()
    while done < count:
        found = await consumer.getmany(timeout_ms=1000, max_records=8000)
        done += sum(map(len, found.values()))
    answer = {"records": done, "wall": time.perf_counter() - wall, "cpu": cpu_seconds() - cpu}
    await consumer.stop()
    return answer
