"""The producer against a socket that speaks Alpaca's protocol and a real Kafka: what goes in comes out."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgpack
import pytest
from prometheus_client import REGISTRY
from websockets.asyncio.server import Server, ServerConnection, serve

from producers.app import Producer
from producers.subscriptions import CHANNELS
from schemas import cluster
from schemas.catalogue import TOPICS as CATALOGUE
from tests.integration.service_run import running as service_running
from tests.integration.topic_content import decoded, held
from tidewire.config import Settings
from tidewire.errors import ConfigError, RefusedError, SchemaError, UnreachableError
from tidewire.health import Health

pytestmark = pytest.mark.kafka

T0 = 1_763_740_800_000_000_000
Message = dict[str, Any]
TOPICS = ("alpaca.stocks.trades", "alpaca.stocks.quotes", "alpaca.stocks.bars", "alpaca.stocks.corrections")


def _trade(number: int, symbol: str = "AAPL", **other: Any) -> Message:
    message = {
        "T": "t",
        "S": symbol,
        "i": number,
        "x": "V",
        "p": 100 + number / 100,
        "s": 10,
        "c": ["@"],
        "z": "C",
    }
    return {**message, "t": msgpack.Timestamp.from_unix_nano(T0 + number * 10**6), **other}


def _quote(number: int, symbol: str = "AAPL") -> Message:
    message = {"T": "q", "S": symbol, "bx": "V", "bp": 100.25, "bs": 1, "ax": "V", "ap": 100.5, "as": 2}
    return {**message, "c": ["R"], "z": "C", "t": msgpack.Timestamp.from_unix_nano(T0 + number * 10**6)}


def _bar(kind: str, close: float) -> Message:
    numbers = {"o": 1.0, "h": 2.0, "l": 0.5, "c": close, "v": 10, "n": 3, "vw": 1.25}
    return {"T": kind, "S": "AAPL", **numbers, "t": msgpack.Timestamp.from_unix_nano(T0)}


class Alpaca:
    """Greets, takes keys, acknowledges subscriptions, then runs one script a connection."""

    def __init__(self, *scripts: Callable[[ServerConnection], Awaitable[None]], limit: int = 10_000) -> None:
        self.scripts, self.limit = list(scripts), limit
        self.refusals: list[Message] = []  # the answers to the first keys
        self.connections = 0
        self.keys: Message = {}
        self._server: Server | None = None

    async def __aenter__(self) -> str:
        self._server = await serve(self._connection, "127.0.0.1", 0, compression=None, max_size=None)
        return f"ws://127.0.0.1:{next(iter(self._server.sockets)).getsockname()[1]}"

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        await self._server.wait_closed()

    async def _connection(self, socket: ServerConnection) -> None:
        self.connections += 1
        await _say(socket, {"T": "success", "msg": "connected"})
        self.keys = msgpack.unpackb(await socket.recv())
        if self.refusals:
            await _say(socket, self.refusals.pop(0))
            return
        await _say(socket, {"T": "success", "msg": "authenticated"})
        held: dict[str, list[str]] = {}
        while True:
            wish = msgpack.unpackb(await socket.recv())
            wish.pop("action")
            if any(len({*held.get(c, []), *symbols}) > self.limit for c, symbols in wish.items()):
                await _say(socket, {"T": "error", "code": 405, "msg": "symbol limit exceeded"})
                continue
            for channel, symbols in wish.items():
                held[channel] = [*held.get(channel, []), *symbols]
            await _say(socket, {"T": "subscription", **held})
            if self.scripts:
                await self.scripts.pop(0)(socket)


async def _say(socket: ServerConnection, *messages: Any) -> None:
    await socket.send(msgpack.packb(list(messages)))


def _frames(*frames: list[Any] | bytes) -> Callable[[ServerConnection], Awaitable[None]]:
    async def send(socket: ServerConnection) -> None:
        for frame in frames:
            await socket.send(frame if isinstance(frame, bytes) else msgpack.packb(frame))

    return send


@asynccontextmanager
async def _running(settings: Settings, url: str) -> AsyncIterator[Producer]:
    producer = Producer(settings.model_copy(update={"tidewire_stream_url": url}), start_seconds=5)
    async with service_running(producer, "producer"):
        yield producer


async def _until(condition: Callable[[], object], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        await asyncio.sleep(0.02)


def _metric(name: str, **labels: str) -> float:
    return sum(
        sample.value
        for family in REGISTRY.collect()
        for sample in family.samples
        if sample.name == name and all(sample.labels.get(k) == v for k, v in labels.items())
    )


@pytest.fixture
async def ready(settings: Settings) -> Settings:
    wanted = ("alpaca.stocks.", "alpaca.gaps", "control.")
    await cluster.apply(settings, [topic.name for topic in CATALOGUE if topic.name.startswith(wanted)])
    return settings.model_copy(update={"tidewire_symbols": ("AAPL", "MSFT"), "tidewire_news_symbols": ()})


async def test_every_message_arrives_once_and_bad_ones_cost_only_themselves(ready: Settings) -> None:
    prefix = ready.tidewire_topic_prefix
    before = _metric("tidewire_messages_received_total"), _metric("tidewire_messages_duplicate_total")
    good = [_trade(n, symbol) for n in range(50) for symbol in ("AAPL", "MSFT")]
    broken = _trade(99, p="12")
    whole = msgpack.packb([_trade(77)])
    script = _frames(
        good[:60],
        [*good[60:], _trade(3), broken, _quote(1), _quote(1), {"T": "zz", "S": "A"}, 7],
        whole[:-3],
        b"\xc1garbage",
        [_bar("b", 1.5), _bar("b", 1.5), _bar("u", 1.6), _bar("d", 9.0)],
        [{**_trade(0), "T": "x", "a": "C", "c": None}],
        [_trade(100)],
    )
    async with Alpaca(script) as url, _running(ready, url) as producer:
        published = "tidewire_messages_published_total"
        await _until(lambda: sum(_metric(published, topic=prefix + t) for t in TOPICS) == 101 + 2 + 3 + 1)
        dead = "tidewire_records_dead_lettered_total"
        await _until(
            lambda: sum(_metric(dead, topic=prefix + t) for t in (*TOPICS, "alpaca.stocks.frames")) == 5
        )
        details = producer.details()
        assert details["websocket_connected"] is True
        assert details["subscribed_symbols"] == ["AAPL", "MSFT"]
        assert details["last_message_time"] is not None
    received = _metric("tidewire_messages_received_total") - before[0]
    duplicates = _metric("tidewire_messages_duplicate_total") - before[1]
    assert received == 107 + duplicates + 5
    assert duplicates == 2

    trades = await decoded(ready, TOPICS[0])
    assert Counter((t["symbol"], t["id"], t["price"]) for t in trades) == Counter(
        (m["S"], m["i"], m["p"]) for m in [*good, _trade(100)]
    )
    for symbol in ("AAPL", "MSFT"):  # in order
        ids = [t["id"] for t in trades if t["symbol"] == symbol]
        assert ids == sorted(ids)
    quotes = await decoded(ready, TOPICS[1])
    assert len({q["event_id"] for q in quotes}) == 2
    bars = await decoded(ready, TOPICS[2])
    assert [(b["interval"], b["revision"], b["close"]) for b in bars] == [
        ("minute", 0, 1.5), ("minute", 1, 1.6), ("day", 0, 9.0),
    ]  # fmt: skip
    (letter,) = await held(ready, TOPICS[0] + ".dlq")
    assert letter.value == msgpack.packb(broken)
    assert dict(letter.headers)["reason"] == b"p is not a number: '12'"
    letters = await held(ready, "alpaca.stocks.frames.dlq")
    assert Counter(record.value for record in letters) == Counter(
        [msgpack.packb({"T": "zz", "S": "A"}), msgpack.packb(7), whole[:-3], b"\xc1garbage"]
    )


async def test_after_a_drop_it_connects_again_and_a_restart_neither_repeats_nor_collides(
    ready: Settings,
) -> None:
    async def half(socket: ServerConnection) -> None:
        await _frames([_trade(1), _quote(2), _bar("b", 1.0)])(socket)
        socket.transport.abort()

    again = _frames([_trade(1), _trade(2), _quote(2)])
    server = Alpaca(half, again, _frames([_trade(2), _trade(3), _quote(2), _bar("b", 1.0), _bar("u", 2.0)]))
    published = "tidewire_messages_published_total"
    prefix = ready.tidewire_topic_prefix
    async with server as url:
        async with _running(ready, url) as producer:
            await _until(lambda: _metric(published, topic=prefix + TOPICS[0]) == 2)
            assert producer.details()["reconnect_attempts"] == 1
        async with _running(ready, url):
            await _until(lambda: _metric(published, topic=prefix + TOPICS[2]) == 2)
    assert sorted(t["id"] for t in await decoded(ready, TOPICS[0])) == [1, 2, 3]
    assert len({q["event_id"] for q in await decoded(ready, TOPICS[1])}) == 3
    assert [b["revision"] for b in await decoded(ready, TOPICS[2])] == [0, 1]


async def test_a_plan_that_is_too_small_costs_the_symbols_beyond_it_and_no_others(ready: Settings) -> None:
    wanted = ready.model_copy(update={"tidewire_symbols": tuple(f"S{n:02}" for n in range(40))})
    async with Alpaca(limit=30) as url, _running(wanted, url) as producer:
        await _until(lambda: sum(map(len, _refused(producer).values())) == 10 * len(CHANNELS))
        assert producer.details()["subscribed_symbols"] == [f"S{n:02}" for n in range(30)]
        assert _refused(producer)["trades"] == [f"S{n:02}" for n in range(30, 40)]


def _refused(producer: Producer) -> dict[str, list[str]]:
    refused = producer.details().get("refused_symbols", {})
    assert isinstance(refused, dict)
    return refused


async def test_refused_keys_end_the_service_with_what_to_do_and_without_the_keys(ready: Settings) -> None:
    server = Alpaca()
    server.refusals.append({"T": "error", "code": 402, "msg": "auth failed"})
    async with server as url:
        settings = ready.model_copy(update={"tidewire_stream_url": url})
        with pytest.raises(RefusedError, match="APCA_API_KEY_ID and APCA_API_SECRET_KEY"):
            await Producer(settings).run(Health("producer"), asyncio.Event())
    assert server.connections == 1
    assert server.keys == {"action": "auth", "key": "demo-key", "secret": "demo-secret"}


@pytest.mark.parametrize("code", [406, 404])
async def test_an_error_that_passes_is_waited_for(ready: Settings, code: int) -> None:
    server = Alpaca(_frames([_trade(1)]))
    server.refusals.append({"T": "error", "code": code, "msg": "not now"})
    async with server as url, _running(ready, url) as producer:
        await _until(lambda: producer.details()["last_message_time"] is not None)
        assert server.connections == 2


async def test_a_frame_of_megabytes_is_taken_whole(ready: Settings) -> None:
    name = ready.tidewire_topic_prefix + TOPICS[0]
    async with Alpaca(_frames([_trade(n) for n in range(40_000)])) as url, _running(ready, url):
        await _until(lambda: _metric("tidewire_messages_published_total", topic=name) == 40_000, 60)


async def test_a_missing_topic_is_named_and_not_created(settings: Settings) -> None:
    here = settings.model_copy(update={"tidewire_stream_url": "ws://127.0.0.1:1"})
    with pytest.raises(SchemaError, match=r"alpaca\.stocks\.trades.*tidewire topics apply"):
        await Producer(here).run(Health("producer"), asyncio.Event())


async def test_missing_keys_are_named_before_anything_is_tried(ready: Settings) -> None:
    with pytest.raises(ConfigError, match="APCA_API_KEY_ID and APCA_API_SECRET_KEY are not set"):
        await Producer(ready).run(Health("producer"), asyncio.Event())


async def test_a_kafka_that_is_not_there_is_said_in_one_message(settings: Settings) -> None:
    nowhere = {"kafka_bootstrap_servers": "127.0.0.1:1", "tidewire_stream_url": "ws://127.0.0.1:1"}
    producer = Producer(settings.model_copy(update=nowhere), start_seconds=0)
    with pytest.raises(UnreachableError, match="KAFKA_BOOTSTRAP_SERVERS"):
        await producer.run(Health("producer"), asyncio.Event())
