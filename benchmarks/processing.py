"""The features table with its changelog, against a bare consumer with fastavro and a dict."""

from __future__ import annotations

import asyncio
import io
import time
from collections.abc import Callable
from typing import Any

import fastavro
from aiokafka import AIOKafkaConsumer, TopicPartition

from benchmarks.ingest import cpu_seconds
from benchmarks.meter import metered, peak_memory
from benchmarks.process import sample, side
from benchmarks.results import Sample, compared
from benchmarks.servers import Servers

RECORDS = 600_000


def measure(servers: Servers, repetitions: int, say: Callable[[str], None]) -> tuple[float, dict[str, float]]:
    """Ratio of records per CPU-second of the process."""
    ours: list[Sample] = []
    reference: list[Sample] = []
    with servers.topics("processing") as mine:
        say(f"filling the topics with {RECORDS:,} records")
        side("benchmarks.ingest:publish", {"count": RECORDS}, mine.env())
        for n in range(repetitions):
            say(f"run {n + 1} of {repetitions}")
            mine.forget_processor()
            ours.append(sample("benchmarks.processing:fold", {"count": RECORDS}, mine.env()))
            reference.append(sample("benchmarks.processing:bare", {"count": RECORDS}, mine.env()))
    return compared(ours, reference)


def fold(count: int) -> dict[str, float]:
    """Ours: the processor as it runs, with table, changelog, feature records and commits."""
    from processors.app import main
    from processors.stock_features import STAGE
    from tidewire import config

    return metered(STAGE, count, lambda: main(config.load())) | {"rss": peak_memory()}


def bare(count: int) -> dict[str, float]:
    """The reference: aiokafka's fetch, fastavro, one dict a symbol. No state is kept anywhere."""
    return asyncio.run(_bare(count))


async def _bare(count: int) -> dict[str, float]:
    from schemas.catalogue import STOCK_QUOTES, STOCK_TRADES, schema
    from tidewire import config
    from tidewire.kafka import client_arguments

    settings = config.load()
    parsed = {
        settings.tidewire_topic_prefix + STOCK_TRADES: fastavro.parse_schema(schema("stock_trade")),
        settings.tidewire_topic_prefix + STOCK_QUOTES: fastavro.parse_schema(schema("stock_quote")),
    }
    consumer = AIOKafkaConsumer(
        **client_arguments(settings),
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        max_partition_fetch_bytes=8 << 20,
    )
    await consumer.start()
    consumer.assign([TopicPartition(t, p) for t in parsed for p in range(4)])
    state: dict[str, dict[str, Any]] = {}
    read, done = fastavro.schemaless_reader, 0
    cpu, wall = cpu_seconds(), time.perf_counter()
    while done < count:
        for tp, records in (await consumer.getmany(timeout_ms=1000, max_records=8000)).items():
            schema_ = parsed[tp.topic]
            for record in records:
                body = io.BytesIO(record.value)
                body.seek(5)
                _apply(state, read(body, schema_, None))
            done += len(records)
    answer = {"records": done, "wall": time.perf_counter() - wall, "cpu": cpu_seconds() - cpu}
    await consumer.stop()
    return answer


def _apply(state: dict[str, dict[str, Any]], event: Any) -> None:
    row = state.get(event["symbol"])
    if row is None:
        row = state[event["symbol"]] = {"volume": 0, "notional": 0.0, "high": 0.0, "low": 1e300, "trades": 0}
    if "price" in event:
        price, size = event["price"], event["size"]
        row["last"] = price
        row["volume"] += size
        row["notional"] += price * size
        row["trades"] += 1
        row["high"] = max(row["high"], price)
        row["low"] = min(row["low"], price)
    else:
        row["bid"], row["ask"], row["quote_ts"] = event["bid_price"], event["ask_price"], event["ts"]
