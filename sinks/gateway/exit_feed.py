"""exits.rules and exits.watch to the gateway, and the rules that its users set back into the log."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError

from schemas import admin
from schemas.catalogue import EXIT_RULES, EXIT_WATCH
from schemas.codec import Codec, Record
from schemas.exit_rules import rule_key
from sinks.gateway.exit_rules import ExitRules
from tidewire import log, metrics
from tidewire.config import Settings
from tidewire.errors import RecordError, UnreachableError
from tidewire.kafka import client_arguments, fetch_only_when_read, start
from tidewire.placing import partition_of

_POLL_MS = 500
_RETRY_SECONDS = 2.0
_SEND_SECONDS = 10.0

_log = log.get(__name__)


class ExitFeed:
    """`ready`: whether everything that stood in the topics at the start has been read."""

    def __init__(self, settings: Settings, codec: Codec, rules: ExitRules) -> None:
        self._settings, self._codec, self._rules = settings, codec, rules
        self._names = [settings.tidewire_topic_prefix + topic for topic in (EXIT_RULES, EXIT_WATCH)]
        self._next: dict[TopicPartition, int] = {}
        self._partitions = 0
        self._producer: AIOKafkaProducer | None = None
        self._writing = asyncio.Lock()
        self.ready = False

    async def run(self) -> None:
        """Read until cancelled. Without Kafka or the topics it waits: the rest of the gateway goes on."""
        told = ""
        while True:
            consumer = AIOKafkaConsumer(
                **client_arguments(self._settings),
                client_id="tidewire-gateway",
                group_id=None,
                enable_auto_commit=False,
                auto_offset_reset="earliest",
                fetch_max_wait_ms=_POLL_MS,
            )
            try:
                await start(consumer)
                fetch_only_when_read(consumer)
                await self._follow(consumer)
            except (KafkaError, OSError, UnreachableError) as error:
                if str(error) != told:
                    told = str(error)
                    _log.warning("exit rules cannot be read; trying again", reason=repr(error))
            finally:
                with suppress(KafkaError, OSError):
                    await consumer.stop()
            await asyncio.sleep(_RETRY_SECONDS)

    async def write(self, rule: Record) -> None:
        """Write a rule into its account's partition; returns once Kafka has acknowledged it.

        Raises:
            UnreachableError: it did not: whether the rule is set is not known.
        """
        topic, key = self._names[0], rule_key(rule["account"], rule["symbol"], rule["rule"])
        value = self._codec.encode("exit_rule", rule)
        async with self._writing:
            try:
                async with asyncio.timeout(_SEND_SECONDS):
                    producer = await self._connected()
                    number = partition_of(rule["account"].encode(), self._partitions)
                    await producer.send_and_wait(topic, key=key, value=value, partition=number)
            except (KafkaError, OSError) as error:  # TimeoutError is an OSError
                _log.warning("an exit rule could not be written", reason=repr(error))
                await self.close()
                raise UnreachableError("the rule could not be written: Kafka does not answer") from error

    async def close(self) -> None:
        """End the connection that writes."""
        producer, self._producer = self._producer, None
        if producer is not None:
            with suppress(KafkaError, OSError):
                async with asyncio.timeout(_SEND_SECONDS):
                    await producer.stop()

    async def _follow(self, consumer: AIOKafkaConsumer) -> None:
        if not self._next:
            self._next = await self._starts(consumer)
        consumer.assign(sorted(self._next))
        for place, offset in self._next.items():
            consumer.seek(place, offset)
        ends = await consumer.end_offsets(list(self._next))
        while True:
            for place, records in (await consumer.getmany(timeout_ms=_POLL_MS)).items():
                for record in records:
                    self._take(record)
                self._next[place] = records[-1].offset + 1
            if not self.ready:
                at = [await consumer.position(place) >= end for place, end in ends.items()]
                self.ready = all(at)

    async def _starts(self, consumer: AIOKafkaConsumer) -> dict[TopicPartition, int]:
        async with admin.connect(self._settings) as cluster:
            found = await cluster.topics(self._names)
        if missing := [name for name in self._names if name not in found]:
            raise UnreachableError(
                f"no such topic: {', '.join(missing)}; `tidewire topics apply` creates them"
            )
        self._partitions = found[self._names[0]].partitions
        places = [TopicPartition(t.name, number) for t in found.values() for number in range(t.partitions)]
        return dict(await consumer.beginning_offsets(places))

    def _take(self, record: Any) -> None:
        if record.value is None:
            return  # a watch that was released long ago
        topic = record.topic.removeprefix(self._settings.tidewire_topic_prefix)
        try:
            self._rules.take(*self._codec.decode(record.value))
        except (RecordError, KeyError, ValueError) as error:
            metrics.RECORDS_SKIPPED.labels("gateway", topic, "unreadable").inc()
            where = f"{record.topic} partition {record.partition} offset {record.offset}"
            _log.warning("a record of the exits cannot be read", at=where, reason=repr(error))
        else:
            metrics.RECORDS_APPLIED.labels("gateway", topic).inc()

    async def _connected(self) -> AIOKafkaProducer:
        if self._producer is None:
            producer = AIOKafkaProducer(
                **client_arguments(self._settings), client_id="tidewire-gateway", acks="all", linger_ms=0
            )
            try:
                await start(producer)
                await producer.client.set_topics([self._names[0]])
            except BaseException:
                await producer.stop()
                raise
            self._producer = producer
        return self._producer
