"""The log's side of the executor: orders.intents into the ledger, and news of orders to who watches them.

The consumer group says which accounts are ours: those of its partitions. Offsets are committed after the
intents are durable; what is read twice is known to the ledger.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, TypeVar, cast

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaError
from aiokafka.structs import ConsumerRecord

from schemas.codec import Codec, Record
from sinks.executor import intents
from sinks.executor.failpoints import Failpoint
from sinks.executor.intents import Intent
from sinks.executor.ledger import FencedError
from sinks.executor.worker import Held
from tidewire import dead_letters, log
from tidewire.config import Settings
from tidewire.dead_letters import DeadLetter
from tidewire.errors import RecordError
from tidewire.kafka import client_arguments, fetch_only_when_read, start
from tidewire.metrics import RECORDS_APPLIED, RECORDS_SKIPPED

STAGE = "executor"
PAUSE = 1.0
_POLL_MS = 500
_LARGEST = 16 * 1024 * 1024

_log = log.get("executor-intake")

T = TypeVar("T")

Taken = list[tuple[Intent, bytes]]
Settle = Callable[[Mapping[int, int]], Awaitable[None]]
"""Told which partitions are ours, of how many in all: `{partition: partitions}`; returns once their accounts
are claimed, or given up."""
Take = Callable[[str, Taken], Awaitable[Held]]
"""Makes intents of an account durable; returns those that were held already."""
Replayed = Callable[[Intent], Awaitable[None]]
Belongs = Callable[[str, int, int], bool]
"""Whether an account is one of ours, and of this partition of so many."""


class Intake:
    """Reads orders.intents until it is cancelled; Kafka's absence is waited out."""

    def __init__(
        self,
        settings: Settings,
        codec: Codec,
        topic: str,
        group: str,
        instance: str,
        *,
        settle: Settle,
        take: Take,
        replayed: Replayed,
        belongs: Belongs,
        failpoint: Failpoint,
    ) -> None:
        self._settings, self._codec, self._topic = settings, codec, topic
        self._group, self._instance = group, instance
        self._settle, self._take_in, self._replayed, self._belongs = settle, take, replayed, belongs
        self._failpoint = failpoint
        self._changed, self._rejoin = True, False
        self._letters: AIOKafkaProducer | None = None
        self._writing = asyncio.Lock()
        self._committing: asyncio.Task[None] | None = None
        self.trouble: str | None = "not reached yet"
        """Why nothing can be read at the moment; None: it can."""

    async def run(self) -> None:
        """Read until cancelled."""
        while True:
            consumer = self._consumer()
            self._changed, self._rejoin = True, False
            try:
                consumer.subscribe([self._topic], listener=_Listener(self))
                await start(consumer)
                fetch_only_when_read(consumer)
                await self._follow(consumer)
            except FencedError:
                self.trouble = "another executor has an account that was ours: asking the group anew"
                _log.warning(self.trouble)
            except (KafkaError, OSError) as error:
                self.trouble = f"Kafka: {error!r}"
                _log.warning("intents are not readable at the moment", reason=repr(error))
            finally:
                with suppress(TimeoutError, KafkaError):
                    await asyncio.wait_for(self._committed(), 5)
                with suppress(TimeoutError, KafkaError):
                    await asyncio.wait_for(consumer.stop(), 10)
                await self._close_letters()
            await asyncio.sleep(PAUSE)

    def changed(self) -> None:
        """The group is being shared out anew."""
        self._changed = True

    def rejoin(self) -> None:
        """We wrote as an owner that we no longer are: ask the group anew before anything is claimed again."""
        self._rejoin = True

    async def _follow(self, consumer: AIOKafkaConsumer) -> None:
        while True:
            if self._rejoin:
                raise FencedError("asking the group anew")
            if self._changed or (self._committing is not None and self._committing.done()):
                await self._committed()
            if self._changed:
                self._changed = False
                total = len(consumer.partitions_for_topic(self._topic) or ())
                await self._settle({tp.partition: total for tp in consumer.assignment()})
                self.trouble = None if consumer.assignment() else "no partitions yet"
            batches = await consumer.getmany(timeout_ms=_POLL_MS)
            if self._changed:
                await self._rewind(consumer, batches)
                continue
            total = len(consumer.partitions_for_topic(self._topic) or ())
            await _all(self._batch(partition, records, total) for partition, records in batches.items())
            if batches:
                await self._committed()
                offsets = {partition: records[-1].offset + 1 for partition, records in batches.items()}
                self._committing = asyncio.create_task(self._commit(consumer, offsets))

    async def _rewind(self, consumer: AIOKafkaConsumer, batches: Mapping[TopicPartition, Any]) -> None:
        """Records that came while the group was shared out are read again once their account is ours."""
        for partition, records in batches.items():
            with suppress(IllegalStateError):
                consumer.seek(partition, records[0].offset)

    async def _batch(self, partition: TopicPartition, records: Sequence[ConsumerRecord], total: int) -> None:
        by_account: dict[str, list[tuple[Intent, ConsumerRecord]]] = {}
        letters = []
        for record in records:
            try:
                intent = self._read(record, total)
            except RecordError as error:
                letters.append(_letter(record, error.reason))
                continue
            if intent.run_id is not None:
                RECORDS_SKIPPED.labels(STAGE, self._topic, "replay").inc()
                await self._replayed(intent)
            else:
                by_account.setdefault(intent.account, []).append((intent, record))
        strange = await _all(self._one_account(account, taken) for account, taken in by_account.items())
        letters += [letter for found in strange for letter in found]
        if letters:
            await self._send(sorted(letters, key=lambda letter: letter.offset))

    async def _one_account(
        self, account: str, taken: list[tuple[Intent, ConsumerRecord]]
    ) -> list[DeadLetter]:
        """Take intents in; returns those whose id another one has that says something else."""
        known, contradicting = await self._take_in(account, [(i, bytes(r.value)) for i, r in taken])
        strange = {id(intent) for intent in contradicting}
        RECORDS_APPLIED.labels(STAGE, self._topic).inc(len(taken) - known)
        if known > len(strange):
            RECORDS_SKIPPED.labels(STAGE, self._topic, "duplicate").inc(known - len(strange))
        return [
            _letter(record, f"another intent has the id {intent.intent_id[:80]}, with other content")
            for intent, record in taken
            if id(intent) in strange
        ]

    def _read(self, record: ConsumerRecord, total: int) -> Intent:
        stem, content = self._codec.decode(record.value)
        if stem != "order_intent":
            raise RecordError(f"an order_intent expected, got {stem}")
        intent = intents.read(content)
        if record.key != intent.account.encode():
            raise RecordError("the key is not the account")
        if not self._belongs(intent.account, record.partition, total):
            raise RecordError(f"no such account here, or not its partition: {intent.account[:40]}")
        return intent

    async def _committed(self) -> None:
        """Wait for the commit that is on its way: beside the next intents, one at a time."""
        committing, self._committing = self._committing, None
        if committing is not None:
            await committing

    async def _commit(self, consumer: AIOKafkaConsumer, offsets: Mapping[TopicPartition, int]) -> None:
        self._failpoint("commit.before")
        try:
            await consumer.commit(dict(offsets))
        except (CommitFailedError, IllegalStateError) as error:
            _log.info(
                "the group was shared out meanwhile; the ledger knows what is read again", why=repr(error)
            )
            self._changed = True
        self._failpoint("commit.after")

    async def _send(self, letters: list[DeadLetter]) -> None:
        async with self._writing:
            if self._letters is None:
                self._letters = AIOKafkaProducer(
                    **client_arguments(self._settings), acks="all", max_request_size=_LARGEST
                )
                await start(self._letters)
        await dead_letters.publish(self._letters, letters)
        for letter in letters:
            _log.error("dead letter", partition=letter.partition, offset=letter.offset, reason=letter.reason)

    async def _close_letters(self) -> None:
        if self._letters is not None:
            with suppress(TimeoutError, KafkaError):
                await asyncio.wait_for(self._letters.stop(), 5)
            self._letters = None

    def _consumer(self) -> AIOKafkaConsumer:
        return AIOKafkaConsumer(
            **client_arguments(self._settings),
            client_id="tidewire-executor",
            group_id=self._group,
            group_instance_id=self._instance,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            session_timeout_ms=10_000,
            heartbeat_interval_ms=1_000,
        )


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc]
    def __init__(self, intake: Intake) -> None:
        self._intake = intake

    async def on_partitions_revoked(self, revoked: object) -> None:
        # What works, works on until another claims it: it is fenced then.
        self._intake.changed()

    async def on_partitions_assigned(self, assigned: object) -> None:
        self._intake.changed()


class News:
    """Follows alpaca.trade-updates from its end: `tell` is told of each. One that is lost costs time."""

    def __init__(self, settings: Settings, codec: Codec, topic: str, tell: Callable[[Record], None]) -> None:
        self._settings, self._codec, self._topic, self._tell = settings, codec, topic, tell

    async def run(self) -> None:
        """Follow until cancelled; Kafka's absence is waited out."""
        while True:
            consumer = AIOKafkaConsumer(
                **client_arguments(self._settings), enable_auto_commit=False, auto_offset_reset="latest",
            )  # fmt: skip
            try:
                await start(consumer)
                fetch_only_when_read(consumer)
                await self._follow(consumer)
            except (KafkaError, OSError) as error:
                _log.warning("no news of orders at the moment", reason=repr(error))
            finally:
                with suppress(TimeoutError, KafkaError):
                    await asyncio.wait_for(consumer.stop(), 5)
            await asyncio.sleep(PAUSE)

    async def _follow(self, consumer: AIOKafkaConsumer) -> None:
        numbers = await consumer._client._wait_on_metadata(self._topic)
        consumer.assign([TopicPartition(self._topic, number) for number in numbers])
        await consumer.seek_to_end()
        while True:
            for records in (await consumer.getmany(timeout_ms=_POLL_MS)).values():
                for record in records:
                    with suppress(RecordError):
                        self._tell(self._codec.decode(record.value)[1])


async def _all(work: Iterable[Awaitable[T]]) -> list[T]:
    """Wait for all, whatever becomes of them, and then raise what the first that failed has raised."""
    found = await asyncio.gather(*work, return_exceptions=True)
    for each in found:
        if isinstance(each, BaseException):
            raise each
    return cast("list[T]", found)


def _letter(record: ConsumerRecord, reason: str) -> DeadLetter:
    return DeadLetter(
        record.topic,
        record.partition,
        record.offset,
        record.key,
        record.value or b"",
        STAGE,
        "RecordError",
        reason,
    )
