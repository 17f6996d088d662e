"""Faust as its documentation has it: an agent and a table in memory with a changelog, record by record."""

from __future__ import annotations

import asyncio
import io
import time
from typing import Any

import fastavro
import faust

from benchmarks.ingest import cpu_seconds
from benchmarks.peers import naive
from schemas.catalogue import STOCK_TRADES, schema
from tidewire import config
from tidewire.config import Settings
from tidewire.kafka import bootstrap

APP = "tidewire-processor-faust"
TABLE = "accumulators"
_HEADER = 5
_SETTLE = 1.5
"""Seconds after the last record in which its commit and changelog are written; they count as CPU time."""
_PATIENCE = 200.0
_STOP_SECONDS = 20.0


def run(count: int) -> dict[str, float]:
    """Fold `count` trades."""
    return asyncio.run(_run(config.load(), count))


async def _run(settings: Settings, count: int) -> dict[str, float]:
    marks: asyncio.Queue[tuple[float, float]] = asyncio.Queue()
    app = _app(settings)
    _build(app, settings.tidewire_topic_prefix + STOCK_TRADES, count, marks)
    await app.start()
    try:
        async with asyncio.timeout(_PATIENCE):
            start, end = await marks.get(), await marks.get()
        await asyncio.sleep(_SETTLE)
        settled = cpu_seconds()
    finally:
        await asyncio.wait([asyncio.create_task(app.stop())], timeout=_STOP_SECONDS)
    return {"records": count - 1, "wall": end[0] - start[0], "cpu": settled - start[1]}


def _app(settings: Settings) -> faust.App:
    return faust.App(
        settings.tidewire_topic_prefix + APP,
        broker=[f"kafka://{address}" for address in bootstrap(settings).split(",")],
        store="memory://",
        broker_commit_interval=1.0,
        consumer_auto_offset_reset="earliest",
        topic_partitions=4,
        topic_replication_factor=1,
        table_standby_replicas=0,
        broker_session_timeout=10.0,
        stream_wait_empty=False,  # it waits for garbage collection, and has hung a stop
        datadir=settings.tidewire_home / "stock-faust",
        web_enabled=False,
        autodiscover=False,
    )


def _build(app: faust.App, topic: str, count: int, marks: asyncio.Queue[tuple[float, float]]) -> None:
    table = app.Table(TABLE, key_type=bytes, value_type=list)
    source = app.topic(topic, key_type=bytes, value_type=bytes, value_serializer="raw", key_serializer="raw")
    parsed = fastavro.parse_schema(schema("stock_trade"))

    async def fold(stream: Any) -> None:
        done = 0
        async for key, value in stream.items():
            body = io.BytesIO(value)
            body.seek(_HEADER)
            trade: Any = fastavro.schemaless_reader(body, parsed, None)
            table[key] = naive.add(table.get(key), trade)
            done += 1
            if done in (1, count):
                marks.put_nowait((time.perf_counter(), cpu_seconds()))

    app.agent(source, name="fold")(fold)
