"""Lines of the recorded input that are no ticks: each becomes a dead letter with its file and line."""

from __future__ import annotations

from typing import Any

import aiohttp
from aiokafka import AIOKafkaProducer

from schemas.catalogue import SIMULATOR_TICKS, Catalogue
from tidewire import dead_letters
from tidewire.config import Settings
from tidewire.dead_letters import DeadLetter
from tidewire.kafka import client_arguments, start


async def keep_rejected(settings: Settings, simulator_url: str) -> list[str]:
    """Dead-letter what the simulator rejected; returns a line of text for each.

    Raises:
        KafkaError: a dead letter was not acknowledged.
        aiohttp.ClientError: the simulator does not answer.
    """
    async with aiohttp.ClientSession() as http, http.get(f"{simulator_url}/sim/rejected") as answer:
        rejected = await answer.json()
    if not rejected:
        return []
    topic = Catalogue(settings.tidewire_topic_prefix, 1).name(SIMULATOR_TICKS)
    producer = AIOKafkaProducer(**client_arguments(settings), acks="all", enable_idempotence=True)
    await start(producer)
    try:
        await dead_letters.publish(producer, [letter(topic, line) for line in rejected])
    finally:
        await producer.stop()
    return [where(line) for line in rejected]


def letter(topic: str, line: dict[str, Any]) -> DeadLetter:
    """The dead letter of one rejected line; its offset is the line number, counted from 1."""
    return DeadLetter(
        topic=topic,
        partition=-1,
        offset=int(line["line"]),
        key=None,
        value=str(line["raw"]).encode("utf-8", "surrogateescape"),
        stage="simulator",
        error="RecordError",
        reason=where(line),
        channel=str(line.get("channel") or ""),
    )


def where(line: dict[str, Any]) -> str:
    """File, line number and reason."""
    return f"{line['file']}:{line['line']}: {line['reason']}"
