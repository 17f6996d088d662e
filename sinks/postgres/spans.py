"""Consecutive records of one partition as they were fetched, and those of them that are given up."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from aiokafka.record.default_records import DefaultRecordBatch

from tidewire.columns import Block


@dataclass(frozen=True, slots=True)
class Span:
    """Consecutive records of one partition: from `expected`, the offset that PostgreSQL holds, to `next`.

    `epochs` (JSON) are those seen by `next`, see epochs.py.
    """

    topic: str
    partition: int
    topic_id: str
    expected: int
    next: int
    blocks: tuple[Block, ...] = ()
    epochs: str = "{}"

    def extend(self, blocks: Sequence[Block]) -> Span:
        """The span with the blocks that follow it."""
        return replace(self, blocks=(*self.blocks, *blocks), next=blocks[-1].last + 1)


@dataclass(frozen=True, slots=True)
class DeadRecord:
    """A record given up, with its bytes as Kafka holds them."""

    topic: str
    partition: int
    offset: int
    topic_id: str
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    error: str
    reason: str


def fetch_dead(spans: Iterable[Span], bad: Mapping[tuple[int, int], tuple[str, str]]) -> list[DeadRecord]:
    """Dead records with their original bytes; `bad` maps (partition, offset) to (error, reason).

    `spans` are of one topic.
    """
    found = []
    for span in spans if bad else ():
        wanted = {offset: why for (partition, offset), why in bad.items() if partition == span.partition}
        for block in span.blocks:
            if not any(block.start <= offset <= block.last for offset in wanted):
                continue
            for record in DefaultRecordBatch(bytes(block.raw)):
                if record.offset >= block.start and record.offset in wanted:
                    error, reason = wanted[record.offset]
                    found.append(
                        DeadRecord(
                            span.topic,
                            span.partition,
                            record.offset,
                            span.topic_id,
                            record.timestamp,
                            record.key,
                            record.value,
                            error,
                            reason,
                        )
                    )
    assert len(found) == len(bad), "a record that is given up must be kept with its bytes"
    return found
