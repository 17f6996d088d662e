"""The sink alone, under load: killed with -9, its PostgreSQL shut down `immediate`; every row is compared.

What was sent is kept as plain Python values and compared with plain SQL: none of the sink's own code.
"""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import signal
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
from aiokafka import AIOKafkaProducer

from schemas import cluster
from schemas.catalogue import STOCK_QUOTES, STOCK_STATUSES, STOCK_TRADES
from schemas.codec import Codec, load_codec
from tests.integration.sink_process import TOPICS, start_process
from tidewire import config
from tidewire.config import Settings
from tidewire.kafka import client_arguments
from tidewire.stack import LocalStack

Row = tuple[Any, ...]
Tell = Callable[[str], None]
Result = dict[str, object]

START = 1_381_152_600_000_000_000  # 2013-10-07 09:30 New York, ns
PIECE = 100
PAUSE = 0.02
"""Seconds between pieces of 2 x PIECE records, and a rare one: in between the sink is let work."""
CORRUPT_EVERY = 9_973
PATIENCE = 120.0

_TS = "(extract(epoch FROM ts) * 1000000)::int8 * 1000 + ts_nanos"
STORED = {
    "trades": f"SELECT symbol, {_TS}, trade_id, exchange, price, size, conditions, tape, extra, received_ts,"
    " source, event_id FROM trades",
    "quotes": f"SELECT symbol, {_TS}, bid_exchange, bid_price, bid_size, ask_exchange, ask_price, ask_size,"
    " conditions, tape, extra, received_ts, source, event_id FROM quotes",
    "statuses": f"SELECT symbol, {_TS}, status_code, status_message, reason_code, reason_message, tape,"
    " extra, received_ts, source, event_id FROM stock_statuses",
    "dead letters": "SELECT value FROM dead_letters",
}


@dataclass
class Outcome:
    """Rows in PostgreSQL, and by table those that are missing, changed or there too often."""

    kills: int = 0
    restarts: int = 0
    rows: dict[str, int] = field(default_factory=dict)
    differences: dict[str, int] = field(default_factory=dict)
    exit_code: int | None = None


class Load:
    """Sends trades, quotes, and now and then a status until told to stop; remembers the rows they must be."""

    def __init__(self, settings: Settings, codec: Codec, seed: int) -> None:
        self._settings, self._codec, self._chance = settings, codec, random.Random(seed)
        self.sent: dict[str, list[Row]] = {name: [] for name in STORED}
        self.stop = asyncio.Event()
        self._n = 0

    async def run(self) -> None:
        """Until `stop`; then everything is in Kafka."""
        producer = AIOKafkaProducer(**client_arguments(self._settings), acks="all", enable_idempotence=True)
        await producer.start()
        try:
            while not self.stop.is_set():
                waiting = [await self._send(producer, *made) for _ in range(PIECE) for made in self._next()]
                await asyncio.gather(*waiting)
                await asyncio.sleep(PAUSE)
        finally:
            await producer.stop()

    async def _send(self, producer: AIOKafkaProducer, topic: str, symbol: str, value: bytes) -> Any:
        return await producer.send(self._settings.tidewire_topic_prefix + topic, value, symbol.encode())

    def _next(self) -> Iterator[tuple[str, str, bytes]]:
        self._n += 1
        for topic, stem, name, record in self._records(self._n):
            value = self._codec.encode(stem, record)
            if name == "trades" and self._n % CORRUPT_EVERY == 0:
                value = value[:-3]
                self.sent["dead letters"].append((value,))
            else:
                fields = (v for key, v in record.items() if key != "owner_epoch")
                self.sent[name].append(tuple(fields))
            yield topic, record["symbol"], value

    def _records(self, n: int) -> Iterator[tuple[str, str, str, dict[str, Any]]]:
        chance = self._chance
        head = {"symbol": f"S{chance.randrange(40)}", "ts": START + n * 1_001}
        tail = {
            "extra": chance.choice((None, None, '{"new":1}')), "received_ts": START + n, "source": "ws",
            "owner_epoch": 1, "event_id": n.to_bytes(8, "big"),
        }  # fmt: skip
        lists = {"conditions": chance.choices(("@", "I", "", "ü"), k=chance.randrange(4)), "tape": "C"}
        trade = {"id": n, "exchange": "V", "price": chance.random() * 100, "size": chance.getrandbits(62)}
        yield STOCK_TRADES, "stock_trade", "trades", head | trade | lists | tail
        quote = {
            "bid_exchange": "P", "bid_price": chance.random(), "bid_size": n, "ask_exchange": "Q",
            "ask_price": chance.random(), "ask_size": chance.randrange(99),
        }  # fmt: skip
        yield STOCK_QUOTES, "stock_quote", "quotes", head | quote | lists | tail
        if n % 50 == 0:
            status = {
                "status_code": "H",
                "status_message": "Halt",
                "reason_code": "T12",
                "reason_message": "",
            }
            yield STOCK_STATUSES, "stock_status", "statuses", head | status | {"tape": "C"} | tail


class _Victim:
    """A sink in a process, and the PostgreSQL that it writes to."""

    def __init__(self, settings: Settings, stack: LocalStack) -> None:
        self._settings, self._stack = settings, stack
        self._url = stack.postgres.url
        self.process: subprocess.Popen[bytes] = start_process(settings)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        self.process = start_process(self._settings)

    def restart_postgres(self) -> None:
        pid = self._stack.postgres.pid
        assert pid is not None, "PostgreSQL does not run"
        os.kill(pid, signal.SIGQUIT)  # as `pg_ctl stop -m immediate`: nobody is asked, nothing written
        deadline = time.monotonic() + PATIENCE
        while self._stack.postgres.alive():
            assert time.monotonic() < deadline, "PostgreSQL does not end"
            time.sleep(0.02)
        self._stack.start_postgres()

    def stored(self) -> int:
        """Offsets stored, summed: it grows with every transaction; 0 before the sink's first."""
        with psycopg.connect(self._url) as connection:
            if connection.execute("SELECT to_regclass('kafka_offsets')").fetchone() == (None,):
                return 0
            row = connection.execute(
                "SELECT coalesce(sum(next_offset), 0)::int8 FROM kafka_offsets"
            ).fetchone()
        return int(row[0]) if row else 0

    async def moves(self, after: int) -> int:
        """Wait until more is stored than that; returns how much."""
        deadline = time.monotonic() + PATIENCE
        while (now := await asyncio.to_thread(self.stored)) <= after:
            assert self.process.poll() is None, f"the sink ended by itself with {self.process.returncode}"
            assert time.monotonic() < deadline, f"the sink stores nothing beyond {after}"
            await asyncio.sleep(0.02)
        return now


async def survive(
    settings: Settings, stack: LocalStack, kills: int, restarts: int, seed: int, tell: Tell
) -> Outcome:
    """Load the sink, hurt it that often in a random order, let it finish, and compare.

    `settings` name the Kafka, and the `stack`'s PostgreSQL.
    """
    await cluster.apply(settings, only=TOPICS)
    load, chance = Load(settings, load_codec(settings), seed), random.Random(seed)
    outcome, faults = Outcome(), ["kill"] * kills + ["restart"] * restarts
    chance.shuffle(faults)
    victim = _Victim(settings, stack)
    loading = asyncio.create_task(load.run())
    try:
        stored = 0
        for number, fault in enumerate(faults, 1):
            stored = await victim.moves(stored)  # it works, and there is more than it has written
            await asyncio.sleep(chance.random() * 0.3)
            if fault == "kill":
                await asyncio.to_thread(victim.kill)
                outcome.kills += 1
            else:
                await asyncio.to_thread(victim.restart_postgres)
                outcome.restarts += 1
            tell(f"{number} of {len(faults)}: {fault}, {stored:,} records stored")
        await victim.moves(stored)
        load.stop.set()
        await loading
        await _all_stored(victim, sum(map(len, load.sent.values())))
        victim.process.send_signal(signal.SIGTERM)
        outcome.exit_code = await asyncio.to_thread(victim.process.wait, 60)
    finally:
        load.stop.set()
        victim.process.kill()
        victim.process.wait()
        await asyncio.wait({loading})
    _compare(stack.postgres.url, load, outcome)
    return outcome


async def _all_stored(victim: _Victim, due: int) -> None:
    stored = 0
    while stored < due:
        stored = await victim.moves(stored)


def _compare(url: str, load: Load, outcome: Outcome) -> None:
    with psycopg.connect(url) as connection:
        for name, query in STORED.items():
            found = Counter(map(_plain, connection.execute(query.encode())))
            due = Counter(map(_plain, load.sent[name]))
            outcome.rows[name] = found.total()
            outcome.differences[name] = (found - due).total() + (due - found).total()


def _plain(row: Row) -> Row:
    return tuple(tuple(value) if isinstance(value, list) else value for value in row)


@contextmanager
def own_stack() -> Iterator[LocalStack]:
    """A stack of servers that nobody else uses; nothing of it is left."""
    home = Path(tempfile.mkdtemp(prefix="tidewire-chaos-sink-"))
    home.chmod(0o755)  # below a private folder PostgreSQL's own user would not reach its data
    stack = LocalStack(home)
    try:
        yield stack
    finally:
        stack.down()
        shutil.rmtree(home, ignore_errors=True)


def run(seed: int, full: bool, tell: Tell = print) -> dict[str, Result]:
    """20 kills and 5 restarts (`full`: three times as many) on servers of their own, ready for chaos.json."""
    name, times = "sink_under_load.rows_different", 3 if full else 1
    try:
        with own_stack() as stack:
            found = stack.up()
            settings = config.load(
                _env_file=None,
                kafka_bootstrap_servers=found.kafka_bootstrap,
                database_url=found.database_url,
                tidewire_home=stack.home / "sink",
                tidewire_partitions=4,
            )
            outcome = asyncio.run(survive(settings, stack, 20 * times, 5 * times, seed, tell))
    except Exception as error:
        return {name: {"value": None, "unit": "rows", "goal": 0, "ok": False, "reason": str(error)[:500]}}
    wrong = sum(outcome.differences.values())
    return {
        name: {
            "value": wrong,
            "unit": "rows",
            "goal": 0,
            "ok": wrong == 0 and outcome.exit_code == 0,
            "kills": outcome.kills,
            "restarts": outcome.restarts,
            "seen": outcome.rows,
        }
    }
