"""Everything that the processor writes, by one idempotent producer, in whole batches per partition.

One producer, because a commit must know that all of it has arrived: feature records, then the changelog,
then the source offsets.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from aiokafka import AIOKafkaProducer

from schemas.catalogue import LARGEST_RECORD
from tidewire.config import Settings
from tidewire.errors import TidewireError
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


@dataclass(frozen=True, slots=True)
class Sent:
    """A batch on its way: how many records it has, and what Kafka will say of it."""

    records: int
    answer: asyncio.Future[Any]

    def first(self) -> int:
        """Offset of its first record, -1 if Kafka no longer knew. Only to be asked once it is settled."""
        return int(self.answer.result().offset)


class Output:
    """Sends batches and remembers them until `settle`."""

    def __init__(self, producer: AIOKafkaProducer) -> None:
        self.producer = producer
        self._sent: list[asyncio.Future[Any]] = []

    @property
    def producer_id(self) -> int:
        """What Kafka calls this producer in every batch of it; only known once something was sent."""
        return int(self.producer._txn_manager.producer_id)

    async def send(self, topic: str, partition: int, records: Iterable[tuple[bytes, bytes | None]]) -> int:
        """Queue records (key, value) in order; returns how many. Waits while earlier batches are queued.

        Raises:
            KafkaError: a batch cannot be queued.
            TidewireError: a record is larger than a batch may be.
        """
        return sum(sent.records for sent in await self.write(topic, partition, records))

    async def write(
        self, topic: str, partition: int, records: Iterable[tuple[bytes, bytes | None]]
    ) -> list[Sent]:
        """`send` for who wants to know where the records went: the batches, in order."""
        sent: list[Sent] = []
        batch = self.producer.create_batch()
        for key, value in records:
            if batch.append(key=key, value=value, timestamp=None) is None:
                if batch.record_count():
                    sent.append(await self._queue(batch, topic, partition))
                batch = self.producer.create_batch()
                if batch.append(key=key, value=value, timestamp=None) is None:
                    raise TidewireError(f"a record of {len(value or b'')} bytes is too large for {topic}")
        if batch.record_count():
            sent.append(await self._queue(batch, topic, partition))
        return sent

    async def _queue(self, batch: Any, topic: str, partition: int) -> Sent:
        records = batch.record_count()
        queued = await self.producer.send_batch(batch, topic, partition=partition)
        # Only now: another task may have put a new list in its place during the await.
        self._sent = [future for future in self._sent if not future.done() or future.exception()]
        self._sent.append(queued)
        # Who stops waiting for one batch must not take its answer from the others who wait for it.
        answer = asyncio.shield(queued)
        answer.add_done_callback(lambda done: done.cancelled() or done.exception())
        return Sent(records, answer)

    async def settle(self) -> None:
        """Wait until Kafka has acknowledged everything sent before the call; several may wait at once.

        Raises:
            KafkaError: a batch did not arrive; offsets must not be committed.
        """
        if sent := list(self._sent):
            await asyncio.wait(sent)
            for future in sent:
                future.result()
