"""The PostgreSQL sink, from Kafka to committed rows, against COPY of bytes that are ready."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import psutil
import psycopg

from benchmarks.ingest import cpu_seconds
from benchmarks.meter import metered
from benchmarks.process import side
from benchmarks.results import Sample, compared
from benchmarks.servers import Servers

RECORDS = 1_000_000
CHUNK = 50_000
"""Rows of one COPY of the reference, each in its own transaction: as many as the sink takes."""
TABLES = ("trades", "quotes")

Say = Callable[[str], None]
Measured = tuple[float, dict[str, float]]


@dataclass(frozen=True, slots=True)
class Run:
    """One run of one side; the CPU seconds of the client and of PostgreSQL, each for a million rows."""

    sample: Sample
    client: float
    server: float


class Runs:
    """Both sides, run once for all benchmarks that look at them."""

    def __init__(self) -> None:
        self._kept: tuple[list[Run], list[Run]] | None = None

    def ratio(self, servers: Servers, repetitions: int, say: Say) -> Measured:
        """Ours of the reference: rows per CPU-second of client and PostgreSQL together."""
        ours, reference = self._both(servers, repetitions, say)
        ratio, details = compared([run.sample for run in ours], [run.sample for run in reference])
        return ratio, details | _cpu("ours", ours) | _cpu("reference", reference)

    def own_cpu(self, servers: Servers, repetitions: int, say: Say) -> Measured:
        """CPU seconds of the sink's own process for a million rows; what a bare COPY costs tells how fast the
        machine is at this hour.
        """
        ours, reference = self._both(servers, repetitions, say)
        return median(run.client for run in ours), _cpu("ours", ours) | _cpu("reference", reference)

    def _both(self, servers: Servers, repetitions: int, say: Say) -> tuple[list[Run], list[Run]]:
        if self._kept is None:
            self._kept = _run(servers, repetitions, say)
        return self._kept


def _run(servers: Servers, repetitions: int, say: Say) -> tuple[list[Run], list[Run]]:
    ready = servers.home / "ready"
    ours: list[Run] = []
    reference: list[Run] = []
    with servers.topics("storing") as mine:
        say(f"filling the topics with {RECORDS:,} records")
        side("benchmarks.ingest:publish", {"count": RECORDS}, mine.env())
        for n in range(repetitions):
            say(f"run {n + 1} of {repetitions}")
            with mine.fresh_database() as fresh:
                arguments = {"count": RECORDS, "database": fresh.database}
                ours.append(_one("benchmarks.storing:sink", arguments, fresh.env()))
                if n == 0:
                    _unload(fresh.database, ready)
            with mine.fresh_database() as fresh:
                given = {"database": fresh.database, "folder": str(ready)}
                reference.append(_one("benchmarks.storing:copy_ready", given, fresh.env()))
    return ours, reference


def _one(where: str, arguments: dict[str, Any], env: dict[str, str]) -> Run:
    answer = side(where, arguments, env)
    records, client, server = int(answer["records"]), answer["client"], answer["server"]
    return Run(Sample(records, answer["wall"], (client + server) * records / 1e6), client, server)


def _cpu(name: str, runs: list[Run]) -> dict[str, float]:
    return {
        f"{name}_client_cpu_s_per_million": round(median(run.client for run in runs), 3),
        f"{name}_postgres_cpu_s_per_million": round(median(run.server for run in runs), 3),
    }


def sink(count: int, database: str) -> dict[str, float]:
    """Ours: the sink as it runs; the CPU time is its own and that of its PostgreSQL backends."""
    from sinks.postgres.app import main
    from sinks.postgres.consumer import MOST_ROWS
    from sinks.postgres.writer import STAGE
    from tidewire import config

    watch = Backends(database)
    seen: list[float] = []

    def server() -> float:
        seen.append(watch.cpu())
        return seen[-1]

    answer = metered(STAGE, count, lambda: main(config.load()), also_cpu=server)
    records, used = answer["records"], seen[-1] - seen[0]
    # When the first batch is stored, the second has been decoded: that cost came before the measuring.
    decoded = records - MOST_ROWS
    client = (answer["cpu"] - used) / decoded * 1e6
    return {"records": records, "wall": answer["wall"], "client": client, "server": used / records * 1e6}


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
                # In the order that costs PostgreSQL least, as the sink has it.
                query = f"SELECT * FROM (SELECT * FROM {table} {order}) rows ORDER BY symbol, ts"
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
        client, server, wall = cpu_seconds(), watch.cpu(), time.perf_counter()
        for table, data in ready:
            _copy(connection, table, data)
        end = time.perf_counter()
        used, of_server = cpu_seconds() - client, watch.cpu() - server
        stored = sum(_count(connection, table) for table in TABLES)
    return {
        "records": stored,
        "wall": end - wall,
        "client": used / stored * 1e6,
        "server": of_server / stored * 1e6,
    }


def _copy(connection: psycopg.Connection[Any], table: str, data: bytes) -> None:
    with connection.cursor().copy(f"COPY {table} FROM STDIN (FORMAT BINARY)") as copy:
        copy.write(data)
    connection.commit()


def _count(connection: psycopg.Connection[Any], table: str) -> int:
    found = connection.execute(f"SELECT count(*) FROM {table}").fetchone()
    return int(found[0]) if found else 0
