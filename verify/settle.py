"""Waiting until the sink has written what the topics hold, so that a report is not a race."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping

from aiokafka import AIOKafkaConsumer, TopicPartition

from schemas.catalogue import PORTFOLIO_ORDERS, PORTFOLIO_POSITIONS, TRADE_UPDATES
from tidewire.config import Settings
from verify import database
from verify.content import CHANNELS
from verify.topic import Ends, consumer, ends, places

_POLL = 0.3


async def topic_ends(settings: Settings) -> dict[str, Ends]:
    """Channel name -> where each partition of its topic ends now."""
    prefix = settings.tidewire_topic_prefix
    found = await ends(settings, [prefix + c.topic for c in CHANNELS])
    return {c.name: found[prefix + c.topic] for c in CHANNELS}


async def settle(settings: Settings, seconds: float) -> None:
    """Return once the topics rest and PostgreSQL holds all of them, or when nothing moved for `seconds`.

    Where records keep coming it returns after `seconds` too, as soon as PostgreSQL holds what the topics held
    at the first look.
    """
    topics = [*(c.topic for c in CHANNELS), TRADE_UPDATES, PORTFOLIO_ORDERS, PORTFOLIO_POSITIONS]
    found = await places(settings, [settings.tidewire_topic_prefix + topic for topic in topics])
    with database.connect(settings) as connection:
        async with consumer(settings) as client:
            await _rest(client, found, connection, seconds)


async def _rest(
    client: AIOKafkaConsumer, found: list[TopicPartition], connection: database.Connection, seconds: float
) -> None:
    before: tuple[object, ...] = ()
    first: Ends | None = None
    enough = deadline = time.monotonic() + seconds
    while True:
        stops = dict(await client.end_offsets(found)) if found else {}
        stored = database.stored_offsets(connection)
        now = (stops, stored)
        first = stops if first is None else first
        if before == now and _all_stored(stops, stored):
            return
        if _all_stored(first, stored) and time.monotonic() > enough:
            return
        if before != now:
            deadline = time.monotonic() + seconds
        if time.monotonic() > deadline:
            return
        before = now
        await asyncio.sleep(_POLL)


def _all_stored(stops: Ends, stored: Mapping[tuple[str, int], int]) -> bool:
    return all(stored.get((tp.topic, tp.partition), 0) >= end for tp, end in stops.items())
