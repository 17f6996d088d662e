"""If these fail, offsets are committed for what Kafka has not taken, or a worker dies of two writers."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.errors import KafkaError

from processors.columns.output import Output


class Batch:
    """Of any number of records."""

    def __init__(self) -> None:
        self._count = 0

    def append(self, **_: Any) -> object:
        self._count += 1
        return self._count

    def record_count(self) -> int:
        return self._count


class SlowKafka:
    """Takes batches and answers when told to."""

    def __init__(self) -> None:
        self.answers: list[asyncio.Future[Any]] = []

    def create_batch(self) -> Batch:
        return Batch()

    async def send_batch(self, batch: Batch, topic: str, *, partition: int) -> asyncio.Future[Any]:
        self.answers.append(asyncio.get_running_loop().create_future())
        return self.answers[-1]


async def a_turn() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_everybody_who_settles_waits_for_everything_sent_before() -> None:
    """Two tables of one service flush at once: the second must not take the first one's wait for its own."""
    kafka = SlowKafka()
    output = Output(kafka)
    (sent,) = await output.write("t", 0, [(b"k", b"v")])
    first, second = asyncio.create_task(output.settle()), asyncio.create_task(output.settle())
    await a_turn()
    assert not first.done()
    assert not second.done()
    kafka.answers[0].set_result(SimpleNamespace(offset=7))
    await asyncio.gather(first, second)
    assert sent.first() == 7
    await output.settle()


async def test_one_that_is_cancelled_takes_nothing_from_the_others() -> None:
    """A rebalance cancels a flush while a commit waits for the same batches."""
    kafka = SlowKafka()
    output = Output(kafka)
    (sent,) = await output.write("t", 0, [(b"k", b"v")])
    alone, all_ = asyncio.ensure_future(sent.answer), asyncio.create_task(output.settle())
    cancelled = asyncio.create_task(output.settle())
    await a_turn()
    alone.cancel()
    cancelled.cancel()
    await a_turn()
    assert not all_.done()
    kafka.answers[0].set_result(SimpleNamespace(offset=7))
    await all_


async def test_a_batch_that_did_not_arrive_fails_every_commit_after_it() -> None:
    """The offsets of what it told of must never be committed."""
    kafka = SlowKafka()
    output = Output(kafka)
    await output.write("t", 0, [(b"k", b"v")])
    kafka.answers[0].set_exception(KafkaError())
    for _ in range(2):
        with pytest.raises(KafkaError):
            await output.settle()
