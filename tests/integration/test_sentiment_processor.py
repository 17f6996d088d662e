"""News through the processor on a real Kafka, with a hanging and a raising analyzer beside a good one.

If these fail, one bad analyzer silences all news, or a restart counts articles twice.
"""

from __future__ import annotations

import math
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer

from schemas import cluster
from schemas.catalogue import NEWS, NEWS_SENTIMENT, STOCK_QUOTES, WATCHLIST_SCORES
from schemas.codec import Codec, load_codec
from schemas.event_id import news_id, sentiment_id
from tests.integration.processor_process import NEEDED, PARTITION_OF, PARTITIONS, Feeder, read_all, worker
from tidewire.config import Settings
from tidewire.kafka import client_arguments

pytestmark = pytest.mark.kafka

LEXICON = "processors.sentiment.lexicon:analyze"
HANG, FAIL = "analyzers_under_test:hang", "analyzers_under_test:fail"
ANALYZERS = """
import threading
def hang(article):
    threading.Event().wait()
def fail(article):
    raise ValueError("no model for " + article.symbols[0])
"""
BASE = 1_790_000_000_000_000_000
HOUR = 3_600_000_000_000
HEADLINES = ("{} beats estimates", "{} misses estimates", "{} holds its meeting", "Shares of {} surge 8%")


def article(number: int, revision: int = 0, symbols: tuple[str, ...] | None = None) -> dict[str, Any]:
    ts = BASE + number * HOUR // 4 + revision * HOUR
    if symbols is None:
        symbols = (f"S{number % 5}", "SPY")
    return {
        "id": str(number),
        "provider": "benzinga",
        "ts": ts,
        "revision": ts,
        "created_ts": BASE,
        "headline": HEADLINES[(number + revision) % 4].format(symbols[0] if symbols else "It"),
        "summary": "",
        "content": "",
        "author": "",
        "url": "",
        "symbols": list(symbols),
        "extra": None,
        "received_ts": ts + 5,
        "source": "ws",
        "owner_epoch": 1,
        "event_id": news_id("benzinga", str(number), ts),
    }


@pytest.fixture
def codec(settings: Settings) -> Codec:
    return load_codec(settings)


@pytest.fixture
async def feeder(settings: Settings) -> AsyncIterator[Feeder]:
    await cluster.apply(settings, only=NEEDED)
    client = AIOKafkaProducer(**client_arguments(settings), enable_idempotence=True)
    await client.start()
    yield Feeder(settings, client)
    await client.stop()


def naive_score(records: list[dict[str, Any]], half_life: float) -> tuple[float, int]:
    """Score and number of articles of one symbol, by plain Python."""
    newest: dict[str, dict[str, Any]] = {}
    for record in sorted(records, key=lambda r: r["revision"]):
        newest[record["article_id"]] = record
    now = max(r["ts"] for r in newest.values())
    weighed = [(r["score"], 0.5 ** ((now - r["ts"]) / half_life)) for r in newest.values()]
    return math.fsum(s * w for s, w in weighed) / math.fsum(w for _, w in weighed), len(newest)


async def test_news_is_scored_once_although_analyzers_hang_and_the_worker_is_killed(
    settings: Settings, codec: Codec, feeder: Feeder, tmp_path: Path
) -> None:
    """Good analyzers go on; each article that another one failed on is a dead letter; scores count once."""
    plugins = tmp_path / "plugins"
    plugins.mkdir()
    (plugins / "analyzers_under_test.py").write_text(ANALYZERS)
    environment = {
        "TIDEWIRE_SENTIMENT": f"{LEXICON},{HANG},{FAIL}",
        "TIDEWIRE_SENTIMENT_SECONDS": "0.4",
        "PYTHONPATH": str(plugins),
    }
    news = [article(n) for n in range(30)] + [article(n, revision=1) for n in range(0, 30, 3)]
    lonely = article(99, symbols=())
    values = [(a["id"], codec.encode("news", a)) for a in [*news, lonely]]
    prefix = settings.tidewire_topic_prefix

    def read(health: dict[str, Any]) -> bool:
        lag = health.get("lag", {})
        return {prefix + NEWS, prefix + NEWS_SENTIMENT} <= lag.keys() and not any(lag.values())

    await feeder.send(NEWS, values[:20], size=3)
    with worker(settings, **environment) as running:
        await running.until(lambda h: h.get("tables", {}).get("watchlist_scores", 0) > 1)
        running.process.kill()
        running.process.wait()
    await feeder.send(NEWS, [*values[20:], ("broken", b"no record")], size=7)
    with worker(settings, **environment) as running:
        health = await running.until(lambda h: read(h) and h["tables"]["watchlist_scores"] == 6)
        assert health["analyzers"] == {LEXICON: 0, HANG: 4, FAIL: 0}
        running.process.send_signal(signal.SIGTERM)
        assert running.process.wait(15) == 0

    stored = await read_all(settings, NEWS_SENTIMENT)
    found = {r.value[-8:]: codec.decode(r.value)[1] for r in stored}
    expected = {
        sentiment_id("benzinga", a["id"], a["revision"], symbol, LEXICON)
        for a in news
        for symbol in a["symbols"]
    }
    assert {record["event_id"] for record in found.values()} == expected
    for r in stored:
        assert r.partition == PARTITION_OF(r.key, PARTITIONS, PARTITIONS)
    by_symbol: dict[str, list[dict[str, Any]]] = {}
    for record in found.values():
        by_symbol.setdefault(record["symbol"], []).append(record)
    last = {r.key.decode(): codec.decode(r.value)[1] for r in await read_all(settings, WATCHLIST_SCORES)}
    assert last.keys() == by_symbol.keys()
    for symbol, score in last.items():
        value, articles = naive_score(by_symbol[symbol], 6 * HOUR)
        assert (score["score"], score["articles"]) == (pytest.approx(value, abs=1e-9), articles)
        assert score["half_life_ns"] == 6 * HOUR

    letters = [
        (r.key, r.value, {name: text.decode() for name, text in r.headers})
        for r in await read_all(settings, NEWS + ".dlq")
    ]
    by_stage: dict[str, list[Any]] = {}
    for letter in letters:
        by_stage.setdefault(letter[2]["stage"], []).append(letter)
    every = {value for _, value in values[:-1]}
    assert {value for _, value, _ in by_stage[f"sentiment:{HANG}"]} == every
    assert {value for _, value, _ in by_stage[f"sentiment:{FAIL}"]} == every
    assert {value for _, value, _ in by_stage["sentiment"]} == {b"no record"}
    assert all(
        "ValueError: no model for S" in headers["reason"] for _, _, headers in by_stage[f"sentiment:{FAIL}"]
    )
    reasons = {headers["reason"] for _, _, headers in by_stage[f"sentiment:{HANG}"]}
    assert reasons == {"it took longer than 0.4 s", "not asked: all its 4 threads hang in earlier articles"}


async def test_a_backlog_of_news_before_a_slow_analyzer_does_not_hold_up_the_features(
    settings: Settings, codec: Codec, feeder: Feeder, tmp_path: Path
) -> None:
    """A model that takes its time makes news late; trades and quotes must not wait for it."""
    (tmp_path / "slow_under_test.py").write_text("import time\ndef slow(article):\n    time.sleep(0.5)\n")
    environment = {"TIDEWIRE_SENTIMENT": "slow_under_test:slow", "PYTHONPATH": str(tmp_path)}
    values = [(a["id"], codec.encode("news", a)) for a in map(article, range(1200))]
    await feeder.send(NEWS, values, size=16)
    with worker(settings, **environment) as running:
        await running.until(lambda h: h.get("lag", {}).get(settings.tidewire_topic_prefix + NEWS, 0) > 0)
        quote = {"symbol": "AAPL", "ts": BASE, "bid_price": 1.0, "ask_price": 2.0, "received_ts": BASE}
        sizes = {"bid_exchange": "V", "bid_size": 1, "ask_exchange": "V", "ask_size": 2, "tape": "C"}
        rest: dict[str, Any] = {
            "conditions": [],
            "extra": None,
            "source": "ws",
            "owner_epoch": 1,
            "event_id": b"12345678",
        }
        await feeder.send(STOCK_QUOTES, [("AAPL", codec.encode("stock_quote", quote | sizes | rest))])
        health = await running.until(lambda h: h.get("keys") == 1, seconds=30)
        assert health["lag"][settings.tidewire_topic_prefix + NEWS] > 0


async def test_a_wrong_analyzer_is_told_at_the_start(settings: Settings) -> None:
    """Exit code 2 and the names of both, no traceback."""
    with worker(settings, TIDEWIRE_SENTIMENT="no_such:f,math:pi") as running:
        assert running.process.wait(60) == 2
        text = running.log.read_text()
    assert "no_such:f: there is no module no_such" in text
    assert "math:pi: pi is not callable" in text
    assert "Traceback" not in text
