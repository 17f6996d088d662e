"""The processor as a process of its own, for the tests that kill, stop and feed it."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.partitioner import DefaultPartitioner

from processors.app import APP_ID, INPUTS, OTHERS, OUTPUTS
from schemas.catalogue import STOCK_QUOTES, STOCK_TRADES
from tidewire.config import Settings
from tidewire.kafka import client_arguments

PARTITIONS = [0, 1, 2, 3]
PARTITION_OF = DefaultPartitioner()
NEEDED = (*INPUTS, *OUTPUTS, *OTHERS)
PROGRAM = (
    "import sys; from processors.app import main; from tidewire.config import load; sys.exit(main(load()))"
)


class Feeder:
    """Publishes whole batches, as the real producer does."""

    def __init__(self, settings: Settings, producer: AIOKafkaProducer) -> None:
        self._prefix, self._producer = settings.tidewire_topic_prefix, producer

    async def send(self, topic: str, values: list[tuple[str, bytes]], size: int = 500) -> None:
        lanes: dict[int, list[tuple[bytes, bytes]]] = {}
        for symbol, value in values:
            partition = PARTITION_OF(symbol.encode(), PARTITIONS, PARTITIONS)
            lanes.setdefault(partition, []).append((symbol.encode(), value))
        for partition, lane in lanes.items():
            for start in range(0, len(lane), size):
                batch = self._producer.create_batch()
                for key, value in lane[start : start + size]:
                    assert batch.append(key=key, value=value, timestamp=None) is not None, "batch too small"
                await self._producer.send_batch(batch, self._prefix + topic, partition=partition)
        await self._producer.flush()


class Worker:
    """A processor in a process of its own."""

    def __init__(self, settings: Settings, environment: dict[str, str], program: str = PROGRAM) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        own = {
            "KAFKA_BOOTSTRAP_SERVERS": settings.kafka_bootstrap_servers or "",
            "TIDEWIRE_TOPIC_PREFIX": settings.tidewire_topic_prefix,
            "TIDEWIRE_HOME": str(settings.tidewire_home),
            "TIDEWIRE_HTTP_PORT": str(self.port),
            "POLARS_MAX_THREADS": "1",
            "RUST_BACKTRACE": "0",
        }
        self.log = Path(settings.tidewire_home) / f"processor-{self.port}.log"
        self.output = self.log.open("wb")
        self.process = subprocess.Popen(
            [sys.executable, "-c", program],
            env=os.environ | own | environment,
            cwd=Path(__file__).parents[2],
            stderr=self.output,
        )

    def get(self, path: str) -> dict[str, Any]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as answer:
                return dict(json.load(answer))
        except urllib.error.HTTPError as error:
            return dict(json.load(error))
        except OSError:
            return {}

    async def until(self, wanted: Callable[[dict[str, Any]], bool], seconds: float = 90) -> dict[str, Any]:
        deadline = time.monotonic() + seconds
        health: dict[str, Any] = {}
        while time.monotonic() < deadline:
            health = await asyncio.to_thread(self.get, "/health")
            if wanted(health):
                return health
            assert self.process.poll() is None, self.log.read_text()[-4000:]
            await asyncio.sleep(0.05)
        raise AssertionError(f"{health}\n{self.log.read_text()[-4000:]}")


@contextmanager
def worker(settings: Settings, program: str = PROGRAM, **environment: str) -> Iterator[Worker]:
    """A processor that is killed at the end if it still runs."""
    running = Worker(settings, environment, program)
    try:
        yield running
    finally:
        if running.process.poll() is None:
            running.process.kill()
        running.process.wait(10)
        running.output.close()


async def read_all(settings: Settings, topic: str) -> list[Any]:
    client = AIOKafkaConsumer(**client_arguments(settings), auto_offset_reset="earliest")
    name = settings.tidewire_topic_prefix + topic
    await client.start()
    try:
        lanes = [TopicPartition(name, p) for p in PARTITIONS]
        client.assign(lanes)
        ends = await client.end_offsets(lanes)
        records: list[Any] = []
        while any([await client.position(lane) < ends[lane] for lane in lanes]):
            for found in (await client.getmany(timeout_ms=500)).values():
                records += found
        return records
    finally:
        await client.stop()


async def until_folded(settings: Settings, *running: Worker) -> None:
    """Every record is folded and committed; what a worker says of its lag is as old as its last fetch."""
    deadline = time.monotonic() + 90
    while (found := await offsets(settings))[0] != found[1]:
        for one in running:
            assert one.process.poll() is None, one.log.read_text()[-4000:]
        assert time.monotonic() < deadline, found
        await asyncio.sleep(0.1)


async def offsets(settings: Settings) -> tuple[dict[TopicPartition, int], dict[TopicPartition, int]]:
    """Committed by the processor's group, and the ends, of its inputs."""
    prefix = settings.tidewire_topic_prefix
    client = AIOKafkaConsumer(**client_arguments(settings), group_id=prefix + APP_ID)
    await client.start()
    try:
        lanes = [
            TopicPartition(prefix + topic, p) for topic in (STOCK_TRADES, STOCK_QUOTES) for p in PARTITIONS
        ]
        ends = await client.end_offsets(lanes)
        return {lane: await client.committed(lane) or 0 for lane in lanes}, ends
    finally:
        await client.stop()
