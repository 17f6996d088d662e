"""Kafka and PostgreSQL for a run: those that the environment names, else a local stack of its own."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
from aiokafka.errors import NonEmptyGroup
from psycopg import sql

from schemas import admin, cluster
from schemas.catalogue import GAPS, PORTFOLIO_MARKS, STOCK_CORRECTIONS, STOCK_FEATURES, STOCK_FRAMES
from sinks.postgres.record_tables import SOURCES
from sinks.postgres.tables import TABLES
from tidewire import config
from tidewire.config import Settings
from tidewire.stack import LocalStack

APP = "tidewire-processor"
_SESSION_SECONDS = 90.0
_TOPICS = tuple(
    dict.fromkeys(
        (
            *(fed.topic for fed in (*TABLES, *SOURCES)),
            *(STOCK_CORRECTIONS, STOCK_FRAMES, STOCK_FEATURES, PORTFOLIO_MARKS, GAPS),
        )
    )
)


@dataclass(frozen=True, slots=True)
class Servers:
    """Addresses, and a prefix and home of this run's own."""

    kafka: str
    database: str
    prefix: str
    home: Path

    def env(self) -> dict[str, str]:
        """The environment of a process that uses them."""
        return {
            "KAFKA_BOOTSTRAP_SERVERS": self.kafka,
            "DATABASE_URL": self.database,
            "TIDEWIRE_TOPIC_PREFIX": self.prefix,
            "TIDEWIRE_HOME": str(self.home),
            "TIDEWIRE_PARTITIONS": "4",
        }

    def settings(self) -> Settings:
        """The same as settings."""
        return config.load(
            _env_file=None,
            kafka_bootstrap_servers=self.kafka,
            database_url=self.database,
            tidewire_topic_prefix=self.prefix,
            tidewire_home=self.home,
            tidewire_partitions=4,
        )

    @contextmanager
    def fresh_database(self) -> Iterator[Servers]:
        """The same servers with an empty database, dropped at the end."""
        name = f"bench_{uuid.uuid4().hex[:12]}"
        self._execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        try:
            yield replace(self, database=urlsplit(self.database)._replace(path=f"/{name}").geturl())
        finally:
            self._execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))

    def _execute(self, command: sql.Composed) -> None:
        with psycopg.connect(self.database, autocommit=True) as connection:
            connection.execute(command)

    @contextmanager
    def topics(self, name: str, topics: Sequence[str] = _TOPICS, app: str = APP) -> Iterator[Servers]:
        """The same servers with topics of their own, deleted at the end with what the group `app` left."""
        own = replace(self, prefix=f"{self.prefix}{name}.")
        asyncio.run(cluster.apply(own.settings(), topics))
        try:
            yield own
        finally:
            asyncio.run(own._forget(app))
            asyncio.run(cluster.delete_all(own.settings()))

    def forget_processor(self) -> None:
        """Delete the processor's group and changelog, so that it begins anew."""
        asyncio.run(self._forget(APP))

    async def _forget(self, app: str) -> None:
        async with admin.connect(self.settings()) as kafka:
            mine = self.prefix + app
            for group in await kafka.groups():
                if group.startswith(mine):
                    await _delete(kafka, group)
            while names := [n for n in await kafka.names() if n.startswith(mine)]:
                await kafka.delete(names)
                await asyncio.sleep(0.2)


async def _delete(kafka: admin.Admin, group: str) -> None:
    """Delete a group; a member that was killed is in it until its session ends."""
    deadline = time.monotonic() + _SESSION_SECONDS
    while True:
        try:
            return await kafka.delete_group(group)
        except NonEmptyGroup:
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.5)


@contextmanager
def running(say: Callable[[str], None]) -> Iterator[Servers]:
    """Servers for the component benchmarks; what they leave behind is removed at the end."""
    prefix = f"bench-{uuid.uuid4().hex[:8]}."
    home = Path(tempfile.mkdtemp(prefix="tidewire-bench-"))
    home.chmod(0o755)  # PostgreSQL's own user must reach its folder when this runs as root
    kafka, database = os.environ.get("KAFKA_BOOTSTRAP_SERVERS"), os.environ.get("DATABASE_URL")
    stack = None
    try:
        if not kafka or not database:
            stack = LocalStack(home / "stack")
            say("starting Kafka and PostgreSQL")
            found = stack.up(say)
            kafka, database = kafka or found.kafka_bootstrap, database or found.database_url
        yield Servers(kafka, database, prefix, home)
    finally:
        if stack is not None:
            stack.down()
        shutil.rmtree(home, ignore_errors=True)
