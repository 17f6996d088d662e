"""Which partitions of alpaca.gaps are this worker's: membership in the group of backfillers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError
from aiokafka.structs import TopicPartition

from tidewire import kafka, log
from tidewire.config import Settings

GROUP = "tidewire-backfiller"
"""Without the topics' prefix."""
_PAUSE_SECONDS = 1.0

_log = log.get("backfill-group")


async def served(settings: Settings) -> bool:
    """Whether any backfiller is running. Raises KafkaError."""
    group = settings.tidewire_topic_prefix + GROUP
    admin = AIOKafkaAdminClient(**kafka.client_arguments(settings))
    try:
        await kafka.start(admin)
        (answer,) = await admin.describe_consumer_groups([group])
    finally:
        await admin.close()
    (described,) = answer.to_object()["groups"]
    return bool(described["members"])


class Membership(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka is untyped
    """`changed` is called whenever `mine` is another."""

    def __init__(self, settings: Settings, topic: str, changed: Callable[[], None]) -> None:
        self._settings, self._topic, self._changed = settings, topic, changed
        self._consumer: AIOKafkaConsumer | None = None
        self.mine: frozenset[int] = frozenset()
        """Partition numbers; none while the group is formed anew."""
        self.joined = False
        """Whether the group has ever given us our part, which may be none."""

    async def run(self) -> None:
        """Be a member until cancelled, then leave, so that another takes over at once."""
        while True:
            try:
                await self._member()
            except KafkaError as error:
                _log.warning("not in the group of backfillers", error=repr(error))
            await asyncio.sleep(_PAUSE_SECONDS)

    def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        """aiokafka: before the group is formed anew."""
        self._own(())

    def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        """aiokafka: the group is formed."""
        partitions = list(assigned)
        if self._consumer is not None and partitions:
            self._consumer.pause(*partitions)  # the board reads them, with all others
        self.joined = True
        self._own(p.partition for p in partitions)

    async def _member(self) -> None:
        consumer = self._consumer = AIOKafkaConsumer(
            **kafka.client_arguments(self._settings),
            group_id=self._settings.tidewire_topic_prefix + GROUP,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
        )
        consumer.subscribe([self._topic], listener=self)
        try:
            await kafka.start(consumer)
            while True:  # there is nothing to fetch: this is where errors come out
                await consumer.getmany(timeout_ms=1000)
        finally:
            self._consumer = None
            self._own(())
            await consumer.stop()

    def _own(self, numbers: Iterable[int]) -> None:
        self.mine = frozenset(numbers)
        self._changed()
