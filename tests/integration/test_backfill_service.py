"""The backfiller beside a simulated Alpaca: what the stream lost is in the log again, and nothing twice."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import msgpack
import pytest
from aiohttp import ClientSession, WSMsgType
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from console import cli
from producers.backfill.app import Backfiller
from producers.channel import topics
from producers.encoder import Encoder
from producers.entrance import Bars, Window
from producers.intake import Intake
from producers.publisher import Publisher
from producers.session import Session
from schemas import cluster, gaps
from schemas.catalogue import GAPS, STOCK_BARS, STOCK_QUOTES, STOCK_TRADES
from schemas.codec import load_codec
from schemas.gaps import CLOSED, Board, Gap
from simulator.app import Simulator, SimulatorOptions
from tests.integration.producer_venues import until
from tests.integration.service_run import running as service_running
from tidewire import kafka
from tidewire.clock import now_ns
from tidewire.config import Settings
from tidewire.health import Health
from verify import ledger

pytestmark = pytest.mark.kafka
SYMBOLS = ("AAPL", "MSFT", "SPY")
CHANNELS = ("trades", "quotes", "bars")
Records = list[dict[str, Any]]


async def test_the_topic_is_the_ledger_after_the_backfill_and_after_another(settings: Settings) -> None:
    """Lost frames are what a user has us for; a second look at the same interval must add nothing."""
    await cluster.apply(settings)
    async with market(settings) as chosen:
        frames = await streamed(chosen, SimulatorOptions(rate="max", limit=3_000))
        await log(chosen, [frame for frame in frames if random.Random(len(frame)).random() < 0.6])
        sent = published(chosen)
        before = await read(chosen, STOCK_TRADES)
        assert len(before) < sum(m["T"] == "t" for m in sent)
        async with backfiller(chosen):
            first = await fill(chosen, *asked(sent))
            again = await fill(chosen, *asked(sent))
    by_channel = {gap.channel: gap for gap in first}
    trades, quotes = await read(chosen, STOCK_TRADES), await read(chosen, STOCK_QUOTES)
    assert Counter(map(trade_of, trades)) == Counter(message_of(m, TRADE) for m in sent if m["T"] == "t")
    assert Counter(map(quote_of, quotes)) == Counter(message_of(m, QUOTE) for m in sent if m["T"] == "q")
    bars = {(b["symbol"], b["ts"]): b["close"] for b in await read(chosen, STOCK_BARS)}
    assert bars == {(m["S"], m["t"].to_unix_nano()): m["c"] for m in sent if m["T"] in "bu"}
    for records in (trades, quotes):
        assert len({r["event_id"] for r in records}) == len(records)
    assert by_channel["trades"].published == sum(r["source"] == "rest" for r in trades) > 100
    assert by_channel["trades"].found == len(trades)
    assert by_channel["quotes"].published == sum(r["source"] == "rest" for r in quotes)
    await placed_where_they_stand(chosen, by_channel["trades"], STOCK_TRADES)
    assert [gap.published for gap in again] == [0, 0, 0]
    assert {gap.owner_epoch for gap in first} == {5} == {r["owner_epoch"] for r in trades}


async def test_a_backfill_that_was_broken_off_is_done_by_another(settings: Settings) -> None:
    """kill -9 in the middle: half of it stands in the log, and the gap is still open."""
    await cluster.apply(settings)
    async with market(settings) as chosen:
        await streamed(chosen, SimulatorOptions(rate="max", limit=3_000))
        sent = published(chosen)
        wanted = [g for g in asked(sent) if g.channel == "trades"]
        task = asyncio.create_task(Backfiller(chosen, settle_seconds=0).run(Health("x"), asyncio.Event()))
        await write(chosen, wanted)
        while not await read(chosen, STOCK_TRADES):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait((task,))
        async with backfiller(chosen):
            await closed(chosen, {g.id for g in wanted})
    trades = await read(chosen, STOCK_TRADES)
    assert Counter(map(trade_of, trades)) == Counter(message_of(m, TRADE) for m in sent if m["T"] == "t")


async def test_what_cannot_be_had_back_is_named(settings: Settings) -> None:
    """A gap that nobody can fill must not stay open for ever, nor look filled."""
    await cluster.apply(settings)
    async with market(settings) as chosen:
        await streamed(chosen, SimulatorOptions(rate="max", limit=50))
        now = now_ns()
        old = gaps.opened("stocks:iex", "trades", ["AAPL"], "restart", now - 30 * 86_400 * 10**9, now,
                          until_ts=now)  # fmt: skip
        halts = gaps.opened("stocks:iex", "statuses", ["*"], "disconnect", now - 10**9, now, until_ts=now)
        wrong = gaps.opened("crypto:us", "trades", ["notapair"], "disconnect", now - 10**9, now, until_ts=now)
        every = gaps.opened("stocks:iex", "quotes", ["*"], "disconnect", now - 10**9, now, until_ts=now)
        async with backfiller(chosen):
            found = await fill(chosen, *old, *halts, *wrong, *every)
    assert [gap.unrecoverable for gap in found] == [("trades",), ("statuses",), ("trades",), ()]
    assert "TIDEWIRE_BACKFILL_DAYS" in str(found[0].detail)
    assert "statuses" in str(found[1].detail)
    assert "HTTP 400" in str(found[2].detail)
    assert "no symbol was seen" in str(found[3].detail)


async def test_two_workers_share_the_gaps_and_the_rate(settings: Settings) -> None:
    """Adding processes is how a backfill gets faster; together they must stay within the limit."""
    await cluster.apply(settings)
    async with market(settings) as chosen:
        await streamed(chosen, SimulatorOptions(rate="max", limit=1_000))
        sent = published(chosen)
        one, other = Backfiller(chosen, settle_seconds=0), Backfiller(chosen, settle_seconds=0)
        async with running(one), running(other):
            await until(lambda: _partitions(one) and _partitions(other))
            assert sorted(_partitions(one) + _partitions(other)) == [0, 1, 2, 3]
            overlapping = [g for n in range(4) for g in asked(sent, now_ns() + n) if g.channel == "trades"]
            found = await fill(chosen, *overlapping)
    trades = await read(chosen, STOCK_TRADES)
    assert sum(gap.published for gap in found) == len(trades)
    assert Counter(map(trade_of, trades)) == Counter(message_of(m, TRADE) for m in sent if m["T"] == "t")


@pytest.mark.parametrize("service", [True, False], ids=["with a service", "alone"])
async def test_the_command_fetches_what_it_is_asked_for(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], service: bool
) -> None:
    """By hand, with or without a running backfiller, and again without adding anything."""
    await cluster.apply(settings)
    async with market(settings) as chosen, AsyncExitStack() as ending:
        await streamed(chosen, SimulatorOptions(rate="max", limit=400))
        sent = published(chosen)
        if service:
            worker = Backfiller(chosen, settle_seconds=0.2)
            await ending.enter_async_context(running(worker))
            await until(lambda: len(_partitions(worker)) == 4)
        for name in ("tidewire_stream_url", "tidewire_data_url", "tidewire_trading_url", "tidewire_home",
                     "tidewire_topic_prefix", "kafka_bootstrap_servers"):  # fmt: skip
            monkeypatch.setenv(name.upper(), str(getattr(chosen, name)))
        monkeypatch.chdir(chosen.tidewire_home)
        times = [m["t"].to_unix_nano() for m in sent]
        start, end = (datetime.fromtimestamp(t // 10**9, UTC) for t in (min(times), max(times) + 10**9))
        command = ["backfill", *SYMBOLS, "--channel", "trades", "--from", start.isoformat(), "--to",
                   end.isoformat(), "--json"]  # fmt: skip
        answers = []
        for _ in range(2):
            assert await asyncio.to_thread(cli.run, command) == 0
            said = capsys.readouterr()
            assert ("no backfiller is running" in said.err) is not service
            answers.append(json.loads(said.out.splitlines()[-1]))
        trades = await read(chosen, STOCK_TRADES)
    assert [answer["published"] for answer in answers] == [len(trades), 0]
    assert [answer["found"] for answer in answers] == [len(trades)] * 2
    assert Counter(map(trade_of, trades)) == Counter(message_of(m, TRADE) for m in sent if m["T"] == "t")


# -- the simulated Alpaca, its stream, and the log -----------------------------------------------------------

TRADE = ("S", "t", "i", "x", "p", "s", "z")
QUOTE = ("S", "t", "bx", "bp", "bs", "ax", "ap", "as", "z")


def message_of(m: dict[str, Any], fields: tuple[str, ...]) -> tuple[Any, ...]:
    return tuple(m[f].to_unix_nano() if f == "t" else m[f] for f in fields)


def trade_of(r: dict[str, Any]) -> tuple[Any, ...]:
    return (r["symbol"], r["ts"], r["id"], r["exchange"], r["price"], r["size"], r["tape"])


def quote_of(r: dict[str, Any]) -> tuple[Any, ...]:
    sides = (
        r["bid_exchange"],
        r["bid_price"],
        r["bid_size"],
        r["ask_exchange"],
        r["ask_price"],
        r["ask_size"],
    )
    return (r["symbol"], r["ts"], *sides, r["tape"])


_simulators: list[Simulator] = []


@asynccontextmanager
async def market(settings: Settings) -> AsyncIterator[Settings]:
    """Settings that name a simulator, which `streamed` starts on this port."""
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"127.0.0.1:{port}"
    yield settings.model_copy(
        update={"tidewire_stream_url": f"ws://{url}", "tidewire_data_url": f"http://{url}",
                "tidewire_trading_url": f"http://{url}", "tidewire_symbols": SYMBOLS}
    )  # fmt: skip
    while _simulators:
        await _simulators.pop().stop()


async def streamed(chosen: Settings, options: SimulatorOptions) -> list[bytes]:
    """Play a market to its end; the frames of its data."""
    from dataclasses import replace

    port = int(chosen.data_url.rpartition(":")[2])
    simulator = Simulator(chosen, replace(options, port=port, deflate=False))
    await simulator.start()
    _simulators.append(simulator)
    headers = {"Content-Type": "application/msgpack"}
    frames: list[bytes] = []
    async with ClientSession() as session, session.ws_connect(chosen.stream_url, headers=headers) as socket:
        await socket.receive()
        await socket.send_bytes(msgpack.packb({"action": "auth", "key": "demo-key", "secret": "demo-secret"}))
        await socket.receive()
        wish = {"action": "subscribe", **{c: ["*"] for c in (*CHANNELS, "updatedBars")}}
        await socket.send_bytes(msgpack.packb(wish))
        await socket.receive()

        async def listen() -> None:
            async for message in socket:
                assert message.type is WSMsgType.BINARY
                frames.append(message.data)

        listening = asyncio.create_task(listen())
        venues: Callable[[], Any] = lambda: simulator.details()["venues"]  # noqa: E731
        await until(lambda: venues()["stocks"]["state"] == "finished")
        await until(lambda: sum(len(msgpack.unpackb(f)) for f in frames) >= len(published(chosen)))
        listening.cancel()
    return frames


async def log(chosen: Settings, frames: Iterable[bytes]) -> None:
    """What the producer would write of these frames; its lease has epoch 5."""
    name = chosen.tidewire_topic_prefix.__add__
    encoder = Encoder(load_codec(chosen), Window(), Bars(), owner_epoch=5)
    publisher = Publisher(Session(kafka.client_arguments(chosen)))
    await publisher.start(map(name, topics(encoder)), [])
    intake = Intake("iex", encoder, publisher, name)
    for frame in frames:
        intake.frame(frame, now_ns())
    await publisher.flush()
    await publisher.stop()


def published(chosen: Settings) -> Records:
    folder = chosen.tidewire_home / "simulator" / "ledger"
    return [m for path in sorted(folder.glob("*.frames")) for frame in ledger.frames(path) for m in frame]


def asked(sent: Records, opened: int | None = None) -> list[Gap]:
    """A gap a channel over all that was sent."""
    times = [m["t"].to_unix_nano() for m in sent]
    start, end = min(times), max(times) + 180 * 10**9
    return [
        gap
        for channel in CHANNELS
        for gap in gaps.opened("stocks:iex", channel, SYMBOLS, "disconnect", start, opened or now_ns(),
                               until_ts=end, owner_epoch=5)
    ]  # fmt: skip


# -- the service ---------------------------------------------------------------------------------------------


@asynccontextmanager
async def running(service: Backfiller) -> AsyncIterator[None]:
    async with service_running(service, "backfiller"):
        yield


def backfiller(chosen: Settings) -> Any:
    return running(Backfiller(chosen, settle_seconds=0.2))


def _partitions(service: Backfiller) -> list[int]:
    found: Any = service.details()["partitions"]
    return list(found)


async def fill(chosen: Settings, *wanted: Gap) -> list[Gap]:
    """Write gaps, wait until they are closed; their last states."""
    await write(chosen, wanted)
    board = await closed(chosen, {gap.id for gap in wanted})
    return [found for gap in wanted if (found := board.get(gap.id)) is not None]


async def write(chosen: Settings, wanted: Iterable[Gap]) -> None:
    codec = load_codec(chosen)
    producer = AIOKafkaProducer(**kafka.client_arguments(chosen), acks="all")
    await producer.start()
    for gap in wanted:
        value = codec.encode("gap", gap.record())
        await producer.send_and_wait(chosen.tidewire_topic_prefix + GAPS, key=gap.key, value=value)
    await producer.stop()


async def closed(chosen: Settings, ids: set[str]) -> Board:
    board, codec = Board(), load_codec(chosen)
    consumer = AIOKafkaConsumer(
        chosen.tidewire_topic_prefix + GAPS, **kafka.client_arguments(chosen), auto_offset_reset="earliest"
    )
    await consumer.start()
    try:
        async with asyncio.timeout(40):
            while not all((gap := board.get(id)) and gap.state == CLOSED for id in ids):
                for batch in (await consumer.getmany(timeout_ms=200)).values():
                    for record in batch:
                        board.put(Gap.of(codec.decode(record.value)[1]))
    finally:
        await consumer.stop()
    return board


async def read(chosen: Settings, topic: str) -> Records:
    codec = load_codec(chosen)
    consumer = AIOKafkaConsumer(
        chosen.tidewire_topic_prefix + topic, **kafka.client_arguments(chosen), auto_offset_reset="earliest"
    )
    await consumer.start()
    try:
        ends = await consumer.end_offsets(consumer.assignment())
        records: Records = []
        while len(records) < sum(ends.values()):
            for partition, batch in (await consumer.getmany(timeout_ms=300)).items():
                at = {"partition": partition.partition}
                records += [{**codec.decode(r.value)[1], **at, "offset": r.offset} for r in batch]
        return records
    finally:
        await consumer.stop()


async def placed_where_they_stand(chosen: Settings, gap: Gap, topic: str) -> None:
    """The owner learns from these offsets what it must not publish again."""
    named = set()
    for place in gap.placed:
        name, partition, first, last = place.split(":")
        assert name == chosen.tidewire_topic_prefix + topic
        named |= {(int(partition), offset) for offset in range(int(first), int(last) + 1)}
    records = await read(chosen, topic)
    assert named == {(r["partition"], r["offset"]) for r in records if r["source"] == "rest"}
