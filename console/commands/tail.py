"""`tidewire tail`: follow a topic, its records decoded."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Annotated

import typer
from aiokafka import AIOKafkaConsumer, TopicPartition

from console.commands import readable
from console.commands.topic_names import resolve
from schemas import admin
from schemas.catalogue import Catalogue
from schemas.codec import load_codec
from tidewire import config, log
from tidewire.config import Settings
from tidewire.errors import SchemaError
from tidewire.kafka import client_arguments, start
from tidewire.stack import fill_in

Show = Callable[[readable.Received], None]


def tail(
    topic: Annotated[str, typer.Argument(help="Its name, or a part that only it has; .dlq: dead letters.")],
    from_start: Annotated[bool, typer.Option("--from-start", help="From the oldest record on.")] = False,
    limit: Annotated[int | None, typer.Option(min=1, help="End after so many records.")] = None,
    key: Annotated[str | None, typer.Option(help="Only records with this key, e.g. a symbol.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """Show the records of a topic as they come, decoded; Ctrl-C ends it."""
    settings = fill_in(config.load())
    log.configure(settings, "tail")
    logging.getLogger().setLevel(logging.ERROR)  # the records are the output; a lost broker is tried again
    codec = load_codec(settings)
    render = readable.json_line if as_json else readable.line

    def show(record: readable.Received) -> None:
        print(render(record, codec), flush=True)

    try:
        asyncio.run(_tail(settings, topic, from_start, limit, key, show))
    except BrokenPipeError:
        # The reader (head, a pager) has seen enough; keep the interpreter's last flush from complaining.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


async def _tail(
    settings: Settings, asked: str, from_start: bool, limit: int | None, key: str | None, show: Show
) -> None:
    name, partitions = await _find(settings, asked)
    wanted = None if key is None else key.encode()
    shown = 0
    async with aclosing(_records(settings, name, partitions, from_start)) as records:
        async for record in records:
            if wanted is not None and record.key != wanted:
                continue
            show(record)
            shown += 1
            if shown == limit:
                return


async def _find(settings: Settings, asked: str) -> tuple[str, int]:
    catalogue = Catalogue(settings.tidewire_topic_prefix, 1)
    async with admin.connect(settings) as cluster:
        name = resolve(asked, catalogue, await cluster.names())
        found = (await cluster.topics([name])).get(name)
    if found is None:
        raise SchemaError(f"{name} does not exist in this cluster; `tidewire topics apply` creates it")
    return name, found.partitions


async def _records(
    settings: Settings, topic: str, partitions: int, from_start: bool
) -> AsyncGenerator[readable.Received, None]:
    consumer = AIOKafkaConsumer(
        **client_arguments(settings), enable_auto_commit=False, auto_offset_reset="earliest"
    )
    await start(consumer)
    try:
        everywhere = [TopicPartition(topic, number) for number in range(partitions)]
        consumer.assign(everywhere)
        await (consumer.seek_to_beginning if from_start else consumer.seek_to_end)(*everywhere)
        async for r in consumer:
            yield readable.Received(r.topic, r.partition, r.offset, r.timestamp, r.key, r.value, r.headers)
    finally:
        await consumer.stop()
