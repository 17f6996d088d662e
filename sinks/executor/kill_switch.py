"""The kill switch as the executor asks it, just before each order: on if the file or PostgreSQL says so, or
if either cannot be read. Kafka has no part in it.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg

from sinks.executor import kill_file, kill_table
from sinks.executor.broker_types import LastCheck, Stopped
from sinks.postgres import connection
from sinks.postgres.connection import Connection
from tidewire.errors import TidewireError

ANSWER_SECONDS = 3.0
"""Who does not answer within this has not said off."""


class _UnreadError(Exception):
    """Nobody knows what PostgreSQL says, which counts as on."""


class KillSwitch:
    """Of one process: `home` is TIDEWIRE_HOME, `url` PostgreSQL's. Close it when done."""

    def __init__(self, home: Path, url: str, answer_seconds: float = ANSWER_SECONDS) -> None:
        self._home, self._url, self._seconds = home, url, answer_seconds
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="kill-switch")
        self._database: Connection | None = None

    def before_orders(self, account: str) -> LastCheck:
        """What an account's broker asks before each order: raises Stopped."""

        async def check() -> None:
            try:
                why = await self._why_on(account)
            except _UnreadError as error:
                raise Stopped(str(error), unread=True) from None
            if why is not None:
                raise Stopped(why)

        return check

    async def why_on(self, account: str) -> str | None:
        """Why the switch is on for an account; None: it is off. Never older than the call."""
        try:
            return await self._why_on(account)
        except _UnreadError as error:
            return str(error)

    async def _why_on(self, account: str) -> str | None:
        if (why := kill_file.why_on(self._home, account)) is not None:
            return why
        try:
            async with asyncio.timeout(self._seconds):
                why = await asyncio.get_running_loop().run_in_executor(self._thread, self._ask, account)
        except TimeoutError:
            raise _UnreadError("PostgreSQL did not answer in time") from None
        # The file once more: it may have been written while PostgreSQL was asked.
        return why if why is not None else kill_file.why_on(self._home, account)

    def _ask(self, account: str) -> str | None:
        kept = self._database is not None
        try:
            return self._once(account)
        except (psycopg.Error, TidewireError) as error:
            self._drop()
            if not kept:
                raise self._unread(error) from None
        try:  # the connection was from before a restart of PostgreSQL: a new one may well work
            return self._once(account)
        except (psycopg.Error, TidewireError) as error:
            self._drop()
            raise self._unread(error) from None

    def _once(self, account: str) -> str | None:
        if self._database is None:
            self._database = kill_table.open_quickly(self._url)
        return kill_table.why_on(self._database, account)

    def _unread(self, error: BaseException) -> _UnreadError:
        return _UnreadError(f"PostgreSQL cannot be read: {connection.reason(error, self._url)}")

    def _drop(self) -> None:
        if self._database is not None:
            self._database.close()
            self._database = None

    async def close(self) -> None:
        """Close the connection; whatever runs is waited for."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._drop)
        self._thread.shutdown(wait=True)
