"""One connection to PostgreSQL in one thread: what is asked for during a transaction shares the next.

A commit waits for the disk; with a commit for each of twenty stops that fire together the last would wait for
twenty disks' turns.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeVar

import psycopg

from sinks.postgres import connection
from sinks.postgres.connection import Connection
from sinks.postgres.failures import Verdict, judge
from tidewire import log
from tidewire.errors import ConfigError

T = TypeVar("T")

MOST_TOGETHER = 64
"""Pieces of work of one transaction."""
_PAUSES = (0.05, 0.2, 0.5, 1.0)
_LIMITS = "SET statement_timeout = '10s'; SET idle_in_transaction_session_timeout = '5s'"
"""The latter: PostgreSQL ends a transaction whose process asks for nothing for so long. It was stopped,
or its machine is gone, and its successor waits for its owner rows. A sound process never pauses so long."""

_log = log.get("executor-ledger")


class FencedError(Exception):
    """Another executor has claimed the account: nothing was written, and nothing may be ordered."""


Work = Callable[[Connection], Any]


@dataclass(slots=True)
class _Asked:
    """Work that waits for its turn. `account`: the owner row that it locks."""

    account: str
    work: Work
    answer: asyncio.Future[Any] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


@dataclass(frozen=True, slots=True)
class _Failed:
    error: BaseException


class Transactions:
    """Runs work in transactions, and repeats those that a lost connection or a conflict has ended.

    Work must be such that it may have happened already; it is repeated by itself when that which shared its
    transaction fails.
    """

    def __init__(self, url: str, name: str) -> None:
        self._url = url
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=name)
        self._connection: Connection | None = None
        self._closed = threading.Event()
        self._asked: list[_Asked] = []
        self._running: asyncio.Task[None] | None = None
        self.trouble: str | None = None
        """Why nothing can be done at the moment; None: it can."""

    async def run(self, account: str, work: Callable[[Connection], T]) -> T:
        """What the work returns, once it is durable; work of one account keeps its order.

        Raises:
            FencedError: as the work says, or this is closed. Also whatever else the work raises.
        """
        asked = _Asked(account, work)
        self._asked.append(asked)
        if self._running is None or self._running.done():
            self._running = asyncio.create_task(self._run_all())
        result: T = await asked.answer
        return result

    async def close(self) -> None:
        """Give up what waits for PostgreSQL, and close the connection."""
        self._closed.set()
        if self._running is not None:
            await asyncio.wait((self._running,))
        await asyncio.get_running_loop().run_in_executor(self._thread, self._drop)
        self._thread.shutdown(wait=True)

    async def _run_all(self) -> None:
        loop = asyncio.get_running_loop()
        while self._asked:
            together, self._asked = self._asked[:MOST_TOGETHER], self._asked[MOST_TOGETHER:]
            # Owner rows are locked in one order everywhere: a former owner may do the same beside us.
            together.sort(key=lambda each: each.account)
            done = loop.run_in_executor(self._thread, self._together, [each.work for each in together])
            results: Sequence[Any]
            try:
                results = await done
            except BaseException as error:
                results = [_Failed(error)] * len(together)
                if not isinstance(error, Exception):  # cancelled, as its loop ends
                    self._answer(together, results)
                    raise
            self._answer(together, results)

    def _answer(self, together: Sequence[_Asked], results: Sequence[Any]) -> None:
        for asked, result in zip(together, results, strict=True):
            if asked.answer.done():  # who asked was cancelled
                continue
            if isinstance(result, _Failed):
                asked.answer.set_exception(result.error)
            else:
                asked.answer.set_result(result)

    # -- the thread

    def _together(self, works: Sequence[Work]) -> list[Any]:
        """The result of each, or how it failed: one that fails does not take the others with it."""
        if len(works) > 1:
            try:
                return self._patiently(lambda db: [work(db) for work in works])
            except Exception:  # nothing of it was written: whose fault it is shows when each is alone
                return [self._alone(work) for work in works]
        return [self._alone(work) for work in works]

    def _alone(self, work: Work) -> Any:
        try:
            return self._patiently(work)
        except Exception as error:
            return _Failed(error)

    def _patiently(self, work: Callable[[Connection], T]) -> T:
        failures = 0
        while True:
            if self._closed.is_set():
                raise FencedError("the ledger is closed")
            try:
                result = self._once(work)
                self.trouble = None
                return result
            except (psycopg.Error, ConfigError) as error:
                broken = self._connection is None or bool(self._connection.closed)
                if isinstance(error, ConfigError) or judge(error, broken=broken) is not Verdict.RETRY:
                    raise
                self.trouble = f"PostgreSQL: {connection.reason(error, self._url)}"
                _log.warning("the ledger waits", reason=self.trouble)
                self._drop()
            time.sleep(_PAUSES[min(failures, len(_PAUSES) - 1)])
            failures += 1

    def _once(self, work: Callable[[Connection], T]) -> T:
        if self._connection is None or self._connection.closed:
            self._connection = connection.open_connection(self._url)
            self._connection.execute(_LIMITS)
        with self._connection.transaction():
            return work(self._connection)

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
