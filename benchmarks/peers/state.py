"""What a run has left in its changelog: the state that would come back after a crash."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import numpy as np
from aiokafka import AIOKafkaConsumer, TopicPartition

from benchmarks import accumulators
from benchmarks.peers import naive, streams
from benchmarks.servers import Servers
from processors.columns.matrix import FENCES
from tidewire.kafka import client_arguments

State = dict[str, list[int]]
"""The ten accumulators by symbol."""


def of_ours(servers: Servers) -> State:
    """That of `benchmarks.accumulators`."""
    rows = _changelog(servers, accumulators.APP, accumulators.TABLE)
    return _state(rows, lambda value: _integers(value)[accumulators.TRADES :])


def of_streams(servers: Servers) -> State:
    """That of Kafka Streams."""
    return _state(_changelog(servers, streams.APP, streams.TABLE), _integers)


def folded(state: State) -> int:
    """Trades in a state."""
    return sum(values[naive.TRADES] for values in state.values())


def difference(ours: State, theirs: State) -> str | None:
    """The first thing in which two states differ, in words; None: they are equal."""
    if not ours:
        return "ours is empty"
    if only := sorted(ours.keys() ^ theirs.keys()):
        side = "ours" if only[0] in ours else "the other"
        return f"{len(only)} symbols are only in one of them: {only[0]} in {side}"
    wrong = sorted(symbol for symbol, values in ours.items() if values != theirs[symbol])
    if wrong:
        return f"{len(wrong)} symbols differ: {wrong[0]} {ours[wrong[0]]}, the other {theirs[wrong[0]]}"
    return None


def _state(rows: Mapping[bytes, bytes], values: Callable[[bytes], list[int]]) -> State:
    return {key.decode(): values(value) for key, value in rows.items() if not key.startswith(FENCES)}


def _integers(value: bytes) -> list[int]:
    return [int(word) for word in np.frombuffer(value, "<i8")]


def _changelog(servers: Servers, app: str, table: str) -> dict[bytes, bytes]:
    return asyncio.run(_read(servers, f"{servers.prefix}{app}-{table}-changelog"))


async def _read(servers: Servers, topic: str) -> dict[bytes, bytes]:
    consumer = AIOKafkaConsumer(
        **client_arguments(servers.settings()), enable_auto_commit=False, auto_offset_reset="earliest"
    )
    await consumer.start()
    try:
        cluster = await consumer._client.fetch_all_metadata()
        partitions = [TopicPartition(topic, p) for p in sorted(cluster.partitions_for_topic(topic) or ())]
        consumer.assign(partitions)
        ends = await consumer.end_offsets(partitions)
        held: dict[bytes, bytes] = {}
        while any([await consumer.position(tp) < end for tp, end in ends.items()]):
            for records in (await consumer.getmany(timeout_ms=1000)).values():
                held.update((record.key, record.value) for record in records)
        return held
    finally:
        await consumer.stop()
