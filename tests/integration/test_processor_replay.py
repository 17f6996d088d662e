"""One log, read by processors with other batches, other workers and restarts: the same features to the byte.

If these fail, a replay shows other prices than the day itself did, and nobody can tell which were right.
"""

from __future__ import annotations

import asyncio
import csv
import gzip
import random
import signal
from collections.abc import AsyncIterator
from contextlib import ExitStack
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from processors.app import APP_ID
from processors.columns.matrix import FENCES
from processors.features import row
from processors.features.conflation import INTERVAL_NS
from schemas import cluster
from schemas.catalogue import STOCK_FEATURES, STOCK_QUOTES, STOCK_TRADES
from schemas.codec import Codec, load_codec
from tests.integration.processor_process import NEEDED, PARTITIONS, PROGRAM, Feeder, Worker, read_all, worker
from tidewire.config import Settings
from tidewire.kafka import client_arguments

pytestmark = pytest.mark.kafka

SYMBOLS = [f"SYM{i}" for i in range(7)]
BASE = 1_381_150_800_000_000_000  # 2013-10-07 09:00 in New York
MIDNIGHT = BASE - 9 * 3_600_000_000_000
LEAN = Path(__file__).parents[3] / "shared" / "data" / "lean"
DAY = 86_400_000_000_000

Record = dict[str, Any]
Finals = dict[tuple[str, str, int], Record]
"""By symbol, component and interval: the component's fields in the last record in which it stood there."""

TRADE_FIELDS = ("session", "last", "last_ts", "volume", "trade_count", "high", "low", "vwap", "trades_folded")
QUOTE_FIELDS = ("bid", "ask", "quote_ts", "quotes_folded")


@dataclass(frozen=True)
class Log:
    """Trades and quotes in the order in which they are published."""

    trades: list[Record]
    quotes: list[Record]


@dataclass(frozen=True)
class Reading:
    """How a run reads the log: records of a Kafka batch, of a processor's batch, how far behind it must be
    not to send after each batch, how often it is killed on the way, and by how many workers."""

    published: int
    batch: int
    behind: int
    kills: int = 0
    workers: int = 1

    @property
    def program(self) -> str:
        return (
            "from processors import stock_features; from processors.columns.app import ColumnApp; "
            f"ColumnApp.batch_topic.__defaults__ = ({self.batch}, 8); "
            f"stock_features._FAR_BEHIND = {self.behind}; "
        ) + PROGRAM


def a_trade(symbol: str, ts: int, number: int, price: float, size: int) -> Record:
    return {
        "symbol": symbol, "ts": ts, "id": number, "exchange": "V", "price": price, "size": size,
        "conditions": ["@"], "tape": "C", "extra": None, "received_ts": BASE + 2 * number, "source": "ws",
        "owner_epoch": 1, "event_id": number.to_bytes(8, "big"),
    }  # fmt: skip


def a_quote(symbol: str, ts: int, number: int, bid: float, ask: float) -> Record:
    return {
        "symbol": symbol, "ts": ts, "bid_exchange": "V", "bid_price": bid, "bid_size": 1,
        "ask_exchange": "V", "ask_price": ask, "ask_size": 2, "conditions": ["R"], "tape": "C",
        "extra": None, "received_ts": BASE + 2 * number + 1, "source": "ws", "owner_epoch": 1,
        "event_id": number.to_bytes(8, "big"),
    }  # fmt: skip


def made_up(count: int) -> Log:
    """Half a minute with late ones, equal times, and a few of the day before and the day after."""
    chance = random.Random(11)

    def ts(number: int) -> int:
        late = chance.choice([0] * 12 + [1, 700_000_000, 3_000_000_000])
        day = DAY if number > count * 3 // 4 else -DAY if chance.random() < 0.01 else 0
        return BASE + number * 30 * INTERVAL_NS // count // 1_000_000 * 1_000_000 - late + day

    def price() -> float:
        return chance.randint(100_000, 2_000_000) / 10_000

    def symbol() -> str:
        return SYMBOLS[int(len(SYMBOLS) * chance.random() ** 2)]  # busy ones and quiet ones

    trades = [a_trade(symbol(), ts(n), n, price(), chance.randint(1, 5_000)) for n in range(count)]
    quotes = [a_quote(symbol(), ts(n), n, price(), price()) for n in range(count)]
    return Log(trades, quotes)


def recorded(count: int) -> Log:
    """The first ticks of 2013-10-07, as Lean's sample data has them."""
    trades = [
        a_trade("AIG", MIDNIGHT + int(r[0]) * 1_000_000, n, int(r[1]) / 10_000, int(r[2]))
        for n, r in enumerate(_rows("aig_20131007_trade_tick.csv.gz", count))
    ]
    quotes = [
        a_quote("BAC", MIDNIGHT + int(r[0]) * 1_000_000, n, int(r[1]) / 10_000, int(r[3]) / 10_000)
        for n, r in enumerate(_rows("bac_20131007_quote_tick.csv.gz", count))
    ]
    return Log(trades, quotes)


def _rows(name: str, count: int) -> list[list[str]]:
    with gzip.open(LEAN / name, "rt") as lines:
        return [fields for _, fields in zip(range(count + 1), csv.reader(lines), strict=False)][1:]


def reference(log: Log) -> Finals:
    """Record by record, with Decimals: what each component was at the end of each interval."""
    return _trade_finals(log.trades) | _quote_finals(log.quotes)


def _trade_finals(trades: list[Record]) -> Finals:
    finals: Finals = {}
    states: dict[str, dict[str, Any]] = {}
    for t in trades:
        new = {"session": 0, "last_ts": -1, "id": -1, "trades_folded": 0}
        state = states.setdefault(t["symbol"], new)
        day = 20131007 + (t["ts"] - MIDNIGHT) // DAY
        if day > state["session"]:
            state |= {"session": day, "volume": 0, "trade_count": 0, "notional": Decimal(0)}
            state |= {"high": t["price"], "low": t["price"]}
        if day == state["session"]:
            state["volume"] += t["size"]
            state["trade_count"] += 1
            state["notional"] += Decimal(repr(t["price"])) * t["size"]
            state["high"], state["low"] = max(state["high"], t["price"]), min(state["low"], t["price"])
        if (t["ts"], t["id"]) >= (state["last_ts"], state["id"]):
            state |= {"last": t["price"], "last_ts": t["ts"], "id": t["id"]}
        state["trades_folded"] += 1
        volume = state["volume"]
        state["vwap"] = float(Fraction(state["notional"]) / volume) if volume else None
        fields = {name: state[name] for name in TRADE_FIELDS}
        finals[t["symbol"], "trades", state["last_ts"] // INTERVAL_NS] = fields
    return finals


def _quote_finals(quotes: list[Record]) -> Finals:
    finals: Finals = {}
    states: dict[str, Record] = {}
    for q in quotes:
        state = states.setdefault(q["symbol"], {"quote_ts": -1, "quotes_folded": 0})
        if q["ts"] >= state["quote_ts"]:
            state |= {"bid": q["bid_price"], "ask": q["ask_price"], "quote_ts": q["ts"]}
        state["quotes_folded"] += 1
        finals[q["symbol"], "quotes", state["quote_ts"] // INTERVAL_NS] = dict(state)
    return finals


async def read_finals(settings: Settings, codec: Codec) -> Finals:
    finals: Finals = {}
    for sent in await read_all(settings, STOCK_FEATURES):
        record = codec.decode(sent.value)[1]
        symbol = record["symbol"]
        if record["trades_folded"]:
            fields = {name: record[name] for name in TRADE_FIELDS}
            finals[symbol, "trades", record["last_ts"] // INTERVAL_NS] = fields
        if record["quotes_folded"]:
            fields = {name: record[name] for name in QUOTE_FIELDS}
            finals[symbol, "quotes", record["quote_ts"] // INTERVAL_NS] = fields
    return finals


async def read_table(settings: Settings) -> dict[bytes, list[int]]:
    """The words of each symbol as the changelog ends, without the stamps of offsets."""
    table: dict[bytes, list[int]] = {}
    for record in await read_all(settings, f"{APP_ID}-features-changelog"):
        if not record.key.startswith(FENCES):
            words = np.frombuffer(record.value, "<i8").copy()
            words[[row.TRADES_NEXT, row.QUOTES_NEXT]] = 0
            table[record.key] = words.tolist()
    return table


@pytest.fixture
async def producer(settings: Settings) -> AsyncIterator[AIOKafkaProducer]:
    client = AIOKafkaProducer(
        **client_arguments(settings), enable_idempotence=True, compression_type="lz4", max_batch_size=1 << 20
    )
    await client.start()
    yield client
    await client.stop()


class Line:
    """One run of processors over a log of its own topics, with the same records in every run."""

    def __init__(self, settings: Settings, name: str, producer: AIOKafkaProducer, how: Reading) -> None:
        home = settings.tidewire_home / name
        home.mkdir()
        own = {"tidewire_topic_prefix": f"{settings.tidewire_topic_prefix}{name}.", "tidewire_home": home}
        self.settings, self._how, self._chance = settings.model_copy(update=own), how, random.Random(name)
        self._feeder = Feeder(self.settings, producer)

    async def run(self, log: Log) -> tuple[dict[bytes, list[int]], Finals]:
        await cluster.apply(self.settings, only=NEEDED)
        codec = load_codec(self.settings)
        parts, size = self._how.kills + 1, len(log.trades) // (self._how.kills + 1) + 1
        with ExitStack() as stack:
            running = [self._start(stack) for _ in range(self._how.workers)]
            for part in range(parts):
                if self._how.workers == 1 or part:
                    await asyncio.gather(*(one.until(_is_healthy, 120) for one in running))
                await self._feed(codec, log, slice(part * size, (part + 1) * size))
                if part < self._how.kills:
                    await asyncio.sleep(self._chance.uniform(0.1, 0.8))  # the moment of the crash
                    running[0].process.kill()
                    running[0].process.wait()
                    running[0] = self._start(stack)
            await self._finish(running)
        return await read_table(self.settings), await read_finals(self.settings, codec)

    def _start(self, stack: ExitStack) -> Worker:
        return stack.enter_context(worker(self.settings, self._how.program))

    async def _feed(self, codec: Codec, log: Log, which: slice) -> None:
        trades = [(t["symbol"], codec.encode("stock_trade", t)) for t in log.trades[which]]
        quotes = [(q["symbol"], codec.encode("stock_quote", q)) for q in log.quotes[which]]
        await self._feeder.send(STOCK_TRADES, trades, self._how.published)
        await self._feeder.send(STOCK_QUOTES, quotes, self._how.published)

    async def _finish(self, running: list[Worker]) -> None:
        """Until everything is folded, sent and committed; then stop politely."""
        prefix = self.settings.tidewire_topic_prefix
        lanes = [
            TopicPartition(prefix + name, p) for name in (STOCK_TRADES, STOCK_QUOTES) for p in PARTITIONS
        ]
        arguments = client_arguments(self.settings)
        group = AIOKafkaConsumer(**arguments, group_id=prefix + APP_ID, enable_auto_commit=False)
        await group.start()
        try:
            group.assign(lanes)  # by hand: it looks at the group's offsets and is no member
            async with asyncio.timeout(120):
                ends = await group.end_offsets(lanes)
                while [await group.committed(lane) or 0 for lane in lanes] != [ends[lane] for lane in lanes]:
                    assert not any(one.process.poll() for one in running)
                    await asyncio.sleep(0.1)
        finally:
            await group.stop()
        for one in running:
            one.process.send_signal(signal.SIGTERM)
        for one in running:
            assert await asyncio.to_thread(one.process.wait, 20) == 0


def _is_healthy(health: dict[str, Any]) -> bool:
    return health.get("status") == "healthy"


async def assert_alike(
    settings: Settings, producer: AIOKafkaProducer, log: Log, readings: dict[str, Reading]
) -> None:
    lines = [Line(settings, name, producer, how) for name, how in readings.items()]
    runs = await asyncio.gather(*(line.run(log) for line in lines))
    expected, (first_table, _) = reference(log), runs[0]
    assert len(expected) > 100
    for name, (table, finals) in zip(readings, runs, strict=True):
        assert finals.keys() == expected.keys(), name
        assert finals == expected, name
        assert table == first_table, name


async def test_batches_workers_and_kills_change_neither_the_table_nor_how_any_second_ended(
    settings: Settings, producer: AIOKafkaProducer
) -> None:
    """Large batches of one worker, small ones that are folded one by one with kill -9, two workers."""
    readings = {
        "whole": Reading(published=500, batch=8_000, behind=20_000),
        "small": Reading(published=7, batch=1, behind=0, kills=1),
        "two": Reading(published=60, batch=300, behind=100, kills=1, workers=2),
    }
    await assert_alike(settings, producer, made_up(4_000), readings)


@pytest.mark.skipif(not LEAN.is_dir(), reason="the recorded ticks (../shared/data/lean) are not here")
async def test_recorded_ticks_end_each_second_alike(settings: Settings, producer: AIOKafkaProducer) -> None:
    """A real morning: sparse at first, where nearly each record begins a second of its own."""
    readings = {
        "far": Reading(published=400, batch=8_000, behind=0),
        "near": Reading(published=40, batch=100, behind=20_000),
    }
    await assert_alike(settings, producer, recorded(4_000), readings)
