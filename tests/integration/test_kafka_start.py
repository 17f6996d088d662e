"""Clients that are left while they connect: every service has such ones when it is stopped."""

from __future__ import annotations

import asyncio
import gc
from contextlib import suppress

import pytest
from aiokafka.conn import AIOKafkaConnection

from producers import log_tail
from tidewire import kafka
from tidewire.config import Settings

pytestmark = pytest.mark.kafka


def connections() -> list[AIOKafkaConnection]:
    """Those of this process. By its own type: a dead weak proxy among the objects raises when it is asked."""
    return [one for one in gc.get_objects() if issubclass(type(one), AIOKafkaConnection)]


async def test_a_reader_left_at_any_moment_of_its_start_leaves_no_connection_open(settings: Settings) -> None:
    """If this failed, each start that is cut off would hold a connection of the broker until some garbage
    collection, which then complains of it in the midst of something else.
    """
    started, arguments = asyncio.Event(), kafka.client_arguments(settings)

    async def read() -> None:
        async with log_tail.reader(arguments):
            started.set()
            await asyncio.Event().wait()

    turns = 0
    while not started.is_set():
        reading = asyncio.create_task(read())
        turns += 1
        for _ in range(turns):
            if started.is_set():
                break
            await asyncio.sleep(0)
        reading.cancel()
        with suppress(asyncio.CancelledError):
            await reading
        assert [one for one in connections() if one.connected()] == []


class Mute:
    """A client of a broker that takes connections and never answers."""

    def __init__(self) -> None:
        self.left = False

    async def start(self) -> None:
        """Never through."""
        try:
            await asyncio.Event().wait()
        finally:
            self.left = True


async def test_a_broker_that_never_answers_does_not_keep_a_service_from_stopping() -> None:
    """If this failed, Ctrl-C would wait for as long as aiokafka waits for an answer: 40 seconds."""
    client = Mute()
    starting = asyncio.create_task(kafka.start(client))
    await asyncio.sleep(0)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    await asyncio.sleep(0)
    assert client.left
