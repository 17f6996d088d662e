"""One idempotent aiokafka producer, and another in its place when it can no longer go on.

What Kafka or the network does in passing (a broker killed and started again, a leader that moves) aiokafka
outlasts by itself: an idempotent batch is tried again until it is acknowledged, and Kafka drops the
repeats. For the errors that end an idempotent producer (its sequence is lost, it is fenced), a new one is
made; a batch without an answer is then compared with what the partition holds and only the rest is sent.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, KafkaTimeoutError
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.structs import TopicPartition

from producers import log_tail
from producers.lanes import Batch
from tidewire import kafka, log

BATCH_BYTES = 128 * 1024
REQUEST_TIMEOUT_MS = 15_000
_STOP_SECONDS = 5.0
_PAUSES = (0.2, 1.0, 5.0)

_log = log.get("kafka-session")


class _ReplacedError(Exception):
    """The producer that held the batch is gone."""


class Session:
    """Delivers batches over whichever producer is current. `client_arguments`: see tidewire.kafka."""

    def __init__(self, client_arguments: Mapping[str, Any]) -> None:
        self._arguments = client_arguments
        self._producer = self._make()
        self._over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._replacing = asyncio.Lock()
        self.trouble: str | None = None
        """Why the last delivery failed, until one succeeds."""

    async def start(self) -> None:
        """Connect. Raises KafkaError when no broker answers."""
        await kafka.start(self._producer)

    async def stop(self) -> None:
        """Disconnect; batches without an answer are left behind."""
        await close(self._producer)

    async def partitions(self, topic: str) -> set[int]:
        """The partitions of a topic. Raises UnknownTopicOrPartitionError."""
        found: set[int] = await self._producer.partitions_for(topic)
        return found

    def builder(self) -> BatchBuilder:
        """An empty batch."""
        return self._producer.create_batch()

    async def deliver(self, partition: TopicPartition, batch: Batch, expected: int | None) -> int | None:
        """Return once Kafka has acknowledged every record of the batch; gives the offset after the last.

        `expected` is the offset that its first record should get, if known. Never gives up.
        """
        failures = 0
        while True:
            producer = self._producer
            try:
                offset = await self._attempt(producer, partition, batch.builder)
                self.trouble = None
                if (
                    offset is None or offset < 0
                ):  # acknowledged as a repeat: Kafka no longer knows where it is
                    offset = expected
                return None if offset is None else offset + batch.records
            except KafkaTimeoutError:  # aiokafka did not take it: the batch before it is still on its way
                continue
            except (KafkaError, _ReplacedError, AssertionError, TypeError) as error:
                # AssertionError, TypeError: the topic is missing from the metadata, as just after a
                # broker's start.
                self.trouble = f"Kafka did not take a batch for {partition.topic}: {error!r}"
                _log.warning("batch not taken", topic=partition.topic, error=repr(error))
                await asyncio.sleep(_PAUSES[min(failures, len(_PAUSES) - 1)])
                failures += 1
                if not isinstance(error, AssertionError | TypeError):
                    await self._replace(producer)
                    remaining = await self._remaining(partition, batch, expected)
                    if remaining is None:
                        return None if expected is None else expected + batch.records
                    expected = None if expected is None else expected + batch.records - remaining.records
                    batch = remaining

    async def _attempt(
        self, producer: AIOKafkaProducer, partition: TopicPartition, builder: BatchBuilder
    ) -> int | None:
        over = self._over
        future = await producer.send_batch(builder, partition.topic, partition=partition.partition)
        await asyncio.wait((future, over), return_when=asyncio.FIRST_COMPLETED)
        if not future.done():
            future.cancel()
            raise _ReplacedError
        metadata = future.result()
        return None if metadata is None else int(metadata.offset)

    def _make(self) -> AIOKafkaProducer:
        producer = AIOKafkaProducer(
            **self._arguments,
            acks="all",
            enable_idempotence=True,
            max_batch_size=BATCH_BYTES,
            request_timeout_ms=REQUEST_TIMEOUT_MS,
            linger_ms=0,
        )
        # aiokafka fails a batch that is older than the request timeout when its partition has no leader
        # just then, and has counted it in the sequence: the partition would be lost to this producer. A
        # batch never expires here.
        producer._message_accumulator._batch_ttl = math.inf
        return producer

    async def _replace(self, old: AIOKafkaProducer) -> None:
        async with self._replacing:
            if self._producer is not old:
                return
            await close(old)
            failures = 0
            while True:
                self._producer = self._make()
                try:
                    await kafka.start(self._producer)
                    break
                except (KafkaError, OSError) as error:
                    self.trouble = f"Kafka does not answer: {error}"
                    await close(self._producer)
                    await asyncio.sleep(_PAUSES[min(failures, len(_PAUSES) - 1)])
                    failures += 1
            # Only now: whoever still waits for an answer must find the new producer in place.
            self._over.set_result(None)
            self._over = asyncio.get_running_loop().create_future()
            _log.warning("producer replaced")

    async def _remaining(self, partition: TopicPartition, batch: Batch, expected: int | None) -> Batch | None:
        """The records of the batch that the partition lacks, in a new builder; None: it has them all."""
        held: set[bytes | None] = set()
        if expected is not None:
            async with log_tail.reader(self._arguments) as consumer:
                end = (await log_tail.ends(consumer, [partition]))[partition]
                found = await log_tail.read(consumer, {partition: (expected, end)})
            held = {record.value for record in found[partition]}
        rest = Batch(self.builder(), batch.continuations)
        stored = MemoryRecords(bytes(batch.builder._build()))
        while (part := stored.next_batch()) is not None:
            for record in part:
                if record.value not in held:
                    rest.builder.append(
                        timestamp=record.timestamp, key=record.key, value=record.value, headers=record.headers
                    )
        return rest if rest.records else None


async def close(producer: AIOKafkaProducer, seconds: float = _STOP_SECONDS) -> None:
    """Stop a producer, with or without a broker; what it still holds is then left behind.

    Each of up to three steps has `seconds`.
    """
    try:
        await asyncio.wait_for(producer.stop(), seconds)
    except (TimeoutError, KafkaError):
        # Without a broker stop() waits for ever for its batches; end its task so that none is sent later.
        with suppress(KafkaError, TimeoutError):
            await asyncio.wait_for(producer._sender.close(), seconds)
        with suppress(KafkaError, TimeoutError):
            await asyncio.wait_for(producer.client.close(), seconds)
