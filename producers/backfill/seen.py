"""Which symbols a topic has had lately: what `*` stands for where history wants names."""

from __future__ import annotations

from collections.abc import Iterable

from aiokafka import AIOKafkaConsumer
from aiokafka.structs import TopicPartition

from producers import log_tail
from tidewire.clock import NS_PER_MS

DAY_MS = 86_400_000
_AT_ONCE = 40_000


async def seen_symbols(
    consumer: AIOKafkaConsumer, partitions: Iterable[TopicPartition], now_ns: int
) -> list[str]:
    """The keys of the last day's records, sorted. Raises KafkaError."""
    wanted = list(partitions)
    ends = await log_tail.ends(consumer, wanted)
    found = await consumer.offsets_for_times(dict.fromkeys(wanted, max(now_ns // NS_PER_MS - DAY_MS, 0)))
    at = {p: ends[p] if found.get(p) is None else int(found[p].offset) for p in wanted}
    share = max(_AT_ONCE // max(len(wanted), 1), 500)
    keys: set[bytes] = set()
    while spans := {p: (at[p], min(at[p] + share, ends[p])) for p in wanted if at[p] < ends[p]}:
        for partition, records in (await log_tail.read(consumer, spans)).items():
            keys.update(record.key for record in records if record.key)
            at[partition] = spans[partition][1]
    return sorted(key.decode("utf-8", "replace") for key in keys)
