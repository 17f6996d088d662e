"""One transaction a batch: move the stored offsets, COPY the rows, keep the dead records; or none of it.

COPY goes straight into the table (store_columns.py, store_records.py). Only after a duplicate key (a topic
read again, a backfill) the rows go through a staging table and are merged, for a few batches; that is half as
fast. A lost connection, a deadlock, a full disk: the whole transaction again, for as long as it takes.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import TypeVar

import psycopg

from sinks.postgres import offsets, partitions, store_columns, store_records
from sinks.postgres.batches import Batch, Rows
from sinks.postgres.connection import Connection, open_connection, reason, where
from sinks.postgres.failures import Verdict, copy_line, judge, what_to_do
from sinks.postgres.isolate import Attempt, Bad, RowRefusedError, isolate
from sinks.postgres.record_tables import RECORD_TABLES
from sinks.postgres.records import Entries
from sinks.postgres.retention import Keeper, Retention
from sinks.postgres.spans import DeadRecord, fetch_dead
from sinks.postgres.tables import TABLES, check
from tidewire import log
from tidewire.errors import PoisonLimitError, SchemaError
from tidewire.metrics import POSTGRES_FENCED, POSTGRES_RETRIES

T = TypeVar("T")

STAGE = "sink"
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
    """What became of a topic's records.

    `duplicates`: stored already, or older than what is stored; `superseded` and `tombstones`: see Entries;
    `stale`: a stale owner's; `past`: of a day that is no longer kept.
    """

    applied: int = 0
    duplicates: int = 0
    dead: int = 0
    superseded: int = 0
    tombstones: int = 0
    stale: int = 0
    past: int = 0


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
        keep: Retention | None = None,
    ) -> None:
        self.url, self.group, self.limit = url, group, limit
        self._stop, self._tell, self._today = stop, tell, today
        self.keeper = Keeper(keep or Retention(), today)
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

    def tidy(self) -> None:
        """Drop what is past its retention, if it is time to; `write` does so by itself.

        Raises:
            StoppedError, SchemaError: as `write`.
        """
        self._persist(self._drop_past)

    def _drop_past(self, session: _Session) -> None:
        if self.keeper.due:
            self.keeper.drop(session.connection)
            session.partitions.forget()

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
            self._drop_past(session)
            # A commit whose answer was lost: then `done` holds what that attempt stored.
            if done and offsets.landed(session.connection, self.group, batch.spans):
                return done
            return self._transaction(session, batch, done)

        counts = self._persist(attempt)
        applied = any(c.applied or c.duplicates or c.superseded or c.stale or c.past for c in counts.values())
        self._dead_in_a_row = 0 if applied else self._dead_in_a_row + sum(c.dead for c in counts.values())
        return counts

    def _transaction(self, session: _Session, batch: Batch, done: dict[str, Counts]) -> dict[str, Counts]:
        self._partitions(session, batch)
        counts = {
            topic: Counts(stale=batch.stale.get(topic, 0), past=batch.past.get(topic, 0))
            for topic in batch.records
        }
        with session.connection.transaction():
            if not offsets.fence(session.connection, self.group, batch.spans):
                POSTGRES_FENCED.inc()
                raise FencedError
            dead = list(batch.dead)
            for rows in batch.rows:
                dead += self._rows(session, rows, batch, counts[rows.topic])
            for entries in batch.entries:
                dead += self._entries(session, entries, batch, counts[entries.topic])
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
        """Store one hot table's rows; returns those that PostgreSQL refuses."""
        height = rows.frame.height

        def attempt(start: int, stop: int) -> int:
            data, count = rows.copy.data(start, stop), stop - start
            whole = count == height
            return store_columns.store(session.connection, session.merges, rows.table, data, count, whole)

        bad = self._isolated(session, batch, height, attempt, counts)
        where_bad = {rows.copy.place(row.index): (row.error, row.reason) for row in bad}
        return fetch_dead([s for s in batch.spans if s.topic == rows.topic], where_bad)

    def _entries(self, session: _Session, entries: Entries, batch: Batch, counts: Counts) -> list[DeadRecord]:
        """Store the rows of one low-rate topic; returns the records that PostgreSQL refuses."""
        counts.superseded, counts.tombstones = entries.superseded, entries.tombstones
        found = entries.entries

        def attempt(start: int, stop: int) -> int:
            part, whole = found[start:stop], stop - start == len(found)
            return store_records.store(session.connection, session.merges, entries.source, part, whole)

        bad = self._isolated(session, batch, len(found), attempt, counts)
        where_bad = {
            (found[row.index].partition, found[row.index].offset): (row.error, row.reason) for row in bad
        }
        return fetch_dead([s for s in batch.spans if s.topic == entries.topic], where_bad)

    def _isolated(
        self, session: _Session, batch: Batch, count: int, attempt: Attempt, counts: Counts
    ) -> list[Bad]:
        """Make the attempt, in parts when rows of it are refused; returns the rows that are."""

        def judged(start: int, stop: int) -> int:
            try:
                return attempt(start, stop)
            except Exception as error:
                if judge(error, broken=session.connection.broken) is not Verdict.ROW:
                    raise
                name = getattr(error, "sqlstate", None) or type(error).__name__
                raise RowRefusedError(copy_line(error), name, reason(error, self.url)) from error

        counts.applied, bad = isolate(count, judged, self._ceiling(batch))
        counts.duplicates = count - counts.applied - len(bad)
        return bad

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
                check(connection, (*TABLES, *RECORD_TABLES))
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
