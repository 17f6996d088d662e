"""Whoever reads control.connections must see each change of a connection at once, and that its producer
still lives.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer

from producers.announce import MOST_CHANGES, Announcer, small_producer
from schemas import cluster
from schemas.catalogue import CONNECTIONS
from schemas.codec import load_codec
from tidewire import kafka
from tidewire.config import Settings

pytestmark = pytest.mark.kafka


async def _read(settings: Settings, count: int) -> list[tuple[bytes, dict[str, Any]]]:
    codec = load_codec(settings)
    consumer = AIOKafkaConsumer(
        settings.tidewire_topic_prefix + CONNECTIONS,
        **kafka.client_arguments(settings),
        auto_offset_reset="earliest",
    )
    await consumer.start()
    try:
        found: list[tuple[bytes, dict[str, Any]]] = []
        deadline = time.monotonic() + 20
        while len(found) < count and time.monotonic() < deadline:
            for records in (await consumer.getmany(timeout_ms=200)).values():
                found += [(record.key, codec.decode(record.value)[1]) for record in records]
        return found
    finally:
        await consumer.stop()


async def test_changes_are_written_at_once_and_an_unchanged_state_again_and_again(settings: Settings) -> None:
    """Without it clients show a feed as connected that is gone, or gone that is connected."""
    await cluster.apply(settings, [CONNECTIONS])
    async with small_producer(settings) as producer:
        announcer = Announcer(
            settings, load_codec(settings), producer, "crypto:us", owner_epoch=7, every_seconds=0.1
        )
        announcer.start()
        announcer.state("CONNECTING")
        announcer.state("CONNECTED", None, 5_000_000_000, 1)
        announcer.state("CONNECTED", None, 6_000_000_000, 1)  # no change: waits for the regular record
        await _read(settings, 5)
        announcer.state("DISCONNECTED", "gone \udc80", 6_000_000_000, 1)
        await announcer.stop()
    records = await _read(settings, 7)
    assert {key for key, _ in records} == {b"crypto:us"}
    states = [record["state"] for _, record in records]
    assert states[:3] == ["DISCONNECTED", "CONNECTING", "CONNECTED"]
    assert set(states[3:-2]) == {"CONNECTED"}  # one every tenth of a second
    assert [r["reason"] for _, r in records][-2:] == ["gone \\udc80", "stopped"]
    assert {(r["last_message_ts"], r["reconnects"]) for _, r in records[3:]} == {(6_000_000_000, 1)}
    assert len({r["event_id"] for _, r in records}) == len(records)
    assert {r["owner_epoch"] for _, r in records} == {7}


async def test_a_producer_that_takes_nothing_blocks_nobody(settings: Settings) -> None:
    """A feed must go on reading its socket while Kafka is away; what waits must not grow without end."""
    await cluster.apply(settings, [CONNECTIONS])
    async with small_producer(settings) as producer:
        await producer.stop()
        announcer = Announcer(settings, load_codec(settings), producer, "news")
        announcer.start()
        for number in range(MOST_CHANGES * 3):
            announcer.state("CONNECTED", None, None, number)
        assert len(announcer._changes) == MOST_CHANGES
        async with asyncio.timeout(5):
            await announcer.stop()
