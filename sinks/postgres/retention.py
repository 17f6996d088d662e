"""How long rows of the hot tables are kept: day partitions that are past it are dropped, late rows left out.

Days are those of UTC and of the wall clock: a recording of years ago is past any retention at once.

Dropping a partition needs its whole table for a moment. A reader that is in the way is not waited for longer
than LOCK_MS, as all who come after would wait behind us; then it is tried again later.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from psycopg import errors, sql

from sinks.postgres.connection import Connection
from sinks.postgres.migrate import LOCK
from sinks.postgres.partitions import attached
from sinks.postgres.tables import TABLES
from tidewire import log
from tidewire.metrics import POSTGRES_PARTITIONS_DROPPED

LOCK_MS = 200
"""The longest that readers of a table wait for a partition of it to be dropped."""
AGAIN_SECONDS = 60.0
"""Until the next attempt at what somebody was reading."""
_BARS = ("bars", "crypto_bars")

# Before the first partition goes: whoever compares then knows why rows are missing.
_NOTE = """INSERT INTO retention (table_name, kept_from) VALUES (%s, %s) ON CONFLICT (table_name)
    DO UPDATE SET kept_from = excluded.kept_from, updated_at = now()
    WHERE retention.kept_from < excluded.kept_from"""

_log = log.get(__name__)


@dataclass(frozen=True, slots=True)
class Retention:
    """Days that trades and quotes, and bars, are kept beside the present day; 0: for ever."""

    ticks: int = 0
    bars: int = 0

    def kept_from(self, table: str, today: date) -> date | None:
        """The first day whose rows are kept; None: all are."""
        days = self.bars if table in _BARS else self.ticks
        return today - timedelta(days=days) if days else None


def enforce(connection: Connection, retention: Retention, today: date) -> bool:
    """Drop every partition that is past keeping; False: some are in use, or another sink is at it.

    Not within a transaction: each partition goes in one of its own.
    """
    due = [(table.name, first) for table in TABLES if (first := retention.kept_from(table.name, today))]
    left = [table for table, first in due if not _drop_before(connection, table, first)]
    return not left


class Keeper:
    """Sees to it that partitions are dropped once a day, and again for as long as some were in use."""

    def __init__(
        self, retention: Retention, today: Callable[[], date], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._retention, self._today, self._clock = retention, today, clock
        self._done: date | None = None
        self._next = clock()

    def kept_from(self, table: str) -> date | None:
        """The first day whose rows a table keeps today; None: all are."""
        return self._retention.kept_from(table, self._today())

    @property
    def due(self) -> bool:
        """Whether `drop` is to be called."""
        return self._retention != Retention() and self._done != self._today() and self._clock() >= self._next

    def drop(self, connection: Connection) -> None:
        """Drop what is past keeping, as far as nobody uses it. Not within a transaction."""
        today = self._today()
        if enforce(connection, self._retention, today):
            self._done = today
        else:
            self._next = self._clock() + AGAIN_SECONDS


def _drop_before(connection: Connection, table: str, first: date) -> bool:
    connection.execute(_NOTE, (table, f"{first} 00:00+00"))
    for name in _past(connection, table, first):
        try:
            with connection.transaction():
                if not _alone(connection):
                    return False
                connection.execute(f"SET LOCAL lock_timeout = {LOCK_MS}".encode())
                connection.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(sql.Identifier(name)))
        except (errors.LockNotAvailable, errors.DeadlockDetected):
            _log.info("a partition past its retention is being read: it is dropped later", partition=name)
            return False
        POSTGRES_PARTITIONS_DROPPED.labels(table).inc()
        _log.info("partition dropped", partition=name, kept_from=str(first))
    return True


def _alone(connection: Connection) -> bool:
    """Whether no other sink changes tables; if so, none will until our transaction ends."""
    row = connection.execute("SELECT pg_try_advisory_xact_lock(%s)", (LOCK,)).fetchone()
    return bool(row and row[0])


def _past(connection: Connection, table: str, first: date) -> Iterator[str]:
    for name in sorted(attached(connection, table)):
        try:
            day = datetime.strptime(name.removeprefix(f"{table}_"), "%Y%m%d").date()
        except ValueError:
            continue  # somebody's own partition
        if day < first:
            yield name
