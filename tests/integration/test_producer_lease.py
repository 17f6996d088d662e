"""Feeds that pass from one process to another. If these failed, a user's data would stop with the process
that died, or be told twice by one that woke up late.
"""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgpack
import pytest
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from producers.announce import small_producer
from producers.lease import Leases
from schemas import cluster
from schemas.catalogue import LEASES, STOCK_FEATURES, STOCK_TRADES
from schemas.codec import load_codec
from simulator.app import Simulator, SimulatorOptions
from tests.integration import sink_process
from tests.integration.processor_process import read_all, worker
from tests.integration.producer_process import Process, start
from tests.integration.producer_venues import metric, until
from tidewire.config import Settings

pytestmark = [pytest.mark.kafka, pytest.mark.postgres]

TAKEOVER_SECONDS = 15.0
T0 = 1_763_740_800_000_000_000


def _trade(number: int) -> dict[str, Any]:
    what = {"T": "t", "S": "AAPL", "i": number, "x": "V", "p": 100.0, "s": 10, "c": ["@"], "z": "C"}
    return what | {"t": msgpack.Timestamp.from_unix_nano(T0 + number * 10**6)}


class Generous:
    """An Alpaca that lets everybody in, and remembers the sockets in their order."""

    def __init__(self) -> None:
        self.sockets: list[ServerConnection] = []
        self._server: Server | None = None

    async def __aenter__(self) -> str:
        self._server = await serve(self._talk, "127.0.0.1", 0, compression=None)
        return f"ws://127.0.0.1:{next(iter(self._server.sockets)).getsockname()[1]}"

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        await self._server.wait_closed()

    async def _talk(self, socket: ServerConnection) -> None:
        try:
            await self.say(socket, {"T": "success", "msg": "connected"})
            await socket.recv()
            await self.say(socket, {"T": "success", "msg": "authenticated"})
            wish = msgpack.unpackb(await socket.recv())
            await self.say(socket, {"T": "subscription", **{c: s for c, s in wish.items() if c != "action"}})
            self.sockets.append(socket)
            await socket.wait_closed()
        except ConnectionClosed:
            return

    async def say(self, socket: ServerConnection, *messages: Any) -> None:
        await socket.send(msgpack.packb(list(messages)))


@pytest.fixture
async def ready(settings: Settings) -> Settings:
    await cluster.apply(settings)
    return settings


async def _started(settings: Settings, url: str) -> Process:
    keys = {"APCA_API_KEY_ID": "demo-key", "APCA_API_SECRET_KEY": "demo-secret"}
    home = {"TIDEWIRE_HOME": str(settings.tidewire_home), "TIDEWIRE_SYMBOLS": "AAPL"}
    return await start(settings, TIDEWIRE_STREAM_URL=url, **keys, **home)


async def _pair(settings: Settings, url: str) -> tuple[Process, Process]:
    """The owner of the stock feed, connected, and another that stands by."""
    owner = await _started(settings, url)
    await owner.said("subscribed")
    other = await _started(settings, url)
    port = (await other.said("started"))["http_port"]
    await until_health(port, lambda health: health["status"] == "healthy")
    health = await _health(port)
    assert (health["owner"], health["connection_state"]) == (False, "STANDBY")
    return owner, other


async def _health(port: int) -> dict[str, Any]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /health HTTP/1.0\r\n\r\n")
    answer = await reader.read()
    writer.close()
    return dict(json.loads(answer.partition(b"\r\n\r\n")[2]))


async def until_health(port: int, condition: Any, seconds: float = 20) -> None:
    """Wait for what /health says."""
    deadline = time.monotonic() + seconds
    while not condition(health := await _health(port)):
        assert time.monotonic() < deadline, health
        await asyncio.sleep(0.05)


async def test_a_killed_owner_is_replaced_within_15_s_and_its_held_socket_waited_out(
    ready: Settings,
) -> None:
    """kill -9: the lease passes in time; only Alpaca's own time to let go of the dead socket is added."""
    hold = 12.0
    symbols = ready.model_copy(update={"tidewire_symbols": ("AAPL",)})
    simulator = Simulator(symbols, SimulatorOptions(hold_seconds=hold, messages_per_second=50))
    await simulator.start()
    owner = other = None
    try:
        owner, other = await _pair(ready, f"ws://127.0.0.1:{simulator.port}")
        owner.process.kill()
        killed = time.monotonic()
        await other.said("the feed is ours", TAKEOVER_SECONDS)
        passed = time.monotonic() - killed
        await other.said("subscribed", 30)
        back = time.monotonic() - killed
        print(f"the lease passed after {passed:.1f} s, connected after {back:.1f} s, held for {hold} s")
        assert passed < TAKEOVER_SECONDS
        assert back < max(passed, hold) + 6 + 2  # one more attempt after the end of the hold
    finally:
        await _end(owner, other)
        await simulator.stop()


async def test_what_a_stopped_owner_writes_after_its_successor_is_left_out_and_counted(
    ready: Settings,
) -> None:
    """SIGSTOP, takeover, SIGCONT: rows and features hold each trade once, and none of the stale owner's."""
    codec, name = load_codec(ready), ready.tidewire_topic_prefix + STOCK_TRADES
    alpaca = Generous()
    owner = other = None
    try:
        async with alpaca as url:
            owner, other = await _pair(ready, url)
            epoch = (await owner.said("the feed is ours"))["epoch"]
            await alpaca.say(alpaca.sockets[0], *[_trade(n) for n in range(100)])
            await until_records(ready, 100)
            owner.process.send_signal(signal.SIGSTOP)
            stopped = time.monotonic()
            await other.said("subscribed", TAKEOVER_SECONDS)
            print(f"taken over {time.monotonic() - stopped:.1f} s after SIGSTOP")
            await alpaca.say(alpaca.sockets[1], *[_trade(n) for n in range(90, 200)])
            await until_records(ready, 200)
            for number in range(200, 220):  # these wait in the stopped process's socket
                await alpaca.say(alpaca.sockets[0], _trade(number))
            owner.process.send_signal(signal.SIGCONT)
            given_up = await owner.said("the feed is given up", 10)
            assert given_up["epoch"] == epoch
            await alpaca.say(alpaca.sockets[1], *[_trade(n) for n in range(200, 210)])
            await until_number(ready, 209, (await other.said("the feed is ours"))["epoch"])
    finally:
        await _end(owner, other)
    last = {**_last(codec, await read_all(ready, STOCK_TRADES)), "owner_epoch": epoch}
    late = codec.encode("stock_trade", last | {"id": 999, "event_id": b"late-one"})
    await sink_process.produce(ready, STOCK_TRADES, [("AAPL", late)])  # surely one more of the stale owner's

    records = [codec.decode(record.value)[1] for record in await read_all(ready, STOCK_TRADES)]
    successor = max(r["owner_epoch"] for r in records)
    first = next(i for i, r in enumerate(records) if r["owner_epoch"] == successor)
    stale = [r for r in records[first:] if r["owner_epoch"] == epoch]
    print(f"{len(stale)} records of the stale owner after its successor's first")
    assert sorted(r["id"] for r in records if r not in stale) == list(range(210))
    skipped = "tidewire_records_skipped_total"
    async with sink_process.running(ready):
        await sink_process.until(lambda: sink_process.count(ready, "trades") == 210)
        await until(lambda: metric(skipped, stage="sink", topic=name, reason="stale") == len(stale))
    assert sink_process.rows(ready, "SELECT max(trade_id) FROM trades") == [(209,)]
    with worker(ready) as processor:
        await processor.until(lambda h: bool(h.get("keys")) and not any(h["lag"].values()))
        processor.process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(processor.process.wait, 10) == 0
    (feature,) = {r.key: codec.decode(r.value)[1] for r in await read_all(ready, STOCK_FEATURES)}.values()
    assert feature["trades_folded"] == 210


async def until_records(settings: Settings, count: int) -> None:
    """Wait until the topic of trades holds so many."""
    deadline = time.monotonic() + 20
    while len(await read_all(settings, STOCK_TRADES)) < count:
        assert time.monotonic() < deadline, "not in time"


async def until_number(settings: Settings, number: int, epoch: int) -> None:
    """Wait until an owner has published the trade of this number."""
    codec, deadline = load_codec(settings), time.monotonic() + 20
    while True:
        records = [codec.decode(record.value)[1] for record in await read_all(settings, STOCK_TRADES)]
        if any((r["id"], r["owner_epoch"]) == (number, epoch) for r in records):
            return
        assert time.monotonic() < deadline, "not in time"


def _last(codec: Any, records: list[Any]) -> dict[str, Any]:
    return dict(codec.decode(records[-1].value)[1])


async def _end(*processes: Process | None) -> None:
    for one in processes:
        if one is not None and one.process.returncode is None:
            one.process.send_signal(signal.SIGCONT)
            one.process.terminate()
    for one in processes:
        if one is not None:
            await one.end(15)


class Running:
    """The feeds that run in one member of a group, and how often each was begun."""

    def __init__(self) -> None:
        self.epochs: list[tuple[str, int]] = []
        self.now: set[str] = set()

    async def own(self, feed: str, epoch: int) -> None:
        """Runs until cancelled."""
        self.epochs.append((feed, epoch))
        self.now.add(feed)
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            self.now.discard(feed)


@asynccontextmanager
async def _member(
    settings: Settings, producer: Any, feeds: tuple[str, ...], clock: int
) -> AsyncIterator[tuple[Running, Leases]]:
    running, stop = Running(), asyncio.Event()
    codec = load_codec(settings)
    leases = Leases(settings, codec, producer, "test", feeds, running.own, clock=lambda: clock * 10**9)
    task = asyncio.create_task(leases.run(stop))
    try:
        yield running, leases
        assert not task.done(), task.exception()
    finally:
        stop.set()
        await asyncio.wait_for(task, 15)


async def test_members_that_come_and_go_interrupt_no_feed_of_another(settings: Settings) -> None:
    """And an owner's epoch is greater than any before it, although its clock is behind."""
    await cluster.apply(settings, [LEASES])
    async with small_producer(settings) as producer:
        async with _member(settings, producer, ("stocks:iex",), 5_000) as (first, one):
            await until(lambda: first.now == {"stocks:iex"})
            async with _member(settings, producer, ("stocks:iex", "news"), 3_000) as (second, two):
                await until(lambda: second.now == {"news"})
                assert dict(second.epochs)["news"] > dict(first.epochs)["stocks:iex"] == 5_000
                assert two.owner("stocks:iex") == two.owner("news")
                assert (one.trouble, two.trouble) == (None, None)
            await until(lambda: not second.now)
            assert [feed for feed, _ in first.epochs] == ["stocks:iex"]
        async with _member(settings, producer, ("stocks:iex",), 1_000) as (third, _):
            await until(lambda: bool(third.now))
            assert third.epochs[0][1] > dict(second.epochs)["news"]
