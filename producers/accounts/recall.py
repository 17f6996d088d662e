"""What the log holds of an account: its newest events and activities, its last snapshot, its open gaps.

Snapshots are read from the end of the account's partition backwards until its last one is found; only an
account that is new makes the search go to the beginning. Events of a stale owner are left out.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aiokafka import AIOKafkaConsumer
from aiokafka.structs import TopicPartition

from producers import log_tail
from producers.accounts.memory import LIMIT, Memory
from producers.accounts.rounds import Last
from schemas.codec import Codec
from schemas.gaps import Board, Gap
from tidewire import log
from tidewire.errors import RecordError
from tidewire.fence import Fence

FIRST_STEP = 500
LARGEST_STEP = 20_000
"""Records of a partition that are read at once."""
GAPS_BACK = 20_000
"""Newest records of each partition of alpaca.gaps in which gaps that are still open are looked for."""

Ends = dict[TopicPartition, int]

_log = log.get("accounts")


@dataclass(frozen=True, slots=True)
class Recalled:
    """One account's memory, its last snapshot, and its gaps that are not closed. `ends`: of the partitions of
    its events, activities and snapshots.
    """

    memory: Memory
    last: Last | None
    gaps: tuple[Gap, ...]
    ends: Ends


async def recall(
    client_arguments: Mapping[str, Any],
    codec: Codec,
    account: str,
    *,
    updates: TopicPartition,
    snapshots: TopicPartition,
    activities: TopicPartition,
    gaps: Sequence[TopicPartition],
) -> Recalled:
    """Read the tails of the account's own partitions, and of those of the gaps."""
    async with log_tail.reader(client_arguments) as consumer:
        memory, ends = Memory(), await log_tail.ends(consumer, [updates, activities])
        fence = Fence()
        async for update in _newest(consumer, codec, updates, ends[updates], account):
            if not fence.stale(update):
                memory.add(update)
        async for activity in _newest(consumer, codec, activities, ends[activities], account):
            memory.add_activity(activity)
        last, snapshot_ends = await _snapshots(consumer, codec, snapshots, account)
        board = await _gaps(consumer, codec, gaps, account)
    _log.info("recalled", account=account, history=last is not None, open_gaps=len(board.open()))
    return Recalled(memory, last, tuple(board.open()), ends | snapshot_ends)


async def _newest(
    consumer: AIOKafkaConsumer, codec: Codec, partition: TopicPartition, end: int, account: str
) -> AsyncIterator[dict[str, Any]]:
    """The account's among the newest LIMIT records of a partition."""
    starts: Ends = await consumer.beginning_offsets([partition])
    at = max(starts[partition], end - LIMIT)
    while at < end:
        span = at, min(at + LARGEST_STEP, end)
        found = await log_tail.read(consumer, {partition: span})
        for record in _decoded(codec, found[partition], account.encode()):
            yield record
        at = span[1]


async def _snapshots(
    consumer: AIOKafkaConsumer, codec: Codec, partition: TopicPartition, account: str
) -> tuple[Last | None, Ends]:
    ends = await log_tail.ends(consumer, [partition])
    starts: Ends = await consumer.beginning_offsets([partition])
    at, step = ends[partition], FIRST_STEP
    while at > starts[partition]:
        span = max(starts[partition], at - step), at
        found = await log_tail.read(consumer, {partition: span})
        records = list(_decoded(codec, found[partition], account.encode()))
        if records:
            newest = records[-1]
            looked = newest["contained_activities"] is not None
            return Last(newest["ts"], newest["broker_account"], newest["activity_cursor"], looked), ends
        at, step = span[0], min(step * 4, LARGEST_STEP)
    return None, ends


async def _gaps(
    consumer: AIOKafkaConsumer, codec: Codec, partitions: Sequence[TopicPartition], account: str
) -> Board:
    board, name = Board(), f"trading:{account}:".encode()
    ends = await log_tail.ends(consumer, partitions)
    starts: Ends = await consumer.beginning_offsets(partitions)
    spans = {p: (max(starts[p], ends[p] - GAPS_BACK), ends[p]) for p in partitions}
    for records in (await log_tail.read(consumer, spans)).values():
        for record in _decoded(codec, [r for r in records if (r.key or b"").startswith(name)]):
            board.put(Gap.of(record))
    return board


def _decoded(codec: Codec, records: Sequence[Any], key: bytes | None = None) -> Iterator[dict[str, Any]]:
    for record in records:
        if key is None or record.key == key:
            try:
                yield codec.decode(record.value)[1]
            except RecordError:  # not ours to judge: whoever reads the topic dead-letters it
                continue
