"""The PostgreSQL sink, from Kafka to committed rows, against COPY of bytes that are ready."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import psycopg

from benchmarks.ingest import cpu_seconds
from benchmarks.meter import metered
from benchmarks.process import sample, side
from benchmarks.results import Sample, compared
from benchmarks.servers import Servers

RECORDS = 300_000
CHUNK = 20_000
"""Rows of one COPY of the reference, each in its own transaction."""
TABLES = ("trades", "quotes")


def measure(servers: Servers, repetitions: int, say: Callable[[str], None]) -> tuple[float, dict[str, float]]:
    """Ratio of rows per CPU-second of client and PostgreSQL together."""
    ready = servers.home / "ready"
    ours: list[Sample] = []
    reference: list[Sample] = []
    with servers.topics("storing") as mine:
        say(f"filling the topics with {RECORDS:,} records")
        side("benchmarks.ingest:publish", {"count": RECORDS}, mine.env())
        for n in range(repetitions):
            say(f"run {n + 1} of {repetitions}")
            with mine.fresh_database() as fresh:
                arguments = {"count": RECORDS, "database": fresh.database}
                ours.append(sample("benchmarks.storing:sink", arguments, fresh.env()))
                if n == 0:
                    _unload(fresh.database, ready)
            with mine.fresh_database() as fresh:
                given = {"database": fresh.database, "folder": str(ready)}
                reference.append(sample("benchmarks.storing:copy_ready", given, fresh.env()))
    return compared(ours, reference)


def sink(count: int, database: str) -> dict[str, float]:
    """Ours: the sink as it runs; the CPU time is its own and that of its PostgreSQL backends."""
    from sinks.postgres.app import main
    from sinks.postgres.writer import STAGE
    from tidewire import config

    watch = Backends(database)
    answer = metered(STAGE, count, lambda: main(config.load()), also_cpu=watch.cpu)
    return answer


class Backends:
    """CPU seconds of the server processes that work for one database; 0 for a server on another machine."""

    def __init__(self, database: str) -> None:
        self._connection = psycopg.connect(database, autocommit=True)
        self._seen: dict[int, float] = {}

    def cpu(self) -> float:
        """Of all backends seen so far, ours left out."""
        rows = self._connection.execute(
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        ).fetchall()
        for (pid,) in rows:
            try:
                process = psutil.Process(pid)
                if "postgres" in process.name():
                    times = process.cpu_times()
                    self._seen[pid] = times.user + times.system
            except psutil.Error:
                continue
        return sum(self._seen.values())


def _unload(database: str, folder: Path) -> None:
    """The rows that the sink has stored, as COPY BINARY bytes of CHUNK rows each."""
    folder.mkdir()
    with psycopg.connect(database) as connection:
        for table in TABLES:
            rows = connection.execute(f"SELECT count(*) FROM {table}").fetchone()
            for start in range(0, rows[0] if rows else 0, CHUNK):
                order = f"ORDER BY received_ts, k_part, k_offset LIMIT {CHUNK} OFFSET {start}"
                query = f"SELECT * FROM {table} {order}"
                copy = f"COPY ({query}) TO STDOUT (FORMAT BINARY)"
                with connection.cursor().copy(copy) as data:
                    (folder / f"{start:09d}.{table}").write_bytes(b"".join(data))


def copy_ready(database: str, folder: str) -> dict[str, float]:
    """The reference: COPY BINARY of ready bytes into the same tables, keys and partitions included."""
    from sinks.postgres import migrate

    migrate.apply(database)
    parts = sorted(Path(folder).iterdir())
    ready = [(path.suffix[1:], path.read_bytes()) for path in parts]
    with psycopg.connect(database) as connection:
        for table in TABLES:
            connection.execute(f"CREATE TABLE {table}_all PARTITION OF {table} DEFAULT")
        connection.commit()
        watch = Backends(database)
        cpu, wall = cpu_seconds() + watch.cpu(), time.perf_counter()
        for table, data in ready:
            _copy(connection, table, data)
        end = time.perf_counter()
        used = cpu_seconds() + watch.cpu() - cpu
        stored = sum(_count(connection, table) for table in TABLES)
    return {"records": stored, "wall": end - wall, "cpu": used}


def _copy(connection: psycopg.Connection[Any], table: str, data: bytes) -> None:
    with connection.cursor().copy(f"COPY {table} FROM STDIN (FORMAT BINARY)") as copy:
        copy.write(data)
    connection.commit()


def _count(connection: psycopg.Connection[Any], table: str) -> int:
    found = connection.execute(f"SELECT count(*) FROM {table}").fetchone()
    return int(found[0]) if found else 0
