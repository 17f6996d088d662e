"""PostgreSQL for the gateway: one connection in one thread, opened again when it is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import psycopg

from sinks.postgres import connection
from sinks.postgres.connection import Connection
from tidewire.errors import ConfigError, UnreachableError

T = TypeVar("T")

_MOST_WAITING = 200


class Database:
    """Runs functions of a connection, one after the other, each in a transaction."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="gateway-postgres")
        self._connection: Connection | None = None
        self._waiting = 0
        self.reachable = True

    async def run(self, function: Callable[[Connection], T]) -> T:
        """The function's result.

        Raises:
            UnreachableError: PostgreSQL does not answer, or too much waits for it already.
        """
        if self._waiting >= _MOST_WAITING:
            raise UnreachableError("too many requests wait for PostgreSQL")
        self._waiting += 1
        try:
            result = await asyncio.get_running_loop().run_in_executor(self._thread, self._run, function)
        except UnreachableError:
            self.reachable = False
            raise
        finally:
            self._waiting -= 1
        self.reachable = True
        return result

    def _run(self, function: Callable[[Connection], T]) -> T:
        fresh = self._connection is None or self._connection.closed
        try:
            return self._once(function)
        except (psycopg.OperationalError, psycopg.InterfaceError) as error:
            self._drop()
            if fresh:
                raise self._unreachable(error) from None
        try:  # the connection was from before a restart of PostgreSQL: a new one may well work
            return self._once(function)
        except (psycopg.OperationalError, psycopg.InterfaceError, ConfigError) as error:
            self._drop()
            raise self._unreachable(error) from None

    def _once(self, function: Callable[[Connection], T]) -> T:
        if self._connection is None or self._connection.closed:
            self._connection = connection.open_connection(self._url)
            self._connection.execute("SET statement_timeout = '5s'")
        with self._connection.transaction():
            return function(self._connection)

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _unreachable(self, error: BaseException) -> UnreachableError:
        where, reason = connection.where(self._url), connection.reason(error, self._url)
        return UnreachableError(f"PostgreSQL does not answer at {where}: {reason}")

    async def close(self) -> None:
        """Close the connection; whatever runs is waited for."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._drop)
        self._thread.shutdown(wait=True)
