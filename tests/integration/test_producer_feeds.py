"""Stocks, crypto and news in one producer, against sockets that speak Alpaca's protocol and a real Kafka."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgpack
import pytest
from aiokafka import AIOKafkaProducer

from producers.app import Producer
from schemas import catalogue, cluster, event_id
from schemas.catalogue import (
    CONNECTIONS,
    CRYPTO_BARS,
    CRYPTO_FRAMES,
    CRYPTO_ORDERBOOKS,
    CRYPTO_QUOTES,
    CRYPTO_TRADES,
    NEWS,
    NEWS_FRAMES,
    OPTION_FRAMES,
    OPTION_QUOTES,
    OPTION_TRADES,
    STOCK_IMBALANCES,
    STOCK_LULDS,
    STOCK_STATUSES,
    SUBSCRIPTIONS,
)
from schemas.codec import load_codec
from tests.integration.producer_process import start
from tests.integration.producer_venues import CRYPTO, OPTIONS, STOCKS, Alpaca, Message, Venue, metric, until
from tests.integration.producer_venues import NEWS as NEWS_PATH
from tests.integration.service_run import running as service_running
from tests.integration.topic_content import decoded, held
from tidewire import kafka
from tidewire.config import Settings
from tidewire.errors import RefusedError
from tidewire.health import Health

pytestmark = pytest.mark.kafka

T0 = 1_763_740_800_000_000_000
TOPICS = tuple(t.name for t in catalogue.TOPICS if t.name.startswith(("alpaca.", "control.")))


def _at(number: int) -> msgpack.Timestamp:
    return msgpack.Timestamp.from_unix_nano(T0 + number * 10**6)


def _trade(number: int, **other: Any) -> Message:
    return {
        "T": "t",
        "S": "BTC/USD",
        "i": number,
        "p": 71856.5,
        "s": 0.25,
        "tks": "B",
        "t": _at(number),
        **other,
    }


def _quote(number: int) -> Message:
    return {"T": "q", "S": "ETH/USD", "bp": 3500.5, "bs": 1.5, "ap": 3501.0, "as": 2.0, "t": _at(number)}


def _bar(kind: str, close: float) -> Message:
    numbers = {"o": 1.0, "h": 2.0, "l": 0.5, "c": close, "v": 0.5, "n": 3, "vw": 1.25}
    return {"T": kind, "S": "BTC/USD", **numbers, "t": _at(0)}


def _article(number: int, revision: int = 0, **other: Any) -> Message:
    texts = {"headline": f"H{number}", "summary": "s", "content": "<p>c</p>", "author": "a", "url": "u"}
    times = {"created_at": _at(number), "updated_at": _at(number + revision)}
    return {"T": "n", "id": number, **texts, "source": "benzinga", **times, "symbols": ["AAPL"], **other}


@pytest.fixture
async def ready(settings: Settings) -> Settings:
    await cluster.apply(settings, TOPICS)
    return settings.model_copy(
        update={"tidewire_symbols": ("AAPL",), "tidewire_crypto_symbols": ("BTC/USD", "ETH/USD")}
    )


class Clock:
    """Real time, moved on by the test."""

    def __init__(self) -> None:
        self.ahead_ns = 0

    def __call__(self) -> int:
        return time.time_ns() + self.ahead_ns


@asynccontextmanager
async def _running(settings: Settings, url: str, clock: Clock | None = None) -> AsyncIterator[Producer]:
    chosen = settings.model_copy(update={"tidewire_stream_url": url})
    producer = Producer(chosen, start_seconds=5, clock=clock or Clock())
    async with service_running(producer, "producer") as health:
        producer.health = health  # type: ignore[attr-defined]
        yield producer


def _reason(producer: Producer) -> str | None:
    found: str | None = producer.health.not_ready  # type: ignore[attr-defined]
    return found


async def _connected(alpaca: Alpaca, *paths: str) -> list[Venue]:
    venues = [alpaca.venues[path] for path in paths]
    await until(lambda: all(venue.held for venue in venues))
    return venues


async def test_each_feed_arrives_once_and_bad_messages_cost_only_themselves(ready: Settings) -> None:
    """Crypto and news must be as complete as stocks: received is published, duplicate or dead-lettered."""
    names = {"crypto": "crypto:us", "news": "news"}
    before = {n: [metric(f"tidewire_messages_{w}_total", feed=n) for w in ("received", "duplicate")]
              for n in names.values()}  # fmt: skip
    alpaca = Alpaca()
    bad, new = _trade(99, p="12"), {"T": "k", "S": "BTC/USD", "t": _at(1)}
    async with alpaca as url, _running(ready, url) as producer:
        crypto, news = await _connected(alpaca, CRYPTO, NEWS_PATH)
        await crypto.say(_trade(1), _trade(2), _quote(1), _quote(1), bad, new, _trade(1))
        await crypto.say(_bar("b", 1.5), _bar("b", 1.5), _bar("u", 1.6), _bar("d", 9.0))
        await news.say(_article(1), _article(1), _article(2, content="x" * 2_000_000))
        await news.say(_article(1, revision=5, new=1), {**_article(3), "headline": None}, 7)
        prefix = ready.tidewire_topic_prefix
        published, dead = "tidewire_messages_published_total", "tidewire_records_dead_lettered_total"
        await until(lambda: metric(published, topic=prefix + CRYPTO_BARS) == 3)
        await until(lambda: metric(published, topic=prefix + NEWS) == 3)
        await until(lambda: metric(dead, topic=prefix + NEWS_FRAMES) == 1)
        await until(lambda: _reason(producer) is None)
        details = producer.details()
        feeds: Any = details["feeds"]
        assert list(feeds) == ["stocks:iex", "crypto:us", "news"]
        assert details["subscribed_symbols"] == ["AAPL"]
        assert feeds["crypto:us"]["subscribed_symbols"] == ["BTC/USD", "ETH/USD"]
        assert feeds["news"]["subscribed_symbols"] == ["*"]
        assert feeds["news"]["last_message_time"] is not None
        assert set(crypto.held) == {"trades", "quotes", "bars", "updatedBars", "dailyBars", "orderbooks"}
        assert all(symbols == ["BTC/USD", "ETH/USD"] for symbols in crypto.held.values())
    grown = {n: [metric(f"tidewire_messages_{w}_total", feed=n) - was
                 for w, was in zip(("received", "duplicate"), before[n], strict=True)]
             for n in names.values()}  # fmt: skip
    assert grown == {"crypto:us": [11, 2], "news": [6, 1]}  # 11 = 7 records + 2 + 2 bad; 6 = 3 + 1 + 2
    trades = await decoded(ready, CRYPTO_TRADES)
    assert [(t["id"], t["taker_side"], t["source"]) for t in trades] == [(1, "B", "ws"), (2, "B", "ws")]
    assert len({q["event_id"] for q in await decoded(ready, CRYPTO_QUOTES)}) == 2
    bars = await decoded(ready, CRYPTO_BARS)
    assert [(b["interval"], b["revision"]) for b in bars] == [("minute", 0), ("minute", 1), ("day", 0)]
    articles = await decoded(ready, NEWS)
    assert Counter((a["id"], a["revision"] - T0) for a in articles) == Counter(
        [("1", 10**6), ("2", 2 * 10**6), ("1", 6 * 10**6)]
    )
    assert {a["event_id"] for a in articles} == {
        event_id.news_id("benzinga", a["id"], a["revision"]) for a in articles
    }
    (letter,) = await held(ready, CRYPTO_TRADES + ".dlq")
    assert letter.value == msgpack.packb(bad)
    (letter,) = await held(ready, CRYPTO_FRAMES + ".dlq")
    assert letter.value == msgpack.packb(new)
    (letter,) = await held(ready, NEWS_FRAMES + ".dlq")
    assert letter.value == msgpack.packb(7)


async def test_killed_with_9_and_started_again_it_neither_repeats_nor_collides(ready: Settings) -> None:
    """A restart in the middle of the day must not send the day's news to every analyzer again."""
    alpaca = Alpaca()
    first = [_trade(1), _trade(2), _quote(1), _bar("b", 1.0), _bar("d", 1.0)]
    variables = {"TIDEWIRE_SYMBOLS": "AAPL", "TIDEWIRE_CRYPTO_SYMBOLS": "*", "TIDEWIRE_NEWS_SYMBOLS": "*"}
    async with alpaca as url:
        process = await start(ready, TIDEWIRE_STREAM_URL=url, **variables)
        crypto, news = await _connected(alpaca, CRYPTO, NEWS_PATH)
        await crypto.say(*first)
        await news.say(_article(1), _article(2))
        await _hold(ready, {CRYPTO_TRADES: 2, CRYPTO_QUOTES: 1, CRYPTO_BARS: 2, NEWS: 2})
        process.process.kill()
        await process.end(10)
        crypto.held, news.held = {}, {}
        process = await start(ready, TIDEWIRE_STREAM_URL=url, **variables)
        await _connected(alpaca, CRYPTO, NEWS_PATH)
        await crypto.say(*first, _trade(3), _bar("u", 2.0), _bar("d", 3.0))
        await news.say(_article(1), _article(2, revision=1), _article(3))
        await _hold(ready, {CRYPTO_TRADES: 3, CRYPTO_QUOTES: 2, CRYPTO_BARS: 4, NEWS: 4})
        process.process.terminate()
        code, log = await process.end(10)
    assert code == 0, log
    assert sorted(t["id"] for t in await decoded(ready, CRYPTO_TRADES)) == [1, 2, 3]
    bars = await decoded(ready, CRYPTO_BARS)
    assert sorted((b["interval"], b["revision"]) for b in bars) == [
        ("day", 0), ("day", 1), ("minute", 0), ("minute", 1),
    ]  # fmt: skip
    for topic in (CRYPTO_QUOTES, NEWS):
        records = await decoded(ready, topic)
        assert len({r["event_id"] for r in records}) == len(records)


async def _hold(settings: Settings, counts: dict[str, int]) -> None:
    deadline = time.monotonic() + 30
    for topic, count in counts.items():
        while len(await held(settings, topic)) < count:
            assert time.monotonic() < deadline, (topic, count)


def _book(number: int, **other: Any) -> Message:
    return {"T": "o", "S": "BTC/USD", "t": _at(number), "b": [{"p": 1.0, "s": 2.5}], "a": [], **other}


AAPL_CALL = "AAPL240315C00172500"


def _contract(kind: str, number: int) -> Message:
    trade = {"p": 2.84, "s": 1, "x": "N", "c": "S"}
    quote = {"bx": "C", "bp": 9.46, "bs": 53, "ax": "C", "ap": 9.66, "as": 38, "c": "A"}
    return {"T": kind, "S": AAPL_CALL, "t": _at(number), **(trade if kind == "t" else quote)}


def _notices() -> tuple[Message, ...]:
    status = {"T": "s", "sc": "H", "sm": "Trading Halt", "rc": "T12", "rm": "Halted"}
    luld, imbalance = {"T": "l", "u": 3.24, "d": 2.65, "i": "B"}, {"T": "i", "p": 9.12}
    return tuple({**m, "S": "AAPL", "z": "C", "t": _at(1)} for m in (status, luld, imbalance))


async def test_every_other_channel_arrives_and_a_restart_neither_repeats_nor_collides(
    ready: Settings,
) -> None:
    """Halts, bands, imbalances, order books and options: alpaca-py drops some, and REST gives none again."""
    alpaca = Alpaca()
    alpaca.venues[OPTIONS].no_star = {"quotes"}
    options = ready.model_copy(update={"tidewire_option_symbols": ("*", AAPL_CALL)})
    named = {STOCK_STATUSES: 1, STOCK_LULDS: 1}
    repeated = {STOCK_IMBALANCES: 1, OPTION_TRADES: 2, OPTION_QUOTES: 1, CRYPTO_ORDERBOOKS: 2}
    refused = {"feed": "options:indicative", "channel": "quotes"}
    async with alpaca as url:
        for rounds in (1, 2):
            async with _running(options, url) as producer:
                stocks, crypto, contracts = await _connected(alpaca, STOCKS, CRYPTO, OPTIONS)
                await until(lambda p=producer: _reason(p) is None)  # type: ignore[misc]
                assert {"statuses", "lulds", "imbalances"} <= set(stocks.held)
                assert contracts.held == {"trades": ["*"], "quotes": [AAPL_CALL]}
                assert metric("tidewire_symbols_refused", **refused) == 1
                await stocks.say(*_notices())
                await contracts.say(_contract("t", 1), _contract("t", 1), _contract("q", 1), {"T": "k"})
                await crypto.say(_book(1, r=True), _book(1, r=True))
                await _hold(ready, {t: n * rounds for t, n in repeated.items()})
                await _hold(ready, {**named, OPTION_FRAMES + ".dlq": rounds})
                for venue in (stocks, crypto, contracts):
                    venue.held = {}
    for topic, count in repeated.items():
        records = await decoded(ready, topic)
        assert len(records) == len({r["event_id"] for r in records}) == 2 * count, topic
    for topic in named:
        assert len(await decoded(ready, topic)) == 1
    (status,) = await decoded(ready, STOCK_STATUSES)
    assert (status["reason_code"], status["ts"]) == ("T12", T0 + 10**6)
    book = (await decoded(ready, CRYPTO_ORDERBOOKS))[0]
    assert (book["reset"], book["bid_prices"], book["bid_sizes"]) == (True, [1.0], [2.5])
    letters = [letter.value for letter in await held(ready, OPTION_FRAMES + ".dlq")]
    assert letters == [msgpack.packb({"T": "k"})] * 2


async def test_a_refused_feed_ends_alone_and_all_refused_end_the_service(ready: Settings) -> None:
    """A plan without news must not cost the stocks; a wrong key must not be retried for ever."""
    alpaca = Alpaca()
    alpaca.venues[NEWS_PATH].refusal = {"T": "error", "code": 409, "msg": "insufficient subscription"}
    async with alpaca as url:
        async with _running(ready, url) as producer:
            (crypto,) = await _connected(alpaca, CRYPTO)
            await until(lambda: metric("tidewire_feed_refused", feed="news") == 1)
            await until(lambda: "TIDEWIRE_NEWS_SYMBOLS=-" in str(_reason(producer)))
            assert str(_reason(producer)).startswith("news: Alpaca refused the connection")
            await crypto.say(_trade(1))
            name = ready.tidewire_topic_prefix + CRYPTO_TRADES
            await until(lambda: metric("tidewire_messages_published_total", topic=name) == 1)
            assert alpaca.venues[NEWS_PATH].connections == 1
        newest = {r["feed"]: r for r in await decoded(ready, CONNECTIONS) if r["reason"] != "stopped"}
        assert newest["news"]["state"] == "DISCONNECTED"
        assert "409" in newest["news"]["reason"]
        assert (newest["crypto:us"]["state"], newest["crypto:us"]["reason"]) == ("CONNECTED", None)
        assert newest["stocks:iex"]["state"] == "CONNECTED"
        for venue in alpaca.venues.values():
            venue.refusal = {"T": "error", "code": 402, "msg": "auth failed"}
        again = Producer(ready.model_copy(update={"tidewire_stream_url": url}))
        with pytest.raises(RefusedError, match=r"/v2/iex.*402"):
            await asyncio.wait_for(again.run(Health("producer"), asyncio.Event()), 20)


async def test_the_test_stream_stands_alone(ready: Settings) -> None:
    """Trying one's keys must not open streams that the plan may not have."""
    test = ready.model_copy(update={"tidewire_feed": "test"})
    alpaca = Alpaca()
    alpaca.venues["/v2/test"] = Venue()
    async with alpaca as url, _running(test, url) as producer:
        await until(lambda: alpaca.venues["/v2/test"].held)
        await until(lambda: _reason(producer) is None)
        assert list(producer.details()["feeds"]) == ["stocks:test"]  # type: ignore[call-overload]
        assert [alpaca.venues[path].connections for path in (STOCKS, CRYPTO, NEWS_PATH)] == [0, 0, 0]


class Holder:
    """A client that writes to control.subscriptions."""

    def __init__(self, settings: Settings, producer: AIOKafkaProducer, name: str) -> None:
        self._topic = settings.tidewire_topic_prefix + SUBSCRIPTIONS
        self._producer, self._name, self._codec = producer, name, load_codec(settings)

    async def hold(self, feed: str, channel: str, symbol: str, seconds: float | None = None) -> None:
        now = time.time_ns()
        record = {
            "feed": feed, "channel": channel, "symbol": symbol, "holder": self._name, "ts": now,
            "priority": "client", "expires_ts": None if seconds is None else now + int(seconds * 10**9),
            "received_ts": now, "source": "ws",
            "event_id": event_id.subscription_id(feed, channel, symbol, self._name, now),
        }  # fmt: skip
        await self._send(feed, channel, symbol, self._codec.encode("subscription", record))

    async def release(self, feed: str, channel: str, symbol: str) -> None:
        await self._send(feed, channel, symbol, None)

    async def _send(self, feed: str, channel: str, symbol: str, value: bytes | None) -> None:
        key = f"{feed}:{channel}:{symbol}:{self._name}".encode()
        await self._producer.send_and_wait(self._topic, key=key, value=value)


async def test_what_clients_want_is_subscribed_while_the_last_of_them_wants_it(ready: Settings) -> None:
    """The gateway's tape: a symbol nobody configured comes when somebody watches, and goes afterwards."""
    alpaca, clock = Alpaca(), Clock()
    alpaca.venues[STOCKS].unknown = {"NOPE"}
    async with AIOKafkaProducer(**kafka.client_arguments(ready)) as sender:
        one, two = Holder(ready, sender, "one"), Holder(ready, sender, "two")
        await one.hold("stocks", "trades", "MSFT")  # before the producer starts
        await one.hold("stocks", "quotes", "GONE", seconds=-1)
        async with alpaca as url, _running(ready, url, clock):
            stocks, crypto = alpaca.venues[STOCKS], alpaca.venues[CRYPTO]
            await until(lambda: stocks.held.get("trades") == ["AAPL", "MSFT"])
            assert stocks.held["quotes"] == ["AAPL"]
            await two.hold("stocks", "trades", "MSFT", seconds=30)
            await two.hold("crypto", "quotes", "SOL/USD", seconds=30)
            await two.hold("stocks", "trades", "NOPE", seconds=30)
            await two.hold("stocks", "trades", "TSLA", seconds=30)
            await two.hold("stocks", "trades", "AAPL", seconds=30)  # configured in any case
            await sender.send_and_wait(ready.tidewire_topic_prefix + SUBSCRIPTIONS, key=b"x", value=b"junk")
            await sender.send_and_wait(ready.tidewire_topic_prefix + SUBSCRIPTIONS, key=b"y", value=b"junk!")
            await until(lambda: crypto.held.get("quotes") == ["BTC/USD", "ETH/USD", "SOL/USD"])
            await until(lambda: stocks.held["trades"] == ["AAPL", "MSFT", "TSLA"])
            await until(lambda: metric("tidewire_symbols_refused", feed="iex", channel="trades") == 1)
            await until(lambda: metric("tidewire_symbols_subscribed", feed="iex", channel="trades") == 3)
            await one.release("stocks", "trades", "MSFT")  # two still wants it
            await one.hold("stocks", "bars", "MSFT")
            await until(lambda: stocks.held["bars"] == ["AAPL", "MSFT"])
            assert stocks.held["trades"] == ["AAPL", "MSFT", "TSLA"]
            assert stocks.socket is not None
            stocks.socket.transport.abort()  # a new connection asks for the same again
            await until(lambda: stocks.connections == 2 and stocks.held.get("bars") == ["AAPL", "MSFT"])
            await until(lambda: stocks.held.get("trades") == ["AAPL", "MSFT", "TSLA"])
            clock.ahead_ns = 60 * 10**9  # nobody renews
            await until(lambda: stocks.held["trades"] == ["AAPL"])
            await until(lambda: crypto.held["quotes"] == ["BTC/USD", "ETH/USD"])
            assert stocks.held["bars"] == ["AAPL", "MSFT"]
            await until(lambda: metric("tidewire_symbols_refused", feed="iex", channel="trades") == 0)
            assert metric("tidewire_subscription_entries_total", outcome="unreadable") == 2
