"""What the tests of the PostgreSQL sink share: records into Kafka, a sink to run or kill, its rows."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psycopg
from aiokafka import AIOKafkaProducer

from sinks.postgres import app, connection
from sinks.postgres.record_tables import SOURCES
from sinks.postgres.tables import TABLES
from tidewire.config import Settings
from tidewire.health import Health
from tidewire.kafka import client_arguments

ROOT = Path(__file__).parents[2]
TOPICS = tuple(fed.topic for fed in (*TABLES, *SOURCES))
"""Every topic that the sink reads."""


async def produce(settings: Settings, topic: str, values: Sequence[tuple[str, bytes | None]]) -> None:
    """Send keys and values and wait until Kafka has them."""
    producer = AIOKafkaProducer(**client_arguments(settings), linger_ms=5, max_batch_size=4096)
    await producer.start()
    try:
        sent = [
            await producer.send(settings.tidewire_topic_prefix + topic, key=symbol.encode(), value=value)
            for symbol, value in values
        ]
        await asyncio.gather(*sent)
    finally:
        await producer.stop()


@asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[tuple[app.Sink, Health]]:
    """A sink in this process; leaves as with SIGTERM."""
    sink, health, stop = app.Sink(settings), Health("sink"), asyncio.Event()
    task = asyncio.create_task(sink.run(health, stop))
    try:
        yield sink, health
    finally:
        stop.set()
        await asyncio.wait_for(task, 30)


def rows(settings: Settings, text: str) -> list[tuple[Any, ...]]:
    """The rows of a query in the sink's database."""
    with psycopg.connect(connection.url(settings)) as database:
        return database.execute(text.encode()).fetchall()


def count(settings: Settings, table: str) -> int:
    """Rows of a table; 0 before the sink has made it."""
    if rows(settings, f"SELECT to_regclass('{table}')") == [(None,)]:
        return 0
    return int(rows(settings, f"SELECT count(*) FROM {table}")[0][0])


async def until(condition: Callable[[], bool], seconds: float = 30) -> None:
    """Wait for a condition; fails when it does not come true in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "not in time"
        await asyncio.sleep(0.02)


def start_process(settings: Settings) -> subprocess.Popen[bytes]:
    """A sink in a process of its own."""
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("TIDEWIRE_")},
        "KAFKA_BOOTSTRAP_SERVERS": str(settings.kafka_bootstrap_servers),
        "DATABASE_URL": connection.url(settings),
        "TIDEWIRE_TOPIC_PREFIX": settings.tidewire_topic_prefix,
        "TIDEWIRE_HOME": str(settings.tidewire_home),
        "POLARS_MAX_THREADS": "1",
    }
    code = "import sys; from sinks.postgres.app import main; from tidewire.config import load; "
    code += "sys.exit(main(load()))"
    return subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, env=environment)
