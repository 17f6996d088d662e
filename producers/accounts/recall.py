"""What the log holds of the accounts already: their newest events, and the last snapshot of each.

Snapshots are read from the ends of the partitions backwards until every account's last one is found; only an
account that is new makes the search go to the beginning.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aiokafka import AIOKafkaConsumer
from aiokafka.structs import TopicPartition

from producers import log_tail
from producers.accounts.memory import LIMIT, Memory
from producers.accounts.rounds import Last
from schemas.codec import Codec
from tidewire import log
from tidewire.errors import RecordError

FIRST_STEP = 500
LARGEST_STEP = 20_000
"""Records of a partition that are read at once."""

Ends = dict[TopicPartition, int]

_log = log.get("accounts")


@dataclass(frozen=True, slots=True)
class Recalled:
    """By account name: its memory, and its last snapshot if there is one. `ends` is where the topics end."""

    memories: Mapping[str, Memory]
    last: Mapping[str, Last]
    ends: Ends


async def recall(
    client_arguments: Mapping[str, Any],
    codec: Codec,
    accounts: Sequence[str],
    *,
    updates: Sequence[TopicPartition],
    snapshots: Sequence[TopicPartition],
) -> Recalled:
    """Read the tails of these partitions."""
    memories = {name: Memory() for name in accounts}
    async with log_tail.reader(client_arguments) as consumer:
        ends = await _updates(consumer, codec, updates, memories)
        last, snapshot_ends = await _snapshots(consumer, codec, snapshots, accounts)
    _log.info("recalled", accounts_with_history=len(last))
    return Recalled(memories, last, ends | snapshot_ends)


async def _updates(
    consumer: AIOKafkaConsumer,
    codec: Codec,
    partitions: Sequence[TopicPartition],
    memories: Mapping[str, Memory],
) -> Ends:
    ends = await log_tail.ends(consumer, partitions)
    starts: Ends = await consumer.beginning_offsets(partitions)
    position = {p: max(starts[p], ends[p] - LIMIT) for p in partitions}
    while spans := {p: (at, min(at + LARGEST_STEP, ends[p])) for p, at in position.items() if at < ends[p]}:
        found = await log_tail.read(consumer, spans)
        for records in found.values():
            for name, update in _decoded(codec, records, memories):
                memories[name].add(update)
        position |= {p: end for p, (_, end) in spans.items()}
    return ends


async def _snapshots(
    consumer: AIOKafkaConsumer, codec: Codec, partitions: Sequence[TopicPartition], accounts: Sequence[str]
) -> tuple[dict[str, Last], Ends]:
    ends = await log_tail.ends(consumer, partitions)
    starts: Ends = await consumer.beginning_offsets(partitions)
    last: dict[str, Last] = {}
    position, step = dict(ends), FIRST_STEP
    while len(last) < len(set(accounts)) and (
        spans := {p: (max(starts[p], at - step), at) for p, at in position.items() if at > starts[p]}
    ):
        found = await log_tail.read(consumer, spans)
        missing = set(accounts) - last.keys()
        for records in found.values():
            for name, record in _decoded(codec, records, missing):
                last[name] = Last(record["ts"], record["broker_account"], record["activity_cursor"])
        position |= {p: start for p, (start, _) in spans.items()}
        step = min(step * 4, LARGEST_STEP)
    return last, ends


def _decoded(codec: Codec, records: Sequence[Any], wanted: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    for record in records:
        name = (record.key or b"").decode("utf-8", "replace")
        if name in wanted:
            try:
                yield name, codec.decode(record.value)[1]
            except RecordError:  # not ours to judge: whoever reads the topic dead-letters it
                continue
