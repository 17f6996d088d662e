"""Topics that are followed whole. If these failed, what is in them (gaps, claims, what is wanted of a feed)
would be half known, or known only until Kafka was away for the first time.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest
from aiokafka.structs import ConsumerRecord

from producers.announce import small_producer
from producers.log_follow import LogFollower
from schemas import cluster
from schemas.catalogue import GAPS, Catalogue
from tests.integration.producer_venues import until
from tidewire import kafka
from tidewire.config import Settings

pytestmark = pytest.mark.kafka


class Log:
    """A topic of several partitions, in which each value is a number and its rest by three the key."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.topic = Catalogue(settings.tidewire_topic_prefix, 1).name(GAPS)

    async def write(self, numbers: range) -> None:
        """Append them, acknowledged."""
        async with small_producer(self.settings) as producer:
            for number in numbers:
                await producer.send_and_wait(self.topic, value=b"%d" % number, key=b"%d" % (number % 3))

    def follower(self, *, from_end: bool = False) -> LogFollower:
        """One with short pauses."""
        return LogFollower(
            kafka.client_arguments(self.settings), (self.topic,), from_end=from_end, poll_seconds=0.1,
            pause_seconds=0.05,
        )  # fmt: skip


class Reader:
    """Notes what it is given; the batches whose numbers `fails` names are refused once."""

    def __init__(self, *fails: int) -> None:
        self.taken: list[int] = []
        self.fails = list(fails)

    async def take(self, records: Sequence[ConsumerRecord]) -> None:
        """All of them, or none."""
        numbers = [int(record.value) for record in records]
        if failing := [number for number in self.fails if number in numbers]:
            self.fails.remove(failing[0])
            raise ConnectionResetError("Kafka went away")
        self.taken += numbers


@asynccontextmanager
async def following(follower: LogFollower, reader: Reader) -> AsyncIterator[None]:
    """It runs meanwhile."""
    task = asyncio.create_task(follower.run(reader.take))
    try:
        yield
        assert not task.done()
    finally:
        task.cancel()
        await asyncio.wait((task,))


@pytest.fixture
async def log(settings: Settings) -> Log:
    """An empty one."""
    log = Log(settings)
    await cluster.apply(settings, [GAPS])
    return log


async def test_everything_is_read_once_in_order_although_it_breaks_off_again_and_again(log: Log) -> None:
    """A record left out is a gap that nobody fills; one told twice is a claim that is written again."""
    await log.write(range(12))
    reader, follower = Reader(0, 7, 12, 14), log.follower()
    async with following(follower, reader):
        await asyncio.wait_for(follower.caught_up.wait(), 20)
        assert sorted(reader.taken) == list(range(12))
        await log.write(range(12, 15))
        await until(lambda: len(reader.taken) >= 15)
    assert reader.fails == []
    assert sorted(reader.taken) == list(range(15))
    for rest in range(3):
        assert [n for n in reader.taken if n % 3 == rest] == list(range(rest, 15, 3))


async def test_a_part_read_first_is_not_read_again(log: Log) -> None:
    """A feed starts with the gaps that there are, then hears of new ones; told twice they open twice."""
    await log.write(range(4))
    first, then, follower = Reader(2), Reader(), log.follower()
    await asyncio.wait_for(follower.catch_up(first.take), 20)
    assert sorted(first.taken) == [0, 1, 2, 3]
    await log.write(range(4, 6))
    async with following(follower, then):
        await asyncio.wait_for(follower.read_to_end(), 20)
        assert sorted(then.taken) == [4, 5]


async def test_from_the_end_only_what_comes_is_heard(log: Log) -> None:
    """A request that was answered long ago must not be done again at each start; and none be missed."""
    await log.write(range(4))
    reader, follower = Reader(5), log.follower(from_end=True)
    async with following(follower, reader):
        await asyncio.wait_for(follower.caught_up.wait(), 20)
        await log.write(range(4, 8))
        await asyncio.wait_for(follower.read_to_end(), 20)
        assert sorted(reader.taken) == [4, 5, 6, 7]


async def test_an_empty_log_is_read_to_its_end_and_a_kafka_that_is_away_is_said(log: Log) -> None:
    """A service whose topics are empty must not wait for ever; one without Kafka must say what it lacks."""
    follower = log.follower()
    await asyncio.wait_for(follower.catch_up(Reader().take), 20)
    assert follower.away is None
    nowhere = log.settings.model_copy(update={"kafka_bootstrap_servers": "127.0.0.1:1"})
    lost = LogFollower(kafka.client_arguments(nowhere), (log.topic,), pause_seconds=0.05)
    async with following(lost, Reader()):
        await until(lambda: str(lost.away).startswith("Kafka:"))
        assert not lost.caught_up.is_set()
