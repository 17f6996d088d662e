"""`tidewire exits explain|events|list` against what stands in Kafka.

If these fail, nobody can say why an exit fired, or is told that it was right when the log says otherwise.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer

from console.cli import run
from processors.columns.records import Records
from processors.exits.fold import VERSION, Coordinates, PartitionExits
from schemas import cluster
from schemas.catalogue import EXIT_EVENTS, EXIT_RULES, EXIT_TRIGGERS, EXIT_WATCH, STOCK_QUOTES
from schemas.codec import Codec, load_codec
from tests.exits_market import NOON, SECOND, Weekdays, a_watch
from tests.integration.gateway_world import filled
from tidewire.config import Settings
from tidewire.kafka import client_arguments

pytestmark = pytest.mark.kafka

TOPICS = [STOCK_QUOTES, EXIT_TRIGGERS, EXIT_EVENTS, EXIT_RULES, EXIT_WATCH]


@pytest.fixture
def codec(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Codec:
    path = settings.tidewire_home / "accounts.toml"
    path.write_text('[accounts.a]\nusers = ["anna"]\n')
    monkeypatch.setenv("TIDEWIRE_ACCOUNTS_FILE", str(path))
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", settings.kafka_bootstrap_servers or "")
    monkeypatch.setenv("TIDEWIRE_TOPIC_PREFIX", settings.tidewire_topic_prefix)
    monkeypatch.setenv("TIDEWIRE_HOME", str(settings.tidewire_home))
    return load_codec(settings)


@pytest.fixture
async def producer(settings: Settings) -> AsyncIterator[AIOKafkaProducer]:
    await cluster.apply(settings, only=TOPICS)
    client = AIOKafkaProducer(**client_arguments(settings))
    await client.start()
    yield client
    await client.stop()


class Exits:
    """Quotes into Kafka and, with the place that they got there, into a fold."""

    def __init__(self, settings: Settings, codec: Codec, producer: AIOKafkaProducer) -> None:
        self._prefix, self._codec, self._producer = settings.tidewire_topic_prefix, codec, producer
        self.fold = PartitionExits(Records(VERSION), Weekdays())

    async def send(self, topic: str, stem: str, key: str, record: dict[str, Any]) -> Coordinates:
        value = self._codec.encode(stem, record)
        sent = await self._producer.send_and_wait(self._prefix + topic, value, key=key.encode())
        return Coordinates(sent.topic, sent.partition, sent.offset)

    async def quote(self, bid: float, ts: int) -> None:
        quote = {"symbol": "AAPL", "ts": ts, "bid_price": bid, "ask_price": bid + 0.02, "received_ts": ts + 7}
        at = await self.send(STOCK_QUOTES, "stock_quote", "AAPL", filled("stock_quote", quote))
        self.fold.quote("AAPL", bid, bid + 0.02, 1, 1, (), ts, ts + 7, at)


async def tidewire(*arguments: str) -> int:
    return await asyncio.to_thread(run, list(arguments))


async def test_a_trigger_is_explained_from_the_log_and_a_false_one_is_not_believed(
    settings: Settings, codec: Codec, producer: AIOKafkaProducer, capsys: Any
) -> None:
    """The quote that crossed the stop is looked up; another value there is an error, and so is no trigger."""
    exits = Exits(settings, codec, producer)
    watch = a_watch(held=None)
    await exits.send(EXIT_WATCH, "exit_watch", "AAPL:a:AAPL:r", watch)
    exits.fold.watch(watch, Coordinates("w", 0, 0))
    for number in range(5):
        await exits.quote(96.0 + number / 100, NOON + number * SECOND)
    await exits.quote(94.9, NOON + 5 * SECOND)
    outcome = exits.fold.take()
    (trigger,) = outcome.triggers
    true = trigger["trigger_id"]
    assert true == "a:AAPL:1:0"
    await exits.send(EXIT_TRIGGERS, "exit_trigger", "a:AAPL", trigger)
    one = trigger["inputs"][0]
    false = {**trigger, "trigger_id": "a:AAPL:1:1", "inputs": [{**one, "value": 94.8}]}
    old = {**trigger, "trigger_id": "a:AAPL:1:2", "inputs": [{**one, "topic": "gone", "offset": 3}]}
    for record in (false, old):
        await exits.send(EXIT_TRIGGERS, "exit_trigger", "a:AAPL", record)
    for event in outcome.events:
        await exits.send(EXIT_EVENTS, "exit_event", "a:AAPL", event)

    assert await tidewire("exits", "explain", true, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["fires"]
    assert [i["found"] for i in told["inputs"]] == ["same"] * len(told["inputs"])
    assert await tidewire("exits", "explain", true) == 0
    text = capsys.readouterr().out
    assert "94.9" in text
    assert "fires" in text
    assert await tidewire("exits", "explain", "a:AAPL:1:1") == 1
    assert "other values than the trigger names" in capsys.readouterr().err
    assert await tidewire("exits", "explain", "a:AAPL:1:2", "--json") == 1
    assert json.loads(capsys.readouterr().out)["inputs"][0]["found"] == "no such topic"
    assert await tidewire("exits", "explain", "a:AAPL:9:9") == 2
    assert "no trigger a:AAPL:9:9" in capsys.readouterr().err

    assert await tidewire("exits", "events", "a", "aapl", "--json") == 0
    events = json.loads(capsys.readouterr().out)
    assert [e["event"] for e in events] == [e["event"] for e in outcome.events]
    assert "triggered" in [e["event"] for e in events]
    assert await tidewire("exits", "events", "--last", "1") == 0
    assert "AAPL" in capsys.readouterr().out
    assert await tidewire("exits", "events", "b") == 0
    assert "no events yet" in capsys.readouterr().out
    assert await tidewire("exits", "remove", "a", "AAPL") == 2
    assert "no rules on AAPL of a" in capsys.readouterr().err
    assert await tidewire("exits", "list") == 0
    assert "no exit rules" in capsys.readouterr().out
