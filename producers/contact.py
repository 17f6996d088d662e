"""The first and the last contact of a producing service with Kafka."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from producers.publisher import Publisher
from schemas import admin
from tidewire import kafka, log
from tidewire.config import Settings
from tidewire.errors import SchemaError, UnreachableError

START_SECONDS = 30.0
"""How long a start waits for Kafka."""
FLUSH_SECONDS = 2.5
"""How long a stop waits for Kafka's acknowledgements."""


async def reach(settings: Settings, stop: asyncio.Event, seconds: float) -> None:
    """Return once Kafka answers, or once the service is told to stop.

    Raises:
        UnreachableError: it does not answer within `seconds`.
    """
    deadline = asyncio.get_running_loop().time() + seconds
    while not stop.is_set():
        try:
            await kafka.check_reachable(settings)
            return
        except UnreachableError:
            if asyncio.get_running_loop().time() > deadline:
                raise
            await asyncio.sleep(1)


async def check_topics(settings: Settings, topics: Iterable[str]) -> None:
    """All of these are there.

    Raises:
        SchemaError: some are not; it names them.
        UnreachableError: Kafka does not answer.
    """
    # By the list of all topics: asking for one by its name creates it where Kafka is set so.
    async with admin.connect(settings) as cluster:
        missing = sorted(set(topics) - set(await cluster.names()))
    if missing:
        raise SchemaError(f"no such topic: {', '.join(missing)}; `tidewire topics apply` creates them")


async def flush(publisher: Publisher, service: str) -> None:
    """Wait for what Kafka has not acknowledged, and say what is lost when it takes too long."""
    try:
        await asyncio.wait_for(publisher.settle(), FLUSH_SECONDS)
    except TimeoutError:
        log.get(service).error(
            "stopped before Kafka took everything: these bytes are lost", bytes=publisher.buffered_bytes
        )
