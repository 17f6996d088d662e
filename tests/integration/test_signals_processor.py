"""Signals through the processor on a real Kafka, with a kill -9 amid the trades."""

from __future__ import annotations

import asyncio
import signal
from typing import Any

import orjson
import pytest
from aiokafka import AIOKafkaProducer

from processors.app import Processor
from schemas import cluster
from schemas.catalogue import NEWS_SENTIMENT, SIGNALS, STOCK_TRADES
from schemas.codec import load_codec
from schemas.event_id import sentiment_id
from tests.integration.processor_process import NEEDED, Feeder, read_all, worker
from tests.unit.test_signals import an_article, calm, fold, trade
from tidewire.config import Settings
from tidewire.kafka import client_arguments

pytestmark = pytest.mark.kafka

LEXICON = "processors.sentiment.lexicon:analyze"
CRASHING, RISING, CALM = "CRSH", "RISE", "CALM"


def a_trade(symbol: str, number: int, one: Any, conditions: tuple[str, ...] = ("@",)) -> dict[str, Any]:
    return {
        "symbol": symbol, "ts": one.ts, "id": number, "exchange": "V", "price": one.price / 1e6,
        "size": one.size // 10**6, "conditions": list(conditions), "tape": "C", "extra": None,
        "received_ts": one.received_ts, "source": "ws", "owner_epoch": 1, "event_id": bytes(8),
    }  # fmt: skip


def a_score(symbol: str, article: Any, analyzer: str) -> dict[str, Any]:
    return {
        "symbol": symbol, "ts": article.ts, "provider": "benzinga", "article_id": article.name,
        "revision": article.ts, "analyzer": analyzer, "score": article.score / 1000, "confidence": 1.0,
        "detail": None, "received_ts": article.received_ts, "source": "ws",
        "event_id": sentiment_id("benzinga", article.name, article.ts, symbol, analyzer),
    }  # fmt: skip


async def test_signals_are_those_of_one_plain_fold_although_the_worker_is_killed(settings: Settings) -> None:
    """An exit that waits for a signal must get it, once and the same, whatever happened to the worker."""
    codec = load_codec(settings)
    await cluster.apply(settings, only=(*NEEDED, SIGNALS))
    crash = [*calm(), *[trade(661 + n, 97.0 - n / 10) for n in range(9)]]
    rise = [*calm(), *[trade(661 + 5 * n, 100 + n / 4) for n in range(30)]]
    quiet = [*calm(), *[trade(661 + 5 * n, 100) for n in range(30)]]
    good = an_article(660, 0.8)
    rows = [(one.ts, symbol, n, one) for symbol, those in ((CRASHING, crash), (RISING, rise), (CALM, quiet))
            for n, one in enumerate(those)]  # fmt: skip
    rows.sort(key=lambda row: row[0])
    values = [(s, codec.encode("stock_trade", a_trade(s, n, one))) for _, s, n, one in rows]
    odd = [
        (CALM, codec.encode("stock_trade", a_trade(CALM, 999, trade(830 + n, 50), ("@", "I"))))
        for n in range(5)
    ]
    scores = [
        (symbol, codec.encode("news_sentiment", a_score(symbol, good, analyzer)))
        for symbol, analyzer in ((RISING, LEXICON), (CALM, LEXICON), (CRASHING, "other:analyzer"))
    ]
    client = AIOKafkaProducer(**client_arguments(settings), enable_idempotence=True)
    await client.start()
    feeder = Feeder(settings, client)
    trades, sentiment = (settings.tidewire_topic_prefix + t for t in (STOCK_TRADES, NEWS_SENTIMENT))

    def read(health: dict[str, Any]) -> bool:
        lag = health.get("signals", {}).get("lag", {})
        return {trades, sentiment} <= lag.keys() and not any(lag.values())

    def known(health: dict[str, Any]) -> bool:
        return bool(health.get("signals", {}).get("tables", {}).get("signals", 0) >= 2)

    try:
        await feeder.send(STOCK_TRADES, values[:400], size=9)
        with worker(settings, TIDEWIRE_SIGNALS="true") as running:
            await running.until(known)
            await feeder.send(STOCK_TRADES, values[400:420], size=3)
            running.process.kill()
            running.process.wait()
        await feeder.send(STOCK_TRADES, [*values[420:], *odd], size=7)
        with worker(settings, TIDEWIRE_SIGNALS="true") as running:
            await running.until(lambda h: read(h) and h["signals"]["tables"]["signals"] == 3)
            await feeder.send(NEWS_SENTIMENT, [*scores, (CALM, b"no record")])
            await running.until(lambda h: _offsets(h) and read(h))
            found = [codec.decode(r.value) for r in await read_all(settings, SIGNALS)]
            async with asyncio.timeout(60):  # the scores' own lag may be seen before they were
                while len({r["event_id"] for _, r in found}) < 2:
                    found = [codec.decode(r.value) for r in await read_all(settings, SIGNALS)]
            running.process.send_signal(signal.SIGTERM)
            assert running.process.wait(15) == 0
    finally:
        await client.stop()
    told = {record["event_id"]: record for _, record in found}
    assert {(r["symbol"], r["kind"]) for r in told.values()} == {
        (CRASHING, "flash_crash"),
        (RISING, "news_spike"),
    }
    (crashed,) = [r for r in told.values() if r["symbol"] == CRASHING]
    (expected,) = fold(crash, [])
    same = ("ts", "value", "threshold", "window_ns", "detail", "received_ts")
    assert {name: crashed[name] for name in same} == {name: expected[name] for name in same}
    (risen,) = [r for r in told.values() if r["symbol"] == RISING]
    (expected,) = fold(rise, [(0, good)])
    numbers = [orjson.loads(r["detail"]) | {"article": ""} for r in (risen, expected)]
    assert numbers[0] == numbers[1]


def _offsets(health: dict[str, Any]) -> bool:
    return not any(health.get("lag", {"": 1}).values())


def test_without_the_setting_there_is_no_second_app(settings: Settings) -> None:
    """Nobody pays for signals that he has not asked for."""
    assert Processor(settings)._signals is None
