"""The screen's view of PostgreSQL: up to which Kafka offsets it holds the records."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import psycopg

from console.screen.state import Offsets
from tidewire.config import Settings

_REQUEST_SECONDS = 5.0
_QUERY = "SELECT topic, part, max(next_offset) FROM kafka_offsets WHERE topic = ANY(%s) GROUP BY topic, part"


class PostgresSide:
    """Reads the offsets that the sink stores with its rows. `topics`: channel -> real topic name."""

    def __init__(self, settings: Settings, topics: Mapping[str, str]) -> None:
        self.stored: Offsets = {}
        assert settings.database_url is not None
        self._url = settings.database_url.get_secret_value()
        self._channels = {topic: channel for channel, topic in topics.items()}
        self._connection: psycopg.AsyncConnection[tuple[str, int, int]] | None = None

    async def refresh(self) -> None:
        """Ask PostgreSQL once. Raises what psycopg raises; the next call connects anew."""
        try:
            await asyncio.wait_for(self._refresh(), _REQUEST_SECONDS)
        except Exception:
            await self.close()
            raise

    async def close(self) -> None:
        """Close the connection."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    async def _refresh(self) -> None:
        if self._connection is None:
            self._connection = await psycopg.AsyncConnection.connect(
                self._url, autocommit=True, connect_timeout=5, application_name="tidewire-screen"
            )
        cursor = await self._connection.execute(_QUERY, (list(self._channels),))
        self.stored = {(self._channels[t], part): offset for t, part, offset in await cursor.fetchall()}
