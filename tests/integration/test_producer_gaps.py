"""What a feed's owner writes to alpaca.gaps, over real sockets and a real Kafka: from this everything that is
missing is fetched, and everything that cannot be is named.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgpack
import pytest
from aiohttp import ClientSession
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from producers.app import Producer
from producers.encoder import Encoder
from producers.entrance import Bars, Window
from producers.gaps import times
from schemas import cluster
from schemas.catalogue import GAPS, STOCK_TRADES
from schemas.codec import load_codec
from schemas.gaps import CLOSED, Board, Gap
from simulator.app import Simulator, SimulatorOptions
from tests.integration.producer_process import start
from tests.integration.producer_venues import STOCKS, Alpaca, Message, metric, until
from tests.integration.service_run import running as service_running
from tidewire import kafka
from tidewire.config import Settings

pytestmark = pytest.mark.kafka

S = 10**9
FEED = "stocks:iex"


def _trade(number: int, ts: int) -> Message:
    return {"T": "t", "S": "AAPL", "i": number, "x": "V", "p": 1.5, "s": 9, "c": ["@"], "z": "C",
            "t": msgpack.Timestamp.from_unix_nano(ts)}  # fmt: skip


@pytest.fixture
async def ready(settings: Settings) -> Settings:
    await cluster.apply(settings)
    chosen: dict[str, Any] = {"tidewire_symbols": ("AAPL", "MSFT"), "tidewire_news_symbols": ()}
    return settings.model_copy(update=chosen)


@asynccontextmanager
async def _running(settings: Settings, url: str) -> AsyncIterator[Producer]:
    producer = Producer(settings.model_copy(update={"tidewire_stream_url": url}), start_seconds=5)
    async with service_running(producer, "producer"):
        yield producer


class Reader:
    """The records of a topic, as far as they were looked at."""

    def __init__(self, settings: Settings, topic: str) -> None:
        self._name = settings.tidewire_topic_prefix + topic
        self._codec = load_codec(settings)
        self._consumer = AIOKafkaConsumer(
            self._name, **kafka.client_arguments(settings), auto_offset_reset="earliest"
        )
        self.records: list[Any] = []
        self.board = Board()

    async def __aenter__(self) -> Reader:
        await self._consumer.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._consumer.stop()

    async def look(self) -> None:
        for batch in (await self._consumer.getmany(timeout_ms=100)).values():
            for record in batch:
                stem, content = self._codec.decode(record.value)
                self.records.append((record, content))
                if stem == "gap":
                    self.board.put(Gap.of(content))

    async def until(self, condition: Any, seconds: float = 30) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, [*self.board.open(), *self.board.closed()]
            await self.look()

    def of(self, channel: str) -> list[Gap]:
        return [gap for gap in self.board.open() if gap.channel == channel]


async def test_a_cut_opens_a_gap_that_ends_with_the_first_events_after_it(ready: Settings) -> None:
    """Its interval is what is fetched; a cut without a gap is a loss that nobody sees."""
    alpaca = Alpaca()
    async with alpaca as url, _running(ready, url), Reader(ready, GAPS) as gaps:
        venue = alpaca.venues[STOCKS]
        await until(lambda: len(venue.held) == 8)
        before = time.time_ns()
        await venue.say(_trade(1, before))
        await until(
            lambda: metric("tidewire_messages_published_total", topic=_name(ready, STOCK_TRADES)) == 1
        )
        assert venue.socket is not None
        venue.held = {}
        venue.socket.transport.abort()
        await gaps.until(lambda: len(gaps.board.open()) >= 8)
        assert all(gap.lasts and gap.symbols == ("AAPL", "MSFT") for gap in gaps.board.open())
        (gap,) = gaps.of("trades")
        assert (gap.from_ts, gap.reason) == (before - times.ALLOWANCE_NS, "disconnect")
        await until(lambda: len(venue.held) == 8)
        after = time.time_ns()
        await venue.say(_trade(2, after))
        await gaps.until(lambda: not any(gap.lasts for gap in gaps.board.open()))
        until_ts = gaps.of("trades")[0].until_ts
        assert until_ts is not None
        assert after <= until_ts < after + 3 * S


async def test_a_first_start_has_no_gap_and_a_killed_producer_finds_its_own(ready: Settings) -> None:
    """kill -9 says nothing to anybody: the log alone knows since when events are missing."""
    alpaca = Alpaca()
    async with alpaca as url, Reader(ready, GAPS) as gaps:
        venue = alpaca.venues[STOCKS]
        process = await start(ready, TIDEWIRE_STREAM_URL=url, TIDEWIRE_SYMBOLS="AAPL,MSFT",
                              TIDEWIRE_HOME=str(ready.tidewire_home))  # fmt: skip
        await until(lambda: len(venue.held) == 8, 60)  # a process that has to start first
        last = time.time_ns()
        await venue.say(_trade(1, last))
        async with Reader(ready, STOCK_TRADES) as trades:
            await trades.until(lambda: trades.records)
        await gaps.look()
        assert gaps.records == []
        process.process.kill()
        await process.end(10)
        venue.held = {}
        async with _running(ready, url):
            await until(lambda: len(venue.held) == 8, 60)
            await gaps.until(lambda: len(gaps.board.open()) >= 10)  # with corrections and cancelErrors
            (gap,) = gaps.of("trades")
            assert (gap.reason, gap.from_ts) == ("restart", last - times.RESTART_NS - times.ALLOWANCE_NS)
            await venue.say(_trade(2, time.time_ns()))
            await gaps.until(lambda: not any(gap.lasts for gap in gaps.board.open()))
            epochs = {gap.owner_epoch for gap in gaps.board.open()}
            assert len(epochs) == 1


async def test_what_was_fetched_is_not_taken_again_from_the_socket(ready: Settings) -> None:
    """A late print that a backfill has brought already would stand in the log twice, and count twice."""
    alpaca = Alpaca()
    async with alpaca as url, _running(ready, url):
        venue = alpaca.venues[STOCKS]
        await until(lambda: len(venue.held) == 8)
        now = time.time_ns()
        await venue.say(_trade(1, now))
        known = metric("tidewire_gap_records_learned_total", feed=FEED)
        await _backfilled(ready, _trade(7, now - S))
        duplicates = metric("tidewire_messages_duplicate_total", channel="trades")
        await until(lambda: metric("tidewire_gap_records_learned_total", feed=FEED) == known + 1)
        await venue.say(_trade(7, now - S), _trade(8, now))
        await until(lambda: metric("tidewire_messages_duplicate_total", channel="trades") == duplicates + 1)
        async with Reader(ready, STOCK_TRADES) as trades:
            await trades.until(lambda: len(trades.records) >= 3)
            assert sorted(content["id"] for _, content in trades.records) == [1, 7, 8]


async def test_a_mute_socket_is_found_by_rest_and_made_anew_with_a_gap(ready: Settings) -> None:
    """The socket is open, pings are answered, and nothing comes: only a second witness can tell."""
    chosen = {"tidewire_symbols": ("AAPL", "SPY"), "tidewire_home": ready.tidewire_home}
    simulator = Simulator(ready.model_copy(update=chosen), SimulatorOptions())
    await simulator.start()
    place = f"127.0.0.1:{simulator.port}"
    urls = {"tidewire_data_url": f"http://{place}", "tidewire_trading_url": f"http://{place}"}
    try:
        async with (
            _running(ready.model_copy(update={**chosen, **urls}), f"ws://{place}"),
            Reader(ready, GAPS) as gaps,
            Reader(ready, STOCK_TRADES) as trades,
        ):
            await trades.until(lambda: len(trades.records) > 20)
            assert gaps.board.open() == []
            await _fault(simulator, {"kind": "mute"})
            started = time.monotonic()
            await gaps.until(lambda: gaps.of("trades"), 35)
            assert time.monotonic() - started < 32
            assert {gap.reason for gap in gaps.board.open()} == {"stall"}
            await gaps.until(lambda: not any(gap.lasts for gap in gaps.board.open()))
            assert metric("tidewire_connection_attempts_total", feed="iex") >= 2
    finally:
        await simulator.stop()


async def _fault(simulator: Simulator, fault: dict[str, Any]) -> None:
    url = f"http://127.0.0.1:{simulator.port}/sim/faults"
    async with ClientSession() as session, session.post(url, json=fault) as answer:
        assert answer.status == 200, await answer.text()


async def _backfilled(settings: Settings, trade: Message) -> None:
    """What a backfill leaves: the record of a trade, and a closed gap that says where it stands."""
    codec, message = load_codec(settings), {**trade, "t": trade["t"].to_unix_nano()}
    encoder = Encoder(codec, Window(), Bars(), owner_epoch=1, source="rest")
    record = encoder.trade(message)
    assert record is not None
    producer = AIOKafkaProducer(**kafka.client_arguments(settings))
    await producer.start()
    try:
        sent = await producer.send_and_wait(_name(settings, STOCK_TRADES), key=record[0], value=record[1])
        placed = f"{sent.topic}:{sent.partition}:{sent.offset}:{sent.offset}"
        ts = time.time_ns()
        gap = Gap(
            "g", FEED, "trades", ("AAPL",), "request", ts, message["t"], message["t"], CLOSED, ts,
            placed=(placed,), published=1, found=1,
        )  # fmt: skip
        value = codec.encode("gap", gap.record())
        await producer.send_and_wait(_name(settings, GAPS), key=gap.key, value=value)
    finally:
        await producer.stop()


def _name(settings: Settings, topic: str) -> str:
    return settings.tidewire_topic_prefix + topic
