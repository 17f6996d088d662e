"""The tables' changelog topics, made before a worker joins its group.

Faust makes them while it starts. Two workers that start together in a new cluster then agree on an assignment
without changelogs: each folds its partitions and has nowhere to write what it folded.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from schemas import admin
from schemas.admin import Topic
from tidewire.config import Settings
from tidewire.errors import SchemaError, UnreachableError

_PATIENCE_SECONDS = 30.0
_POLL_SECONDS = 0.1
_COMPACTION_LAG_MS = 300_000
"""Longer than an owner needs to see, and to write once more, what somebody else wrote behind its rows:
compaction would keep the later row, which no reader counts, and drop the one that counts.
"""


async def create_missing(settings: Settings, names: Iterable[str], partitions: int, replicas: int) -> None:
    """Have every changelog exist, compacted, each partition with a leader.

    Raises:
        SchemaError: one has another number of partitions than the topics that its table is folded from.
        UnreachableError: Kafka does not answer, or does not get them ready in time.
    """
    configs = {"cleanup.policy": "compact", "min.compaction.lag.ms": str(_COMPACTION_LAG_MS)}
    wanted = {name: Topic(name, partitions, configs) for name in names}
    async with admin.connect(settings) as kafka:
        found = await kafka.topics(wanted)
        if missing := [topic for name, topic in wanted.items() if name not in found]:
            await kafka.create(missing, replicas)
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                while len(found) < len(wanted) or not all(topic.ready for topic in found.values()):
                    await asyncio.sleep(_POLL_SECONDS)
                    found = await kafka.topics(wanted)
        except TimeoutError:
            raise UnreachableError(
                f"{', '.join(wanted)} did not get ready within {_PATIENCE_SECONDS:.0f} s. Are all brokers up?"
            ) from None
    for name, topic in found.items():
        if topic.partitions != partitions:
            raise SchemaError(
                f"{name} has {topic.partitions} partitions, but its table's topics have {partitions}. Stop "
                "all processors, delete that topic and the consumer group's offsets, and start again: the "
                "table is folded anew."
            )
