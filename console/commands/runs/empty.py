"""A demo starts on an empty log and an empty database, and takes nobody's data for that."""

from __future__ import annotations

import asyncio

from aiokafka import AIOKafkaConsumer, TopicPartition
from psycopg import sql

from console.commands.runs.line import CHANNEL_TABLES, CHANNEL_TOPICS, Servers
from console.commands.runs.steps import Steps
from schemas import admin, cluster
from schemas.catalogue import Catalogue
from sinks.postgres import reset
from sinks.postgres.connection import Connection, connect
from tidewire.config import Settings
from tidewire.errors import ConfigError
from tidewire.kafka import client_arguments, start
from tidewire.supervision import run_files


def empty(servers: Servers, fresh: bool, steps: Steps) -> None:
    """Delete the topics, groups and tables of this prefix and database.

    Raises:
        ConfigError: they hold records that are not a demo's of this machine, and `fresh` is not set.
        UnreachableError: Kafka or PostgreSQL does not answer.
    """
    settings = servers.settings
    with steps.step("empty topics and tables"):
        if not fresh and not _ours(servers):
            held = [*asyncio.run(_topics_with_records(settings)), *_tables_with_rows(_url(settings))]
            if held:
                raise ConfigError([_refusal(settings, held)])
        asyncio.run(cluster.delete_all(settings))
        reset.drop_all(_url(settings))


def _ours(servers: Servers) -> bool:
    """Whether all that these servers can hold is what an earlier demo left."""
    run = run_files.read_services(servers.settings.tidewire_home)
    return servers.local and run.get("simulator") is not None


def _refusal(settings: Settings, held: list[str]) -> str:
    return (
        f"a demo starts empty, but there are records in {', '.join(held)}. Nothing was changed. "
        "`--fresh` deletes them; TIDEWIRE_TOPIC_PREFIX and another database in DATABASE_URL "
        f"(or, for local servers, another TIDEWIRE_HOME than {settings.tidewire_home}) keep them apart"
    )


async def _topics_with_records(settings: Settings) -> list[str]:
    names = Catalogue(settings.tidewire_topic_prefix, 1)
    async with admin.connect(settings) as kafka:
        there = await kafka.topics([names.name(topic) for topic in CHANNEL_TOPICS.values()])
    partitions = [TopicPartition(t.name, n) for t in there.values() for n in range(t.partitions)]
    if not partitions:
        return []
    consumer = AIOKafkaConsumer(**client_arguments(settings))
    await start(consumer)
    try:
        begins = await consumer.beginning_offsets(partitions)
        ends = await consumer.end_offsets(partitions)
    finally:
        await consumer.stop()
    return sorted({p.topic for p in partitions if ends[p] > begins[p]})


def _tables_with_rows(url: str) -> list[str]:
    with connect(url) as connection:
        return [f"table {name}" for name in CHANNEL_TABLES.values() if _has_rows(connection, name)]


def _has_rows(connection: Connection, table: str) -> bool:
    there = connection.execute("SELECT to_regclass(%s) IS NOT NULL", (f"public.{table}",)).fetchone()
    if there is None or not there[0]:
        return False
    query = sql.SQL("SELECT EXISTS (SELECT 1 FROM {})").format(sql.Identifier(table))
    row = connection.execute(query).fetchone()
    return row is not None and bool(row[0])


def _url(settings: Settings) -> str:
    assert settings.database_url is not None
    return settings.database_url.get_secret_value()
