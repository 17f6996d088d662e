"""Feature records leave once for all batches that are folded while Kafka takes its time, and none is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from processors.columns.matrix import Ints, Matrix
from processors.features.folded import Closed, Folded
from processors.features.sending import FeatureSender

Record = tuple[str, int]
"""Key and state."""


class Kafka:
    """Takes one batch after the other, each when `take` is called; the next one fails after `refuse`."""

    def __init__(self) -> None:
        self.batches: list[list[Record]] = []
        self._gates: list[asyncio.Future[None]] = []

    async def send(self, topic: str, partition: int, records: Iterable[tuple[bytes, bytes]]) -> int:
        made = [(key.decode(), int(value)) for key, value in records]
        gate = asyncio.get_running_loop().create_future()
        self._gates.append(gate)
        await gate
        self.batches.append(made)
        return len(made)

    async def settle(self) -> None:
        """Everything taken is acknowledged."""

    @property
    def waits(self) -> bool:
        """Whether a batch stands at the gate."""
        return bool(self._gates)

    def take(self) -> None:
        self._gates.pop(0).set_result(None)

    def refuse(self) -> None:
        self._gates.pop(0).set_exception(ConnectionError("Kafka is away"))

    @property
    def log(self) -> list[Record]:
        return [record for batch in self.batches for record in batch]


class Table:
    """One partition's rows."""

    def __init__(self) -> None:
        self.parts = {0: Matrix(1)}
        self.before_write: list[Callable[[], Awaitable[None]]] = []

    def part(self, partition: int) -> Matrix:
        return self.parts[partition]


class Processor:
    """Folds a state a key, as a batch does, and has it sent."""

    def __init__(self) -> None:
        self.kafka, self.table = Kafka(), Table()
        table: Any = self.table
        output: Any = self.kafka
        self.sender = FeatureSender(table, output, "features", _encode, lambda: 5)
        self.state = 0

    def fold(self, *keys: str, closes: bool = False) -> list[Record]:
        """A newer state for each key; `closes`: the one before ended an interval. Returns what it closed."""
        matrix = self.table.part(0)
        rows = matrix.rows_of([key.encode() for key in keys])
        before = matrix.values[rows].copy()
        self.state += 1
        matrix.put(rows, np.full((len(rows), 1), self.state, np.int64))
        closed = (Closed(rows, before),) if closes else ()
        self.sender.take(0, Folded(rows, len(rows), 0, 0, closed))
        return [(key, int(state)) for key, state in zip(keys, before[:, 0], strict=True)] if closes else []

    async def batch(self, *keys: str, closes: bool = False) -> None:
        """What a handler does with a batch."""
        self.fold(*keys, closes=closes)
        await self.sender.send_soon(0, 1)


def _encode(keys: Sequence[bytes], words: Ints) -> list[bytes]:
    return [b"%d" % state for state in words[:, 0].tolist()]


async def turns(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_batches_folded_in_one_turn_and_during_a_send_leave_together() -> None:
    """Otherwise many small batches queue for Kafka one by one, and prices are late by all of them."""
    line = Processor()
    await line.batch("A")
    await line.batch("B")
    await turns()
    for _ in range(20):
        await line.batch("A", "C")
    assert line.kafka.waits
    line.kafka.take()
    await turns()
    line.kafka.take()
    await turns()
    assert not line.kafka.waits
    assert line.kafka.batches == [[("A", 1), ("B", 2)], [("A", 22), ("C", 22)]]


async def test_what_an_interval_ended_with_is_sent_although_newer_states_come_during_a_send() -> None:
    """Otherwise a replay of the same log gives other records than the run did."""
    line = Processor()
    await line.batch("A")
    await turns()
    await line.batch("A", closes=True)
    await line.batch("A", closes=True)
    line.kafka.take()
    await turns()
    line.kafka.take()
    await turns()
    assert line.kafka.batches == [[("A", 1)], [("A", 1), ("A", 2), ("A", 3)]]


async def test_folding_waits_for_kafka_once_much_is_closed_and_not_sent() -> None:
    """Otherwise a Kafka that takes nothing fills the memory with closed states."""
    line = Processor()
    await line.batch("A")
    await turns()
    handler = asyncio.create_task(_many(line, 100))
    await turns(300)
    assert not handler.done()
    assert line.state < 15
    for _ in range(200):
        if line.kafka.waits:
            line.kafka.take()
        await turns()
    assert handler.done()
    assert [state for _, state in line.kafka.log if state] == sorted(s for _, s in line.kafka.log if s)
    assert {state for _, state in line.kafka.log} == set(range(1, 102))


async def _many(line: Processor, count: int) -> None:
    for _ in range(count):
        await line.batch("A", closes=True)


async def test_a_failed_send_is_told_to_the_next_batch_and_repeated_by_the_commit() -> None:
    """Otherwise offsets are committed whose features nobody ever sees."""
    line = Processor()
    await line.batch("A")
    await turns()
    line.kafka.refuse()
    await turns()
    commit = asyncio.create_task(line.sender.send_all())
    await turns()
    line.kafka.refuse()
    with pytest.raises(ConnectionError):
        await commit
    with pytest.raises(ConnectionError):
        await line.batch("B", closes=False)
    commit = asyncio.create_task(line.sender.send_all())
    await turns()
    line.kafka.take()
    await commit
    assert dict(line.kafka.log) == {"A": 1, "B": 2}


async def test_what_waits_of_a_partition_that_was_given_away_is_its_new_owners() -> None:
    """Otherwise two workers send one symbol's features, the older one last."""
    line = Processor()
    await line.batch("A")
    await turns()
    await line.batch("A", closes=True)
    line.table.parts.clear()
    line.kafka.take()
    await turns()
    assert not line.kafka.waits
    assert line.kafka.log == [("A", 1)]


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("batch"), st.sets(st.sampled_from("ABC"), min_size=1), st.booleans()),
        st.tuples(st.sampled_from(["take", "refuse", "commit", "turn"]), st.just(set[str]()), st.just(False)),
    ),
    max_size=40,
)


@settings(max_examples=150, deadline=None)
@given(STEPS)
def test_every_closed_state_is_sent_in_order_and_the_newest_last(steps: Any) -> None:
    """Whatever comes between: sends that wait, sends that fail, commits."""
    asyncio.run(_play(steps))


async def _play(steps: Any) -> None:
    line, due, commits = Processor(), [], []
    for kind, keys, closes in steps:
        if kind == "batch":
            due += line.fold(*sorted(keys), closes=closes)
            handler = asyncio.create_task(line.sender.send_soon(0, 1))
            commits.append(handler)
        elif kind == "commit":
            commits.append(asyncio.create_task(line.sender.send_all()))
        elif kind in ("take", "refuse") and line.kafka.waits:
            getattr(line.kafka, kind)()
        await turns(3)
    last = asyncio.create_task(line.sender.send_all())
    while not last.done():
        if line.kafka.waits:
            line.kafka.take()
        await turns()
    await last
    while line.kafka.waits:
        line.kafka.take()
        await turns()
    await asyncio.gather(*commits, return_exceptions=True)
    matrix = line.table.part(0)
    for row, key in enumerate(matrix._names):
        found = [state for name, state in line.kafka.log if name == key.decode()]
        assert found[-1] == matrix.values[row, 0]
        wanted = iter(found)
        assert all(state in wanted for name, state in due if name == key.decode()), (found, due)
