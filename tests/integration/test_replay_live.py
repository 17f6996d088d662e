"""A replay never reaches the broker (reliability.md: "Replay reaching live"): every layer alone is enough.

A replay has no keys and its own topics; the executor refuses records that carry a run id, or are too old.
Here one layer after the other is the only one that stands, the others being broken on purpose: 0 POSTs.
If one of these fails, a look at yesterday sells what is held today.
"""

from __future__ import annotations

import subprocess
import sys
import time
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer

from processors.exits.coordinates import Coordinates
from processors.exits.hours import AlwaysOpen
from replay import into
from replay.exits import Exits
from replay.inputs import WATCH, Item
from schemas.catalogue import ORDER_INTENTS, TOPICS, Catalogue
from schemas.codec import load_codec
from schemas.exit_rules import watch_key
from tests.integration.executor_world import (
    ACCOUNT,
    exit_intent,
    final,
    market,
    prepared,
    rows,
    running,
    told,
)
from tests.integration.exits_world import BASE, SECOND, a_quote, a_watch
from tests.integration.topic_content import decoded
from tidewire.config import Settings
from tidewire.errors import ConfigError, TidewireError
from tidewire.kafka import client_arguments
from tidewire.placing import partition_of

RUN = "r-0123456789abcdef"
OWN = "replay.yesterday"


def replayed(symbol: str) -> dict[str, Any]:
    """What a replay writes of a stop that fired in 2013, for the account whose executor runs."""
    exits = Exits(1, AlwaysOpen())
    watch = a_watch(symbol, {"kind": "stop_loss", "price": "95"}, account=ACCOUNT, position_epoch=0)
    exits.fold(Item(WATCH, Coordinates("w", 0, 0), watch, key=watch_key(watch)))
    for number, bid in enumerate((96.0, 95.5, 94.0)):
        quote = a_quote(symbol, BASE + number * SECOND, bid)
        exits.fold(Item("stock_quote", Coordinates("q", 0, number), quote, quote["ts"]))
    (intent,) = into.intents(exits.triggers, RUN)
    return intent


def fresh(intent: dict[str, Any]) -> dict[str, Any]:
    """The layer of age broken: as if its price had come just now."""
    return intent | {"received_ts": time.time_ns(), "ts": time.time_ns(), "source": "ws"}


def nameless(intent: dict[str, Any]) -> dict[str, Any]:
    """The layer of the run id broken."""
    return intent | {"run_id": None}


async def publish(settings: Settings, topic: str, *intents: dict[str, Any]) -> None:
    """With no regard to what a replay may write to: the layer of topics broken."""
    encode, key = load_codec(settings).encoder("order_intent"), ACCOUNT.encode()
    lane = partition_of(key, settings.tidewire_partitions or 1)
    producer = AIOKafkaProducer(**client_arguments(settings))
    await producer.start()
    try:
        for intent in intents:
            name = settings.tidewire_topic_prefix + topic
            await producer.send_and_wait(name, encode(intent), key=key, partition=lane)
    finally:
        await producer.stop()


async def test_each_layer_alone_keeps_a_replay_from_the_broker(settings: Settings, tmp_path: Path) -> None:
    """Topics alone, the run id alone, the age alone; and the executor does order what is live."""
    async with market(tmp_path) as broker:
        own = await prepared(settings, broker, tmp_path)
        codec = load_codec(own)
        await broker.buy("AAPL", "7")
        await broker.buy("MSFT", "3")
        intent = replayed("AAPL")
        async with running(own):
            topic = into.own_topic(OWN, Catalogue(own.tidewire_topic_prefix, 4))
            assert await into.write(own, codec, topic, 4, [intent]) == 1
            await publish(own, OWN, nameless(fresh(intent)))  # topics alone
            await publish(own, ORDER_INTENTS, fresh(intent))  # the run id alone
            assert (await final(own, f"{RUN}/{intent['intent_id']}"))["outcome"] == "replay"
            await publish(own, ORDER_INTENTS, nameless(intent))  # the age alone
            assert (await final(own, intent["intent_id"]))["outcome"] == "stale"
            assert not broker.orders()
            assert rows(own, "SELECT count(*) FROM order_attempts") == [(0,)]
            live = exit_intent("MSFT")
            await publish(own, ORDER_INTENTS, live)
            assert (await final(own, live["intent_id"]))["outcome"] == "filled"
        assert [order.symbol for order in broker.orders()] == ["MSFT"]
        assert (broker.held("AAPL"), broker.held("MSFT")) == (Decimal(7), Decimal(0))
        assert len(await told(own, intent["intent_id"])) == 1
    assert len(await decoded(own, OWN)) == 2


@pytest.mark.parametrize("name", [topic.name for topic in TOPICS] + ["orders.intents.dlq", "replay.", "x"])
def test_a_replay_cannot_write_to_a_topic_of_the_line(name: str) -> None:
    """Its intents would be orders, its prices would be prices."""
    for asked in (name, "p." + name):
        with pytest.raises(ConfigError, match="topics of its own only"):
            into.own_topic(asked, Catalogue("p.", 4))
    assert into.own_topic("replay.a-1", Catalogue("p.", 4)) == "p.replay.a-1"


async def test_nothing_is_written_elsewhere_or_without_a_run_id(settings: Settings) -> None:
    """The last check before Kafka, should a caller have left out the first."""
    codec, intent = load_codec(settings), replayed("AAPL")
    prefix = settings.tidewire_topic_prefix
    with pytest.raises(TidewireError, match="no topic of a replay"):
        await into.write(settings, codec, prefix + ORDER_INTENTS, 4, [intent])
    with pytest.raises(TidewireError, match="run id"):
        await into.write(settings, codec, prefix + OWN, 4, [nameless(intent)])


def test_a_replay_has_no_keys() -> None:
    """Nothing that reads an account's keys, or speaks to a broker, is even loaded."""
    program = (
        "import sys, replay.exit_run, replay.recheck, replay.into, console.commands.replay;"
        "bad = ('sinks', 'producers', 'alpaca', 'tidewire.accounts', 'aiohttp', 'requests');"
        "print([m for m in sys.modules if m.split('.')[0] in bad or m in bad])"
    )
    told = subprocess.run(
        [sys.executable, "-c", program],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert told.stdout.strip() == "[]"
