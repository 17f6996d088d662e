"""The exits service on a real Kafka: killed with -9 where it hurts most, held by gates, fed broken records.

If these fail, a stop fires twice, never, on a price that nobody would deal at, or where nobody looks for it.
"""

from __future__ import annotations

import asyncio
import json
import time
import urllib.request
from collections.abc import AsyncIterator, Callable
from decimal import Decimal
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer

from schemas import cluster
from schemas.catalogue import EXIT_WATCH, STOCK_QUOTES
from schemas.codec import Codec, load_codec
from schemas.event_id import trigger_id
from schemas.exit_rules import watch_key
from schemas.order_ids import trigger_name
from tests.integration.exits_world import (
    ACCOUNT,
    BASE,
    NEEDED,
    PROGRAM,
    SECOND,
    Market,
    Outcome,
    a_quote,
    a_watch,
    outcome,
    partition,
)
from tests.integration.processor_process import PARTITIONS, Worker, read_all, worker
from tidewire.config import Settings
from tidewire.kafka import client_arguments

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(180)]

STOP = {"kind": "stop_loss", "price": "95"}
TRAIL = {"kind": "trailing_stop", "trail_percent": "2"}
AN_ANSWER = 8 * 1024**2
"""Bytes of one partition that Kafka answers with at the most."""
DIES_BEFORE_THE_INTENT = (
    "import os, signal\n"
    "from processors.exits.publishing import Publisher\n"
    "async def die(self, fired): os.kill(os.getpid(), signal.SIGKILL)\n"
    "Publisher._order = die\n" + PROGRAM
)
DIES_BEFORE_SENT = (
    "import os, signal\n"
    "from processors.exits.publishing import Publisher\n"
    "async def die(*_): os.kill(os.getpid(), signal.SIGKILL)\n"
    "tell = Publisher._tell\n"
    "Publisher._tell = lambda self, fired, state: (die if state == 'sent' else tell)(self, fired, state)\n"
    + PROGRAM
)


@pytest.fixture
def codec(settings: Settings) -> Codec:
    return load_codec(settings)


@pytest.fixture
async def market(settings: Settings, codec: Codec) -> AsyncIterator[Market]:
    await cluster.apply(settings, only=NEEDED)
    client = AIOKafkaProducer(**client_arguments(settings), enable_idempotence=True)
    await client.start()
    yield Market(settings, codec, client)
    await client.stop()


def ready(health: dict[str, Any]) -> bool:
    return health.get("status") == "healthy" and len(health["partitions"]) == 11


def caught_up(health: dict[str, Any]) -> bool:
    return ready(health) and not any(health["lag"].values())


def published(count: int) -> Callable[[dict[str, Any]], bool]:
    """That many intents by this worker, and nothing that still waits."""
    return lambda health: caught_up(health) and said(health) == (count, 0)


def said(health: dict[str, Any]) -> tuple[int, int]:
    return health["exits"]["published"], health["exits"]["pending"]


def metrics_of(service: Worker) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{service.port}/metrics", timeout=5) as answer:
        return str(answer.read(), "utf-8")


def ids(records: list[dict[str, Any]]) -> list[str]:
    return [record["trigger_id"] for record in records]


async def ended(service: Worker) -> None:
    """It killed itself at its failpoint."""
    assert await asyncio.to_thread(service.process.wait, 60) == -9


async def until(
    settings: Settings, codec: Codec, wanted: Callable[[Outcome], bool], seconds: float = 30
) -> Outcome:
    deadline = time.monotonic() + seconds
    while True:
        found = await outcome(settings, codec)
        if wanted(found):
            return found
        assert time.monotonic() < deadline, (found.triggers, found.events)
        await asyncio.sleep(0.1)


async def test_a_stop_fires_once_past_the_gates(settings: Settings, codec: Codec, market: Market) -> None:
    """Otherwise a crossed quote sells a position, or a real fall sells it twice or in a wrong partition."""
    with worker(settings, PROGRAM) as service:
        await service.until(ready)
        garbage = [b"no record", b"\0", b""]
        for value in garbage:  # nobody watches anything: nothing is looked at
            await market.raw(STOCK_QUOTES, b"AAPL", value, "AAPL")
        await market.quotes([a_quote("MSFT", BASE + 1, 1.0)])
        topic = settings.tidewire_topic_prefix + STOCK_QUOTES
        filtered = f'tidewire_records_skipped_total{{reason="filtered",stage="exits",topic="{topic}"}} 4.0'
        await service.until(lambda health: caught_up(health) and filtered in metrics_of(service))
        text = metrics_of(service)
        assert f'dead_lettered_total{{stage="exits",topic="{topic}"' not in text
        # now somebody does
        await market.watches(a_watch("AAPL", STOP), a_watch("MSFT", STOP, account="demo-2"))
        await service.until(lambda health: caught_up(health) and health["exits"]["watched"] == 2)
        await market.raw(STOCK_QUOTES, b"AAPL", b"no record", "AAPL")
        await market.raw(STOCK_QUOTES, b"IBM", b"no record", "AAPL")
        steady = [a_quote("AAPL", BASE + n * SECOND, 100.0 - n / 10) for n in range(1, 11)]
        crossed = a_quote("AAPL", BASE + 11 * SECOND, 94.0, 93.0)
        await market.quotes([*steady, crossed])
        await until(settings, codec, lambda found: any(e["event"] == "held" for e in found.events))
        fall = [a_quote("AAPL", BASE + n * SECOND, 94.9 - n / 100) for n in range(12, 30)]
        await market.quotes(fall)
        await service.until(published(1))
        await market.quotes([a_quote("AAPL", BASE + n * SECOND, 90.0) for n in range(30, 60)])
        health = await service.until(published(1))
        assert health["exits"]["watched"] >= 1
        assert 'tidewire_exit_triggers_total{kind="stop_loss"} 1.0' in metrics_of(service)
    found = await outcome(settings, codec)
    name = trigger_name(ACCOUNT, "AAPL", 1, 0)
    assert [(t["trigger_id"], t["state"]) for t in found.triggers] == [(name, "pending"), (name, "sent")]
    pending, sent = found.triggers
    assert pending["event_id"] == sent["event_id"] == trigger_id(ACCOUNT, "AAPL", 1, 0)
    assert {r.partition for r in found.raw_triggers} == {partition("AAPL")}
    assert pending["ts"] == fall[0]["ts"]
    assert pending["inputs"][-1]["value"] == fall[0]["bid_price"]
    (intent,) = found.intents
    assert found.raw_intents[0].partition == partition(ACCOUNT)
    assert found.raw_intents[0].key == ACCOUNT.encode()
    assert (intent["intent_id"], intent["trigger_id"], intent["kind"]) == (name, name, "exit")
    assert (intent["side"], intent["quantity"], intent["order_type"]) == ("sell", None, "market")
    assert intent["reference_price"] == Decimal(repr(fall[0]["bid_price"]))
    turns = [(e["event"], e["gate"]) for e in found.events if e["account"] == ACCOUNT]
    assert ("held", "crossed") in turns
    assert ("released", "crossed") in turns
    assert [event for event, _ in turns].count("triggered") == 1
    letters = await read_all(settings, STOCK_QUOTES + ".dlq")
    assert [letter.key for letter in letters] == [b"AAPL"]


@pytest.mark.parametrize("program", [DIES_BEFORE_THE_INTENT, DIES_BEFORE_SENT], ids=["intent", "sent"])
async def test_a_trigger_survives_kill_9(
    settings: Settings, codec: Codec, market: Market, program: str
) -> None:
    """Otherwise a crash between decision and order loses the exit, or forgets how high a price was."""
    watches = a_watch("AAPL", STOP), a_watch("AAPL", TRAIL, account="demo-2")
    with worker(settings, program) as service:
        await service.until(ready)
        await market.watches(*watches)
        await service.until(lambda health: caught_up(health) and health["exits"]["watched"] == 1)
        rise = [a_quote("AAPL", BASE + n * SECOND, 100.0 + n) for n in range(1, 11)]
        back = [a_quote("AAPL", BASE + n * SECOND, 107.9) for n in range(11, 14)]
        await market.quotes([*rise, *back])
        await service.until(caught_up)
        await market.watches(a_watch("MSFT", STOP, account="demo-3"))
        await service.until(lambda health: caught_up(health) and health["exits"]["watched"] == 2)
        await market.quotes([a_quote("MSFT", BASE + n * SECOND, 94.0) for n in range(14, 16)])
        await ended(service)
    before = await outcome(settings, codec)
    assert {t["state"] for t in before.triggers} == {"pending"}
    assert len(before.intents) == (program is DIES_BEFORE_SENT)
    with worker(settings, PROGRAM) as service:
        health = await service.until(published(1))
        assert health["exits"]["recovered"] == 1
        await market.quotes([a_quote("AAPL", BASE + n * SECOND, 107.8) for n in range(17, 19)])
        await service.until(published(2))
    found = await outcome(settings, codec)
    msft, aapl = trigger_name("demo-3", "MSFT", 1, 0), trigger_name("demo-2", "AAPL", 1, 0)
    assert set(ids(found.intents)) == {msft, aapl}
    assert len({bytes(r.value) for r in found.raw_intents}) == 2, "said again, it is the same"
    (trailed,) = [t for t in found.triggers if t["trigger_id"] == aapl and t["state"] == "sent"]
    assert trailed["high_water"] == 110
    assert trailed["threshold"] == Decimal("107.8")
    assert trailed["ts"] == BASE + 17 * SECOND


async def test_rules_that_wait_in_the_log_are_read_before_the_prices_that_followed_them(
    settings: Settings, codec: Codec, market: Market
) -> None:
    """After an outage a trailing stop must know how high its price has been, whatever else was set."""
    others = [s for s in (f"X{n}" for n in range(60)) if partition(s) != partition("AAPL")][:30]
    for symbol in others:  # batches of other partitions, which are handled before that of AAPL's rule
        await market.watches(a_watch(symbol, STOP))
    await market.watches(a_watch("AAPL", STOP))
    await market.watches(a_watch("AAPL", TRAIL, account="demo-2"))
    rise = [a_quote("AAPL", BASE + n * SECOND, 100.0 + n) for n in range(1, 11)]
    await market.quotes([*rise, a_quote("AAPL", BASE + 11 * SECOND, 107.9)])
    with worker(settings, PROGRAM) as service:
        await service.until(lambda health: caught_up(health) and health["exits"]["watched"] == 31)
        await market.quotes([a_quote("AAPL", BASE + n * SECOND, 107.8) for n in (12, 13)])
        await service.until(published(1))
    found = await outcome(settings, codec)
    (trailed,) = [trigger for trigger in found.triggers if trigger["state"] == "sent"]
    assert (trailed["trigger_id"], trailed["high_water"]) == (trigger_name("demo-2", "AAPL", 1, 0), 110)


async def test_a_takeover_reads_all_rules_before_the_prices_that_followed_them(
    settings: Settings, codec: Codec, market: Market
) -> None:
    """Also where rules fill more than one answer of Kafka's, or come from another broker than prices do."""
    topic = settings.tidewire_topic_prefix + EXIT_WATCH
    other = next(s for s in ("IBM", "MSFT", "SPY", "F", "GE", "T") if partition(s) == partition("AAPL"))
    room = {"parameters": json.dumps(STOP) + " " * 50_000}
    changes = [a_watch(other, STOP, BASE + n, account="demo-3") | room for n in range(180)]
    assert sum(len(codec.encode("exit_watch", change)) for change in changes) > AN_ANSWER
    with worker(settings, PROGRAM) as one, worker(settings, PROGRAM) as two:
        shared = [
            await each.until(lambda h: 0 < len(h.get("partitions", {}).get(topic, [])) < len(PARTITIONS))
            for each in (one, two)
        ]
        dying, living = (one, two) if partition("AAPL") in shared[0]["partitions"][topic] else (two, one)
        dying.process.kill()
        await market.watches(*changes)
        await market.watches(a_watch("AAPL", TRAIL, account="demo-2"))
        rise = [a_quote("AAPL", BASE + n * SECOND, 100.0 + n) for n in range(1, 11)]
        await market.quotes([*rise, a_quote("AAPL", BASE + 11 * SECOND, 107.9)])
        await living.until(lambda health: caught_up(health) and health["exits"]["watched"] == 2)
        await market.quotes([a_quote("AAPL", BASE + n * SECOND, 107.8) for n in (12, 13)])
        await living.until(published(1))
    (trigger,) = [each for each in (await outcome(settings, codec)).triggers if each["state"] == "sent"]
    assert (trigger["trigger_id"], trigger["high_water"]) == (trigger_name("demo-2", "AAPL", 1, 0), 110)


async def test_a_watch_in_a_wrong_place_is_refused(settings: Settings, codec: Codec, market: Market) -> None:
    """Otherwise a rule waits beside prices that never come; and a tombstone is no broken record."""
    watch = a_watch("AAPL", STOP)
    wrong = next(s for s in ("IBM", "MSFT", "SPY", "F", "GE") if partition(s) != partition("AAPL"))
    with worker(settings, PROGRAM) as service:
        await service.until(ready)
        value = codec.encode("exit_watch", watch)
        await market.raw(EXIT_WATCH, watch_key(watch), value, wrong)
        await market.raw(EXIT_WATCH, b"AAPL:somebody:AAPL:r1", value, "AAPL")
        await market.watches(watch)
        await service.until(lambda health: caught_up(health) and health["exits"]["watched"] == 1)
        await market.watches(watch | {"active": False, "ts": BASE + SECOND})
        await market.raw(EXIT_WATCH, watch_key(watch), None, "AAPL")
        await service.until(lambda health: caught_up(health) and health["exits"]["watched"] == 0)
        await market.quotes([a_quote("AAPL", BASE + 2 * SECOND, 90.0)])
        await service.until(caught_up)
    assert not (await outcome(settings, codec)).triggers
    letters = await read_all(settings, EXIT_WATCH + ".dlq")
    reasons = sorted(dict(letter.headers)["reason"].decode() for letter in letters)
    assert len(reasons) == 2
    assert "belongs to another partition" in reasons[0]
    assert json.dumps(reasons[1]).startswith('"its key is not AAPL:demo-1')
