"""Which partition a key belongs to: Kafka's default, murmur2, as every producer of this project places it."""

from __future__ import annotations

from aiokafka.partitioner import murmur2


def partition_of(key: bytes, partitions: int) -> int:
    """The partition of a key among so many."""
    return int((murmur2(key) & 0x7FFFFFFF) % partitions)
