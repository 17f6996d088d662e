"""The way of dead letters to Kafka: the table is the outbox, `<topic>.dlq` gets a copy of every row.

A row is marked only after Kafka has acknowledged it; a crash in between sends it twice, never not at all.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import psycopg
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, MessageSizeTooLargeError

from sinks.postgres.connection import reason
from tidewire import log
from tidewire.config import Settings
from tidewire.dead_letters import DeadLetter, publish
from tidewire.errors import TidewireError
from tidewire.kafka import client_arguments, start

EVERY = 15.0
"""Seconds between looks at the table when nobody calls: rows that another sink left."""
_LARGEST = 16 * 1024 * 1024

# SKIP LOCKED: several sinks relay side by side without sending a row twice.
_CLAIM = """SELECT id, topic, part, k_offset, key, value, stage, error, reason FROM dead_letters
    WHERE published_at IS NULL AND publish_error IS NULL AND sink_group = %s
    ORDER BY id LIMIT 200 FOR UPDATE SKIP LOCKED"""
_SENT = "UPDATE dead_letters SET published_at = now() WHERE id = ANY(%s)"
_STUCK = "UPDATE dead_letters SET publish_error = %s WHERE id = %s"

_log = log.get(__name__)


async def relay(settings: Settings, url: str, group: str, wake: asyncio.Event, stop: asyncio.Event) -> None:
    """Publish what the table holds whenever `wake` is set; after `stop` (and `wake`) once more, then end.

    A lost server is waited for: the rows stay in the table.
    """
    while True:
        last = stop.is_set()
        wake.clear()
        try:
            await _empty(settings, url, group)
        except (KafkaError, psycopg.Error, OSError, TidewireError) as error:
            _log.warning("dead letters cannot be published now", reason=reason(error, url))
        if last:
            return
        try:
            await asyncio.wait_for(wake.wait(), EVERY)
        except TimeoutError:
            continue


async def _empty(settings: Settings, url: str, group: str) -> None:
    """Publish until nothing is left. The clients live only as long as there is something to send."""
    async with await psycopg.AsyncConnection.connect(
        url, connect_timeout=5, application_name="tidewire-sink-outbox"
    ) as database:
        if not await _waiting(database, group):
            return
        # Not idempotent: such a producer can send nothing more after a record that was refused as too large.
        producer = AIOKafkaProducer(**client_arguments(settings), acks="all", max_request_size=_LARGEST)
        await start(producer)
        try:
            while await send_some(producer, database, group):
                pass
        finally:
            await producer.stop()


async def _waiting(database: psycopg.AsyncConnection[tuple[object, ...]], group: str) -> bool:
    cursor = await database.execute(_CLAIM, (group,))
    found = await cursor.fetchone() is not None
    await database.rollback()
    return found


async def send_some(
    producer: AIOKafkaProducer, database: psycopg.AsyncConnection[tuple[object, ...]], group: str
) -> int:
    """Publish and mark the oldest rows of a group; returns how many there were.

    Raises:
        KafkaError: Kafka did not take them; they stay unmarked.
    """
    async with database.transaction():
        rows = await (await database.execute(_CLAIM, (group,))).fetchall()
        letters = [_letter(row[1:]) for row in rows]
        ids = [row[0] for row in rows]
        try:
            await publish(producer, letters)
        except MessageSizeTooLargeError:
            await _one_by_one(producer, database, ids, letters)
        else:
            await database.execute(_SENT, (ids,))
    return len(rows)


async def _one_by_one(
    producer: AIOKafkaProducer,
    database: psycopg.AsyncConnection[tuple[object, ...]],
    ids: Sequence[object],
    letters: Sequence[DeadLetter],
) -> None:
    """One letter is larger than the topic allows: it stays in the table, said to be stuck; the others go."""
    for identity, letter in zip(ids, letters, strict=True):
        try:
            await publish(producer, [letter])
        except MessageSizeTooLargeError as error:
            _log.error("dead letter too large for its topic", topic=letter.topic, offset=letter.offset)
            await database.execute(_STUCK, (str(error), identity))
        else:
            await database.execute(_SENT, ([identity],))


def _letter(row: Sequence[object]) -> DeadLetter:
    topic, part, offset, key, value, stage, error, why = row
    assert isinstance(part, int)
    assert isinstance(offset, int)
    assert isinstance(key, bytes | None)
    assert isinstance(value, bytes | None)
    # A record without a value (its reason says so) goes with an empty one: a letter is no tombstone.
    return DeadLetter(str(topic), part, offset, key, value or b"", str(stage), str(error), str(why))
