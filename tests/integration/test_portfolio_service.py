"""The portfolio service on a real Kafka: killed with -9, shared by two workers, fed with broken records.

If these fail, a crash or a rebalance changes what an account holds.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.partitioner import DefaultPartitioner

from schemas import cluster
from schemas.catalogue import (
    ACCOUNT_SNAPSHOTS,
    ACTIVITIES,
    EXIT_RULES,
    EXIT_WATCH,
    GAPS,
    ORDER_RESULTS,
    PORTFOLIO_ACCOUNTS,
    PORTFOLIO_MARKS,
    PORTFOLIO_ORDERS,
    PORTFOLIO_POSITIONS,
    TRADE_UPDATES,
)
from schemas.codec import Codec, load_codec
from tests.portfolio_history import (
    BASE,
    CURSOR,
    SECOND,
    Event,
    a_mark,
    a_position,
    a_snapshot,
    an_update,
    expected_positions,
)
from tidewire.config import Settings
from tidewire.kafka import client_arguments

pytestmark = pytest.mark.kafka

TOPICS = [TRADE_UPDATES, ACCOUNT_SNAPSHOTS, PORTFOLIO_MARKS, ACTIVITIES]
TOPICS += [PORTFOLIO_ORDERS, PORTFOLIO_POSITIONS, PORTFOLIO_ACCOUNTS]
TOPICS += [EXIT_RULES, EXIT_WATCH, ORDER_RESULTS, GAPS]
ACCOUNTS = [f"demo-{n}" for n in range(1, 7)]
SYMBOLS = ["AAPL", "IBM", "BTC/USD"]
PARTITIONS = [0, 1, 2, 3]
PARTITION_OF = DefaultPartitioner()
PROGRAM = (
    "import sys; from processors.portfolio.app import main; "
    "from tidewire.config import load; sys.exit(main(load()))"
)


@pytest.fixture
def codec(settings: Settings) -> Codec:
    return load_codec(settings)


@pytest.fixture
async def producer(settings: Settings) -> AsyncIterator[AIOKafkaProducer]:
    await cluster.apply(settings, only=TOPICS)
    client = AIOKafkaProducer(**client_arguments(settings), enable_idempotence=True)
    await client.start()
    yield client
    await client.stop()


class Log:
    """Publishes decoded records."""

    def __init__(self, settings: Settings, codec: Codec, producer: AIOKafkaProducer) -> None:
        self._prefix, self._codec, self._producer = settings.tidewire_topic_prefix, codec, producer

    async def updates(self, updates: Iterable[Event]) -> None:
        for update in updates:
            await self._send(TRADE_UPDATES, "trade_update", update["account"], update)

    async def snapshots(self, snapshots: Iterable[Event]) -> None:
        for snapshot in snapshots:
            await self._send(ACCOUNT_SNAPSHOTS, "account_snapshot", snapshot["account"], snapshot)

    async def marks(self, marks: Iterable[Event]) -> None:
        for mark in marks:
            for partition in PARTITIONS:
                await self._send(PORTFOLIO_MARKS, "mark", mark["symbol"], mark, partition)

    async def raw(self, topic: str, key: str, value: bytes) -> None:
        await self._producer.send_and_wait(self._prefix + topic, value, key=key.encode())

    async def _send(
        self, topic: str, stem: str, key: str, record: Event, partition: int | None = None
    ) -> None:
        value = self._codec.encode(stem, record)
        await self._producer.send(self._prefix + topic, value, key=key.encode(), partition=partition)

    async def flush(self) -> None:
        await self._producer.flush()


class Worker:
    """A portfolio service in a process of its own."""

    def __init__(self, settings: Settings) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        environment = os.environ | {
            "KAFKA_BOOTSTRAP_SERVERS": settings.kafka_bootstrap_servers or "",
            "TIDEWIRE_TOPIC_PREFIX": settings.tidewire_topic_prefix,
            "TIDEWIRE_HOME": str(settings.tidewire_home),
            "TIDEWIRE_HTTP_PORT": str(self.port),
            "POLARS_MAX_THREADS": "1",
        }
        self.log = Path(settings.tidewire_home) / f"portfolio-{self.port}.log"
        self.output = self.log.open("wb")
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM],
            env=environment,
            cwd=Path(__file__).parents[2],
            stderr=self.output,
        )

    def get(self, path: str) -> bytes:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as answer:
                return bytes(answer.read())
        except urllib.error.HTTPError as error:
            return error.read()
        except OSError:
            return b"{}"

    async def until(self, wanted: Callable[[dict[str, Any]], bool], seconds: float = 60) -> dict[str, Any]:
        deadline = time.monotonic() + seconds
        health: dict[str, Any] = {}
        while time.monotonic() < deadline:
            health = json.loads(await asyncio.to_thread(self.get, "/health"))
            if health.get("status") == "healthy" and wanted(health):
                return health
            assert self.process.poll() is None, self.log.read_text()[-4000:]
            await asyncio.sleep(0.05)
        raise AssertionError(f"{health}\n{self.log.read_text()[-4000:]}")

    async def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(self.process.wait, 15) == 0


@contextmanager
def worker(settings: Settings) -> Iterator[Worker]:
    running = Worker(settings)
    try:
        yield running
    finally:
        if running.process.poll() is None:
            running.process.kill()
        running.process.wait(10)
        running.output.close()


async def read_all(settings: Settings, topic: str, partitions: list[int]) -> list[Any]:
    client = AIOKafkaConsumer(**client_arguments(settings), auto_offset_reset="earliest")
    await client.start()
    try:
        lanes = [TopicPartition(settings.tidewire_topic_prefix + topic, p) for p in partitions]
        client.assign(lanes)
        ends = await client.end_offsets(lanes)
        records: list[Any] = []
        while any([await client.position(lane) < ends[lane] for lane in lanes]):
            for found in (await client.getmany(timeout_ms=300)).values():
                records += found
        return records
    finally:
        await client.stop()


async def last_of(settings: Settings, codec: Codec, topic: str) -> dict[str, dict[str, Any]]:
    records = await read_all(settings, topic, PARTITIONS)
    for record in records:
        account = record.key.decode().split(":")[0]
        assert record.partition == PARTITION_OF(account.encode(), PARTITIONS, PARTITIONS)
    return {r.key.decode(): codec.decode(r.value)[1] for r in records}


def a_history(chance: random.Random, orders: int, first: int) -> list[Event]:
    """Orders that are sent, filled in two parts and sometimes busted; an end for each."""
    log: list[Event] = []
    for number in range(first, first + orders):
        order, ts = f"o{number}", BASE + number * SECOND
        symbol = chance.choice(SYMBOLS)
        what = {
            "account": chance.choice(ACCOUNTS),
            "symbol": symbol,
            "asset_class": "crypto" if "/" in symbol else "us_equity",
            "side": chance.choice(["buy", "sell"]),
        }
        log.append(an_update("new", order, ts, **what))
        filled = Decimal(0)
        for part in range(2):
            quantity = Decimal(chance.randint(1, 400)) / 4
            filled += quantity
            fill = {"quantity": quantity, "price": Decimal(chance.randint(100, 9_999)) / 100}
            kind = "fill" if part else "partial_fill"
            more = {"cumulative_quantity": filled, "execution_id": f"{order}-{part}"}
            log.append(an_update(kind, order, ts + part + 1, **what, **fill, **more))
        if number % 7 == 0:
            more = {"previous_execution_id": f"{order}-1", "execution_id": f"{order}-b"}
            log.append(an_update("trade_bust", order, ts + 5, **what, **fill, **more))
    log += chance.choices(log, k=len(log) // 20)
    for i in range(0, len(log), 3):  # what the reconciliation finds comes late
        j = min(len(log) - 1, i + chance.randint(0, 30))
        log[i], log[j] = log[j], log[i]
    return log


def assert_positions(found: dict[str, dict[str, Any]], updates: list[Event]) -> None:
    for account in ACCOUNTS:
        mine = [update for update in updates if update["account"] == account]
        for symbol, reference in expected_positions(mine).items():
            record = found[f"{account}:{symbol}"]
            assert Fraction(record["quantity"]) == reference.quantity, (account, symbol)
            assert Fraction(record["cost_basis"]) == round(reference.cost, 18)
            assert Fraction(record["realized_pnl"]) == round(reference.realized, 18)
            assert record["epoch"] == reference.epoch


def assert_accounts(
    found: dict[str, dict[str, Any]], positions: dict[str, dict[str, Any]], updates: list[Event]
) -> None:
    for account in ACCOUNTS:
        mine = [update for update in updates if update["account"] == account]
        cash = 1_000_000 + sum(e.cash for e in expected_positions(mine).values())
        assert Fraction(found[account]["cash"]) == round(cash, 18)
        held = [p["market_value"] for key, p in positions.items() if key.split(":")[0] == account]
        assert found[account]["equity"] == pytest.approx(found[account]["cash"] + sum(held))


def assert_marked(found: dict[str, dict[str, Any]]) -> None:
    assert all(p["mark_price"] == Decimal("77.5") for p in found.values() if p["quantity"])


async def eventually(
    settings: Settings, codec: Codec, check: Callable[[dict[str, dict[str, Any]]], None]
) -> dict[str, dict[str, Any]]:
    """The last position records, once they pass the check."""
    deadline = time.monotonic() + 40
    while True:
        found = await last_of(settings, codec, PORTFOLIO_POSITIONS)
        try:
            check(found)
            return found
        except (AssertionError, KeyError):
            if time.monotonic() > deadline:
                raise
        await asyncio.sleep(0.2)


async def test_positions_and_totals_are_right_although_the_worker_is_killed(
    settings: Settings, codec: Codec, producer: AIOKafkaProducer
) -> None:
    """kill -9 amid fills, repeats, late ones and busts; in the end two workers share the partitions."""
    chance = random.Random(4)
    log = Log(settings, codec, producer)
    updates: list[Event] = []
    await log.snapshots(a_snapshot(BASE - 90 * SECOND, account=account) for account in ACCOUNTS)
    fresh = a_history(chance, 500, 0)
    updates += fresh
    await log.updates(fresh[:600])
    await log.flush()
    with worker(settings) as running:
        await running.until(lambda h: h["keys"] > 100)
        feeding = asyncio.create_task(log.updates(fresh[600:]))
        await log.marks(a_mark(symbol, BASE + i, str(5 + i)) for symbol in SYMBOLS for i in range(40))
        await asyncio.sleep(chance.uniform(0, 1.2))  # the moment of the crash, not a wait for something
        running.process.kill()
        running.process.wait()
        await feeding
        await log.flush()
    with worker(settings) as one, worker(settings) as two:
        both = [one, two]
        await asyncio.gather(
            *(w.until(lambda h: 0 < len(h["partitions"].get(named(settings), [])) < 4) for w in both)
        )
        fresh = a_history(chance, 100, 500)
        updates += fresh
        await log.updates(fresh)
        await log.flush()
        positions = await eventually(settings, codec, lambda found: assert_positions(found, updates))
        await log.marks(a_mark(symbol, BASE + 9_000 * SECOND, "77.5") for symbol in SYMBOLS)
        await log.flush()
        positions = await eventually(settings, codec, assert_marked)
        await one.stop()  # a commit sends the totals that still rest
        await two.stop()
    assert_positions(positions, updates)
    assert_accounts(await last_of(settings, codec, PORTFOLIO_ACCOUNTS), positions, updates)
    orders = await last_of(settings, codec, PORTFOLIO_ORDERS)
    assert len(orders) == 600
    assert {order["status"] for order in orders.values()} == {"filled"}


def named(settings: Settings) -> str:
    return settings.tidewire_topic_prefix + TRADE_UPDATES


async def test_broken_records_are_dead_letters_and_all_are_counted(
    settings: Settings, codec: Codec, producer: AIOKafkaProducer
) -> None:
    """A corrupt record, one of another account and one that fills nothing: each with its bytes and why."""
    log = Log(settings, codec, producer)
    await log.snapshots([a_snapshot(BASE)])
    fill = {"quantity": Decimal(2), "price": Decimal(3), "cumulative_quantity": Decimal(2)}
    sound = an_update("fill", "o1", BASE + SECOND, **fill)
    value = codec.encode("trade_update", sound)
    nothing = codec.encode("trade_update", sound | {"quantity": None})
    await log.updates([sound, sound])
    await log.flush()
    broken = [("demo-1", value[:-3]), ("demo-1", nothing), ("demo-2", value)]
    for key, bad in broken:
        await log.raw(TRADE_UPDATES, key, bad)
    with worker(settings) as running:
        await running.until(lambda h: len(h["lag"]) == 6 and not any(h["lag"].values()) and h["keys"] > 0)
        await eventually(settings, codec, lambda found: assert_held(found, 2))
        metrics = (await asyncio.to_thread(running.get, "/metrics")).decode()
        await running.stop()
    letters = await read_all(settings, TRADE_UPDATES + ".dlq", PARTITIONS)
    assert sorted((letter.key.decode(), letter.value) for letter in letters) == sorted(broken)
    reasons = [dict(letter.headers)["reason"].decode() for letter in letters]
    assert any("not a trade_update record" in reason for reason in reasons)
    assert any("without quantity or price" in reason for reason in reasons)
    assert "its key is not its account" in reasons
    assert all(dict(letter.headers)["stage"] == b"portfolio" for letter in letters)
    labels = f'{{stage="portfolio",topic="{named(settings)}"'
    assert f"tidewire_records_applied_total{labels}}} 1.0" in metrics
    duplicate = f'{{reason="duplicate",stage="portfolio",topic="{named(settings)}"}}'
    assert f"tidewire_records_skipped_total{duplicate} 1.0" in metrics


def assert_held(found: dict[str, dict[str, Any]], quantity: int) -> None:
    assert found["demo-1:AAPL"]["quantity"] == quantity


async def test_fills_wait_for_the_opening_balance_and_rows_that_go_stay_gone(
    settings: Settings, codec: Codec, producer: AIOKafkaProducer
) -> None:
    """What was known before the opening, and what the opening contains, must survive restarts as it was."""
    log = Log(settings, codec, producer)
    fill = {"quantity": Decimal(2), "price": Decimal(3), "cumulative_quantity": Decimal(2)}
    opening: Event = {"activity_cursor": CURSOR, "contained_fills": ["o-1:2"], "cash": Decimal(100)}
    await log.updates(an_update("fill", f"o{i}", BASE + i * SECOND, **fill) for i in (-100, -90, -2, -1))
    await log.flush()
    with worker(settings) as running:
        await running.until(lambda h: h["keys"] == 10)  # orders, fills, holding, account
        await log.snapshots([a_snapshot(BASE, positions=[a_position("AAPL", "6", "3")], **opening)])
        await log.flush()
        await running.until(lambda h: h["keys"] == 7)  # three fills less
        await running.stop()
    await log.updates([an_update("fill", "o5", BASE + 5 * SECOND, **fill)])
    await log.flush()
    with worker(settings) as running:
        health = await running.until(lambda h: h["keys"] == 9)
        assert health["tables"]["portfolio"] == 9
        await running.stop()
    positions = await last_of(settings, codec, PORTFOLIO_POSITIONS)
    assert (positions["demo-1:AAPL"]["quantity"], positions["demo-1:AAPL"]["cost_basis"]) == (10, 30)
    assert (await last_of(settings, codec, PORTFOLIO_ACCOUNTS))["demo-1"]["cash"] == 100 - 12
