"""Everything that the processor writes, by one idempotent producer, in whole batches per partition.

One producer, because a commit must know that all of it has arrived: feature records, then the changelog,
then the source offsets.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

from aiokafka import AIOKafkaProducer

from schemas.catalogue import LARGEST_RECORD
from tidewire.config import Settings
from tidewire.kafka import client_arguments

_PATIENCE_MS = 300_000  # a batch waits so long for a lost Kafka before it fails and the worker stops


def new_producer(settings: Settings, client_id: str = "tidewire-processor") -> AIOKafkaProducer:
    """A processor's producer, not yet started."""
    return AIOKafkaProducer(
        **client_arguments(settings),
        client_id=client_id,
        acks="all",
        enable_idempotence=True,
        linger_ms=0,
        request_timeout_ms=_PATIENCE_MS,
        max_batch_size=256 * 1024,
        max_request_size=LARGEST_RECORD,  # a dead letter is as long as the record was
    )


async def track(producer: AIOKafkaProducer, topics: Iterable[str]) -> None:
    """Have a started producer keep the partition leaders of these topics.

    Until it tracks a topic, aiokafka knows all topics of the cluster; from then on it knows only those that
    it tracks. A batch that is queued for another one at that moment would wait for its leader for ever, in a
    busy loop of metadata requests.
    """
    await producer.client.set_topics(topics)


class Output:
    """Sends batches and remembers them until `settle`."""

    def __init__(self, producer: AIOKafkaProducer) -> None:
        self.producer = producer
        self._sent: list[asyncio.Future[Any]] = []

    async def send(self, topic: str, partition: int, records: Iterable[tuple[bytes, bytes | None]]) -> int:
        """Queue records (key, value) in order; returns how many. Waits while earlier batches are queued."""
        count, batch = 0, self.producer.create_batch()
        for key, value in records:
            if batch.append(key=key, value=value, timestamp=None) is None:
                await self._queue(batch, topic, partition)
                batch = self.producer.create_batch()
                assert batch.append(key=key, value=value, timestamp=None), "a row larger than a batch"
            count += 1
        if batch.record_count():
            await self._queue(batch, topic, partition)
        return count

    async def _queue(self, batch: Any, topic: str, partition: int) -> None:
        queued = await self.producer.send_batch(batch, topic, partition=partition)
        # Only now: another task may have put a new list in its place during the await.
        self._sent = [future for future in self._sent if not future.done() or future.exception()]
        self._sent.append(queued)

    async def settle(self) -> None:
        """Wait until Kafka has acknowledged everything sent before the call.

        Raises:
            KafkaError: a batch did not arrive; offsets must not be committed.
        """
        sent, self._sent = self._sent, []
        for future in sent:
            await future
