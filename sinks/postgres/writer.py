"""One transaction a batch: move the stored offsets, COPY the rows, keep the dead records; or none of it.

COPY goes straight into the table. Only after a duplicate key (a topic read again, a backfill) the rows go
through a staging table and are merged, for a few batches; that is half as fast. A lost connection, a
deadlock, a full disk: the whole transaction again, for as long as it takes.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import TypeVar

import psycopg
from psycopg import errors, sql

from sinks.postgres import columns, offsets, partitions
from sinks.postgres.batches import Batch, DeadRecord, Rows, fetch_dead
from sinks.postgres.connection import Connection, open_connection, reason, where
from sinks.postgres.failures import Verdict, copy_line, judge, what_to_do
from sinks.postgres.isolate import RowRefusedError, isolate
from sinks.postgres.tables import TABLES, Table, check
from tidewire import log
from tidewire.errors import PoisonLimitError, SchemaError
from tidewire.metrics import POSTGRES_COPIES, POSTGRES_FENCED, POSTGRES_RETRIES

T = TypeVar("T")

STAGE = "sink"
MERGES = 5
"""Batches of a table that are merged after a duplicate before COPY goes straight in again."""
POISON_SHARE = 0.05

_DEAD = """INSERT INTO dead_letters (sink_group, topic, part, k_offset, cluster_topic_id, kafka_ms,
    key, value, stage, error, reason)
    VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING"""

_log = log.get(__name__)


class FencedError(Exception):
    """The stored offsets are not those that the batch follows: read them again and seek."""


class StoppedError(Exception):
    """The service ends while PostgreSQL is away; the batch is not written and not lost."""


@dataclass(slots=True)
class Counts:
    """What became of a topic's records."""

    applied: int = 0
    duplicates: int = 0
    dead: int = 0


@dataclass(slots=True)
class _Session:
    connection: Connection
    partitions: partitions.Partitions = field(default_factory=partitions.Partitions)
    merges: dict[str, int] = field(default_factory=dict)  # batches of a table still to be merged
    day: date | None = None  # the day on which partitions were last made ahead


class Writer:
    """Writes batches, one at a time, from one thread. `tell` gets None or why PostgreSQL cannot be used."""

    def __init__(
        self,
        url: str,
        group: str,
        limit: int,
        stop: threading.Event,
        tell: Callable[[str | None], None] = lambda _: None,
        today: Callable[[], date] = lambda: datetime.now(UTC).date(),
    ) -> None:
        self.url, self.group, self.limit = url, group, limit
        self._stop, self._tell, self._today = stop, tell, today
        self.thread = ThreadPoolExecutor(1, "sink-write")  # the one thread that calls write() and place()
        self._session: _Session | None = None
        self._dead_in_a_row = 0

    def close(self) -> None:
        """Close the connection; nothing may be running."""
        self.thread.shutdown(wait=False)
        self._forget_session()

    def _forget_session(self) -> None:
        if self._session is not None:
            self._session.connection.close()
            self._session = None

    def place(self, logs: Mapping[offsets.Key, offsets.Log]) -> dict[offsets.Key, offsets.Place]:
        """Where each partition goes on (waits for PostgreSQL).

        Raises:
            StoppedError, SchemaError: as `write`.
        """
        return self._persist(lambda session: offsets.place(session.connection, self.group, logs))

    def write(self, batch: Batch) -> dict[str, Counts]:
        """Write a batch exactly once; returns the counts of each topic.

        Raises:
            FencedError: another sink moved the offsets (nothing of the batch is stored).
            PoisonLimitError: too many records are refused (nothing of the batch is stored).
            StoppedError: PostgreSQL is away and the service ends (nothing of the batch is stored).
            SchemaError: PostgreSQL refuses the statements themselves.
        """
        done: dict[str, Counts] = {}

        def attempt(session: _Session) -> dict[str, Counts]:
            # A commit whose answer was lost: then `done` holds what that attempt stored.
            if done and offsets.landed(session.connection, self.group, batch.spans):
                return done
            return self._transaction(session, batch, done)

        counts = self._persist(attempt)
        applied = any(c.applied or c.duplicates for c in counts.values())
        self._dead_in_a_row = 0 if applied else self._dead_in_a_row + sum(c.dead for c in counts.values())
        return counts

    def _transaction(self, session: _Session, batch: Batch, done: dict[str, Counts]) -> dict[str, Counts]:
        self._partitions(session, batch)
        counts = {topic: Counts() for topic in batch.records}
        with session.connection.transaction():
            if not offsets.fence(session.connection, self.group, batch.spans):
                POSTGRES_FENCED.inc()
                raise FencedError
            dead = list(batch.dead)
            for rows in batch.rows:
                dead += self._rows(session, rows, batch, counts[rows.topic])
            self._bury(session.connection, batch, dead)
            for record in dead:
                counts[record.topic].dead += 1
            done.update(counts)
        return counts

    def _partitions(self, session: _Session, batch: Batch) -> None:
        """Make what the batch needs and, once a day, what the coming days will."""
        for rows in batch.rows:
            session.partitions.ensure(session.connection, rows.table.name, partitions.days(rows.frame))
        today = self._today()
        if session.day != today:
            for table in TABLES:
                session.partitions.ensure(session.connection, table.name, partitions.ahead(today))
            session.day = today

    def _rows(self, session: _Session, rows: Rows, batch: Batch, counts: Counts) -> list[DeadRecord]:
        """Store one table's rows; returns those that PostgreSQL refuses."""
        frame = rows.frame

        def attempt(start: int, stop: int) -> int:
            whole = stop - start == frame.height
            data = rows.copy if whole else columns.encode(frame.slice(start, stop - start))
            try:
                return self._store(session, rows.table, data, stop - start, whole)
            except Exception as error:
                if judge(error, broken=session.connection.broken) is not Verdict.ROW:
                    raise
                name = getattr(error, "sqlstate", None) or type(error).__name__
                raise RowRefusedError(copy_line(error), name, reason(error, self.url)) from error

        counts.applied, bad = isolate(frame.height, attempt, self._ceiling(batch))
        counts.duplicates = frame.height - counts.applied - len(bad)
        where_bad = {
            frame.select("k_part", "k_offset").row(row.index): (row.error, row.reason) for row in bad
        }
        return fetch_dead([s for s in batch.spans if s.topic == rows.topic], where_bad)

    def _store(self, session: _Session, table: Table, data: bytes, count: int, whole: bool) -> int:
        """COPY straight in, or merge; returns how many rows were new."""
        if session.merges.get(table.name, 0) <= 0:
            try:
                with session.connection.transaction():
                    _copy(session.connection, table.name, table, data)
                POSTGRES_COPIES.labels("direct" if whole else "isolate").inc()
                return count
            except errors.UniqueViolation:
                session.merges[table.name] = MERGES
        session.merges[table.name] -= whole
        with session.connection.transaction():
            new = _merge(session.connection, table, data)
        POSTGRES_COPIES.labels("merge" if whole else "isolate").inc()
        return new

    def _bury(self, connection: Connection, batch: Batch, dead: list[DeadRecord]) -> None:
        if not dead:
            return
        total = len(dead) if len(dead) < batch.total else len(dead) + self._dead_in_a_row
        if total > self._ceiling(batch):
            raise PoisonLimitError(
                f"{total} of the last records cannot be stored, more than a broken record explains; stopped "
                f"before giving them up. The first is {dead[0].topic}, partition {dead[0].partition}, offset "
                f"{dead[0].offset}: {dead[0].reason}. Mend what sends them (or, to give them up, raise "
                "TIDEWIRE_SINK_DEAD_LETTERS) and start the sink again."
            )
        for d in dead:
            _log.warning(
                "record given up", topic=d.topic, partition=d.partition, offset=d.offset, reason=d.reason
            )
        rows = [
            (
                *(self.group, d.topic, d.partition, d.offset, d.topic_id, d.timestamp_ms),
                *(d.key, d.value, STAGE, d.error, d.reason.replace("\0", "\\0")[:2000]),
            )
            for d in dead
        ]
        with connection.cursor() as cursor:
            cursor.executemany(_DEAD, rows)

    def _ceiling(self, batch: Batch) -> int:
        return max(self.limit, int(batch.total * POISON_SHARE))

    # -- the connection, and trying again

    def _persist(self, work: Callable[[_Session], T]) -> T:
        """Do the work, on a new connection and from the start for as long as only the server is at fault."""
        delay, partitions_made = 0.0, 0
        while True:
            try:
                result = work(self._connected())
                self._tell(None)
                return result
            except psycopg.Error as error:
                session = self._session
                verdict = judge(error, broken=session is None or session.connection.broken)
                if verdict is Verdict.PARTITION and session is not None and partitions_made < 3:
                    partitions_made += 1  # somebody dropped one that we remember
                    session.partitions.forget()
                    continue
                self._forget_session()
                if verdict is not Verdict.RETRY:
                    raise SchemaError(
                        f"PostgreSQL at {where(self.url)} refuses the sink's statements: "
                        f"{reason(error, self.url)}. Its tables are not those of this version, or the user "
                        "lacks rights on them."
                    ) from error
                self._wait_out(error)
            delay = min(max(delay * 2, 0.1), 5.0)
            if self._stop.wait(delay):
                raise StoppedError

    def _connected(self) -> _Session:
        if self._session is None:
            connection = open_connection(self.url)
            try:
                check(connection)
                for table in TABLES:
                    connection.execute(_staging(table))
            except BaseException:
                connection.close()
                raise
            self._session = _Session(connection)
        return self._session

    def _wait_out(self, error: psycopg.Error) -> None:
        POSTGRES_RETRIES.inc()
        text = " - ".join(part for part in (reason(error, self.url), what_to_do(error)) if part)
        _log.warning("waiting for PostgreSQL", where=where(self.url), reason=text)
        self._tell(f"PostgreSQL: {text}")


def _staging(table: Table) -> sql.Composed:
    # With the CHECKs: a row that breaks one is then named by COPY's line number.
    return sql.SQL("CREATE TEMP TABLE {} (LIKE {} INCLUDING CONSTRAINTS) ON COMMIT DELETE ROWS").format(
        sql.Identifier(f"staging_{table.name}"), sql.Identifier(table.name)
    )


def _copy(connection: Connection, into: str, table: Table, data: bytes) -> None:
    names = sql.SQL(", ").join(map(sql.Identifier, table.names))
    command = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT BINARY)").format(sql.Identifier(into), names)
    with connection.cursor() as cursor, cursor.copy(command) as copy:
        copy.write(data)


def _merge(connection: Connection, table: Table, data: bytes) -> int:
    """Copy into the staging table, insert what the table lacks; returns how many rows that was."""
    staging = f"staging_{table.name}"
    connection.execute(sql.SQL("DELETE FROM {}").format(sql.Identifier(staging)))  # of an earlier part
    _copy(connection, staging, table, data)
    names = sql.SQL(", ").join(map(sql.Identifier, table.names))
    insert = sql.SQL("INSERT INTO {} ({}) SELECT {} FROM {} ON CONFLICT DO NOTHING").format(
        sql.Identifier(table.name), names, names, sql.Identifier(staging)
    )
    return connection.execute(insert).rowcount
