"""The webhook service over HTTP, into a real Kafka."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import orjson
import pytest
from aiohttp import ClientSession
from aiokafka import AIOKafkaProducer
from prometheus_client import generate_latest
from pydantic import SecretStr

from producers.encoder import Encoder
from producers.entrance import Bars, Window
from producers.history.times import show
from producers.webhooks.app import FRAMES, MARKET, Webhooks
from producers.webhooks.signature import EVENT_ID, SIGNATURE, TIMESTAMP, sign
from schemas import cluster
from schemas.catalogue import (
    CRYPTO_TRADES,
    NEWS,
    NEWS_FRAMES,
    REQUESTS,
    STOCK_BARS,
    STOCK_FRAMES,
    STOCK_QUOTES,
    STOCK_TRADES,
)
from schemas.codec import load_codec
from tests.integration.producer_venues import until
from tests.integration.test_portfolio_service import read_all
from tidewire import kafka
from tidewire.config import Settings
from tidewire.errors import ConfigError
from tidewire.health import Health

pytestmark = pytest.mark.kafka
SECRET = "canary-secret-1234567890"


@pytest.fixture
async def ready(settings: Settings) -> Settings:
    await cluster.apply(settings, (*MARKET, *FRAMES, NEWS, REQUESTS))
    return settings.model_copy(update={"tidewire_webhook_secret": SecretStr(SECRET)})


class Sender:
    """Somebody who knows the secret."""

    def __init__(self, session: ClientSession, service: Webhooks) -> None:
        self._session, self.service = session, service
        self._number = 0

    async def post(
        self, endpoint: str, body: Any, event: str | None = None, **changed: str
    ) -> tuple[int, Any]:
        self._number += 1
        raw = body if isinstance(body, bytes) else orjson.dumps(body)
        stamp = changed.pop("stamp", f"{time.time():.6f}")
        headers = {
            TIMESTAMP: stamp,
            SIGNATURE: sign(stamp, raw, SECRET.encode()),
            EVENT_ID: event or f"{time.time_ns()}",
        }
        url = f"{self.service.url}/webhook/{endpoint}"
        async with self._session.post(url, data=raw, headers=headers | changed) as response:
            return response.status, await response.json()


@asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[Sender]:
    service, stop = Webhooks(settings, start_seconds=10), asyncio.Event()
    task = asyncio.create_task(service.run(Health("webhooks"), stop))
    try:
        await until(lambda: service.url or task.done())
        async with ClientSession() as session:
            yield Sender(session, service)
        assert not task.done(), task.exception()
    finally:
        stop.set()
        await asyncio.wait_for(task, 20)


async def held(settings: Settings, topic: str, partitions: int = 4) -> list[dict[str, Any]]:
    codec = load_codec(settings)
    return [codec.decode(r.value)[1] for r in await read_all(settings, topic, [*range(partitions)])]


def trade(number: int, at: int, symbol: str = "AAPL", **other: Any) -> dict[str, Any]:
    return {"T": "t", "S": symbol, "i": number, "x": "V", "p": 100.5, "s": 3, "c": ["@"], "z": "C",
            "t": show(at), **other}  # fmt: skip


async def test_each_kind_lands_where_the_streams_write_and_a_trade_update_is_a_hint(ready: Settings) -> None:
    """Other senders' events must reach a user's tables; what they say of a trade must not become a fill."""
    now = time.time_ns()
    article = {
        "id": 7,
        "headline": "H",
        "created_at": show(now),
        "updated_at": show(now),
        "symbols": ["AAPL"],
    }
    crypto = {"T": "t", "S": "BTC/USD", "i": 1, "p": 5, "s": 0.5, "tks": "B", "t": show(now)}
    async with running(ready) as sender:
        assert await sender.post("trade-update", {"account": "main", "event": "fill"}) == (
            202,
            {"reconcile": "main"},
        )
        done = {"published": 1, "duplicates": 0, "refused": 0}
        assert await sender.post("news", article) == (202, done)
        assert await sender.post("market-data", [trade(1, now), crypto]) == (202, {**done, "published": 2})
    (request,) = await held(ready, REQUESTS, 1)
    assert (request["kind"], request["target"], request["reason"]) == ("reconcile", "main", "webhook")
    (news,) = await held(ready, NEWS)
    assert (news["id"], news["provider"], news["source"], news["ts"]) == ("7", "webhook", "webhook", now)
    assert [r["source"] for r in await held(ready, STOCK_TRADES)] == ["webhook"]
    assert [r["price"] for r in await held(ready, CRYPTO_TRADES)] == [5.0]


async def test_what_the_log_holds_is_a_duplicate_and_true_repeats_are_kept(ready: Settings) -> None:
    """A trade that came over the socket and by webhook must count once in volumes."""
    now, codec = time.time_ns(), load_codec(ready)
    encoder = Encoder(codec, Window(), Bars(), owner_epoch=1)
    encoder.frame(now)
    streamed = encoder.trade({**trade(1, now), "t": now})
    assert streamed is not None
    async with AIOKafkaProducer(**kafka.client_arguments(ready)) as producer:
        topic = ready.tidewire_topic_prefix + STOCK_TRADES
        await producer.send_and_wait(topic, key=streamed[0], value=streamed[1])
    quote = {"T": "q", "S": "AAPL", "bx": "V", "bp": 1.0, "bs": 1, "ax": "V", "ap": 2.0, "as": 1, "c": ["R"],
             "z": "C", "t": show(now)}  # fmt: skip
    bar = {
        "T": "b",
        "S": "AAPL",
        "o": 1.0,
        "h": 2.0,
        "l": 1.0,
        "c": 2.0,
        "v": 5,
        "n": 2,
        "vw": 1.5,
        "t": show(now),
    }
    async with running(ready) as sender:
        both = [trade(1, now), trade(2, now), quote, quote, bar]
        assert await sender.post("market-data", both) == (
            202,
            {"published": 4, "duplicates": 1, "refused": 0},
        )
        again = {"published": 0, "duplicates": 5, "refused": 0}
        assert await sender.post("market-data", both) == (202, again)
        other = {**bar, "c": 1.5}
        assert (await sender.post("market-data", [other]))[1]["published"] == 1
    assert sorted(r["id"] for r in await held(ready, STOCK_TRADES)) == [1, 2]
    quotes = await held(ready, STOCK_QUOTES)
    assert len({r["event_id"] for r in quotes}) == len(quotes) == 2
    assert [r["revision"] for r in await held(ready, STOCK_BARS)] == [0, 1]


async def test_what_is_no_message_is_kept_and_costs_only_itself(ready: Settings) -> None:
    """A sender's mistake must be found again with its bytes, and its good messages must arrive."""
    now = time.time_ns()
    async with running(ready) as sender:
        mixed = [trade(1, now), trade(2, now, p="dear"), {"T": "zz", "S": "AAPL"}, {"x": 1}]
        assert await sender.post("market-data", mixed) == (
            202,
            {"published": 1, "duplicates": 0, "refused": 3},
        )
        assert (await sender.post("market-data", b"{broken"))[0] == 400
        assert (await sender.post("news", b"[1]"))[0] == 400
        assert (await sender.post("trade-update", b"5"))[0] == 400
    assert len(await read_all(ready, STOCK_TRADES + ".dlq", [*range(4)])) == 1
    letters = [r.value for r in await read_all(ready, STOCK_FRAMES + ".dlq", [*range(4)])]
    assert sorted(letters) == sorted([b"{broken", b'{"T":"zz","S":"AAPL"}', b'{"x":1}'])
    assert [r.value for r in await read_all(ready, NEWS_FRAMES + ".dlq", [*range(4)])] == [b"[1]"]


async def test_a_request_is_taken_once_across_a_restart_and_the_secret_stays_inside(
    ready: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whoever records a request must not be able to play it again, nor learn how to make one."""
    body, now = {"account": "main"}, str(int(time.time()))
    answers = []
    async with running(ready) as sender:
        assert (await sender.post("trade-update", body, "e1", stamp=now))[0] == 202
        answers.append(await sender.post("trade-update", body, "e1", stamp=now))
        answers.append(await sender.post("trade-update", body, "e2", stamp=now))
        answers.append(await sender.post("trade-update", body, "e1"))
        assert [status for status, _ in answers] == [409, 409, 409]
        for changed, status in (({SIGNATURE: "0" * 64}, 401), ({TIMESTAMP: str(int(now) - 9)}, 401)):
            answers.append(await sender.post("trade-update", body, **changed))
            assert answers[-1][0] == status
        answers.append(await sender.post("trade-update", body, stamp=str(int(now) - 302)))
        answers.append(await sender.post("trade-update", body, stamp=str(int(now) + 310)))
        assert [status for status, _ in answers[-2:]] == [401, 401]
        told = dict(sender.service.details())
    assert told["requests"] == {"accepted": 1, "altered": 2, "future": 1, "repeated": 3, "stale": 1}
    async with running(ready) as sender:
        answers.append(await sender.post("trade-update", body, "e1", stamp=now))
        answers.append(await sender.post("trade-update", body, "e3", stamp=now))
        assert [status for status, _ in answers[-2:]] == [409, 409]
    assert len(await held(ready, REQUESTS, 1)) == 1
    out = capsys.readouterr()
    files = b"".join(p.read_bytes() for p in ready.tidewire_home.rglob("*") if p.is_file())
    everything = out.out + out.err + repr(answers) + repr(told) + repr(ready) + generate_latest().decode()
    assert SECRET not in everything
    assert SECRET.encode() not in files


async def test_without_a_secret_nothing_listens_and_a_weak_one_is_refused(settings: Settings) -> None:
    """An endpoint that anybody may write to, or guess the secret of, is worse than none."""
    service, stop = Webhooks(settings), asyncio.Event()
    task = asyncio.create_task(service.run(Health("webhooks"), stop))
    await asyncio.sleep(0)
    assert service.url is None
    stop.set()
    await task
    weak = settings.model_copy(update={"tidewire_webhook_secret": SecretStr("short")})
    with pytest.raises(ConfigError) as refused:
        await Webhooks(weak).run(Health("webhooks"), asyncio.Event())
    assert "short" not in str(refused.value)
