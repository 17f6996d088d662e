"""Processors and a sink on a local stack of their own: started, stopped, killed, and what they have done.

What they have done is read from where they keep it: committed offsets from Kafka, stored ones by plain SQL.
"""

from __future__ import annotations

import asyncio
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
from confluent_kafka import (
    OFFSET_BEGINNING,
    Consumer,
    KafkaException,
    Message,
    TopicPartition,
)

from processors.app import APP_ID
from schemas import cluster
from tests.chaos.processing_plan import PARTITIONS, TOPICS
from tests.chaos.processing_service import Service
from tests.e2e.independent_digest import end_of
from tests.integration import processor_process, sink_process
from tidewire import config
from tidewire.errors import UnreachableError
from tidewire.stack import LocalStack

POLITE_SECONDS = 20.0
Ends = dict[tuple[str, int], int]
"""(topic, partition) -> an offset."""


class Line:
    """The stack and the processes of one run. `crashed`: those that ended by themselves, or not in order."""

    def __init__(self, home: Path) -> None:
        self.stack = LocalStack(home / "stack")
        self._home = home
        self._started = 0
        self.workers: list[Service] = []
        self.sink: Service | None = None
        self.crashed: list[str] = []
        self.began_in_vain = 0
        self.settings = config.load(_env_file=None)

    async def up(self) -> None:
        """Start the servers and make the topics."""
        addresses = await asyncio.to_thread(self.stack.up)
        self.settings = config.load(
            _env_file=None,
            kafka_bootstrap_servers=addresses.kafka_bootstrap,
            database_url=addresses.database_url,
            tidewire_topic_prefix="chaos.",
            tidewire_home=self._home,
            tidewire_partitions=PARTITIONS,
        )
        topics = {*processor_process.NEEDED, *sink_process.TOPICS}
        await cluster.apply(self.settings, only=topics)

    def down(self) -> None:
        """End everything."""
        for service in [*self.workers, *([self.sink] if self.sink else [])]:
            if not service.ended():
                service.kill()
        self.stack.wipe()

    # -- processes

    def start_worker(self) -> Service:
        """One more processor."""
        self._started += 1
        self.workers.append(Service("processor", self._started, self.settings))
        return self.workers[-1]

    def start_sink(self) -> Service:
        """The sink, or the next one in its place."""
        self._started += 1
        self.sink = Service("sink", self._started, self.settings)
        return self.sink

    def look_after(self) -> None:
        """As the supervisor: start again what ended by itself, and remember it."""
        for worker in [w for w in self.workers if w.ended()]:
            self._note_end(worker)
            self.workers.remove(worker)
            self.start_worker()
        if self.sink is not None and self.sink.ended():
            self._note_end(self.sink)
            self.start_sink()

    def _note_end(self, service: Service) -> None:
        if service.process.returncode == UnreachableError.exit_code:
            self.began_in_vain += 1  # Kafka was away when it began
        else:
            self.crashed.append(f"{service.name} ended with {service.process.returncode}: {service.log()}")

    async def leave(self, worker: Service) -> None:
        """One worker less."""
        await self._begun(worker)
        if worker in self.workers:  # else it has ended by itself, and another was started
            self.workers.remove(worker)
            await self.stop(worker)

    async def _begun(self, service: Service) -> None:
        """A process that has only just been started does not know yet what to do about a signal."""
        await self.until(
            lambda: service.ended() or service.get("/livez") is not None, f"begin of {service.name}"
        )

    async def stop(self, service: Service) -> None:
        """SIGTERM; it must go in order and in time."""
        await self._begun(service)
        service.ask_to_stop()
        try:
            await asyncio.to_thread(service.process.wait, POLITE_SECONDS)
        except subprocess.TimeoutExpired:
            self.crashed.append(f"{service.name} did not stop on SIGTERM: {service.log()}")
            service.kill()
        if service.ended() and service.process.returncode != 0:
            self.crashed.append(f"{service.name} left with {service.process.returncode}: {service.log()}")

    async def until(self, condition: Callable[[], bool], what: str, seconds: float = 180) -> float:
        """Wait for a condition, looking after the processes meanwhile; returns the seconds that it took."""
        began = time.monotonic()
        while not await asyncio.to_thread(condition):
            self.look_after()
            if time.monotonic() - began > seconds:
                logs = "\n".join(f"{s.name}: {s.log(1_500)}" for s in [*self.workers, self.sink] if s)
                done = f"committed: {self.committed()}, stored: {self.stored()}"
                raise AssertionError(f"no {what} within {seconds:.0f} s\n{done}\n{logs}")
            await asyncio.sleep(0.1)
        return time.monotonic() - began

    # -- what they have done

    def committed(self) -> Ends:
        """The processors' offsets in Kafka; none while Kafka is away.

        By a consumer that joins nothing: librdkafka's admin client aborts the whole process when its broker
        dies during this very request.
        """
        consumer = Consumer(
            {
                "bootstrap.servers": self.settings.kafka_bootstrap_servers,
                "group.id": self.settings.tidewire_topic_prefix + APP_ID,
                "log_level": 0,
            }
        )
        prefix = self.settings.tidewire_topic_prefix
        wanted = [TopicPartition(prefix + topic, part) for topic in TOPICS for part in range(PARTITIONS)]
        try:
            found = consumer.committed(wanted, timeout=5)
        except KafkaException:
            return {}
        finally:
            consumer.close()
        return {
            (self.plain(place.topic), place.partition): place.offset for place in found if place.offset >= 0
        }

    def stored(self) -> Ends:
        """The sink's offsets in PostgreSQL."""
        rows = self.rows("SELECT topic, part, next_offset FROM kafka_offsets", table="kafka_offsets")
        places = {(self.plain(topic), part): offset for topic, part, offset in rows}
        return {place: offset for place, offset in places.items() if place[0] in TOPICS}

    def rows(self, query: str, table: str | None = None) -> list[tuple[Any, ...]]:
        """The rows of a query; none while the sink has not made `table`."""
        with psycopg.connect(self.url) as connection:
            if table and connection.execute("SELECT to_regclass(%s)", (table,)).fetchone() == (None,):
                return []
            return connection.execute(query.encode()).fetchall()

    @property
    def url(self) -> str:
        """Of PostgreSQL."""
        assert self.settings.database_url is not None
        return self.settings.database_url.get_secret_value()

    def plain(self, topic: str) -> str:
        """A topic's name in the catalogue."""
        return topic.removeprefix(self.settings.tidewire_topic_prefix)

    def ready(self, worker: Service) -> bool:
        """Whether it says that it works."""
        return worker.ended() or worker.get("/readyz") is not None


def reached(now: Ends, wanted: Ends) -> bool:
    """Whether every offset is at least the wanted one."""
    return all(now.get(key, 0) >= offset for key, offset in wanted.items())


def messages(line: Line, topic: str) -> Iterator[Message]:
    """Every record of a topic, from its beginning to its present end, each partition in order."""
    consumer = Consumer(
        {
            "bootstrap.servers": line.settings.kafka_bootstrap_servers,
            "group.id": "chaos-verdict",
            "enable.auto.commit": False,
            "log_level": 0,
        }
    )
    name = line.settings.tidewire_topic_prefix + topic
    try:
        partitions = consumer.list_topics(name, timeout=20).topics[name].partitions
        ends = {p: end_of(consumer, TopicPartition(name, p)) for p in partitions}
        left = {p for p, end in ends.items() if end > 0}
        consumer.assign([TopicPartition(name, p, OFFSET_BEGINNING) for p in left])
        while left:
            for message in consumer.consume(5_000, timeout=0.3):
                if message.error():
                    raise RuntimeError(str(message.error()))
                if message.offset() < ends[message.partition()]:
                    yield message
                if message.offset() >= ends[message.partition()] - 1:
                    left.discard(message.partition())
    finally:
        consumer.close()
