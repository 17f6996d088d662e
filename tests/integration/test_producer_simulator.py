"""The producer beside the simulated crypto and news venues: what these publish is in the log, each once."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer

from producers.app import Producer
from schemas import cluster
from schemas.catalogue import CRYPTO_BARS, CRYPTO_ORDERBOOKS, CRYPTO_QUOTES, CRYPTO_TRADES, NEWS
from schemas.codec import load_codec
from schemas.order_book import OrderBook
from simulator.app import Simulator, SimulatorOptions
from tests.integration.producer_venues import metric, until
from tidewire import kafka
from tidewire.config import Settings
from tidewire.health import Health
from verify import ledger

pytestmark = pytest.mark.kafka


async def test_what_the_simulated_venues_publish_is_in_the_log_once(settings: Settings) -> None:
    """Two programs that were written apart must agree on the protocol, or the demo loses data."""
    await cluster.apply(settings)
    symbols = {"tidewire_symbols": ("AAPL",), "tidewire_crypto_symbols": ("*",)}
    wanted = settings.model_copy(update=symbols)
    options = SimulatorOptions(
        crypto_symbols=("BTC/USD", "ETH/USD"),
        crypto_messages_per_second=300,
        crypto_limit=900,
        news_seconds=0.1,
        news_limit=30,
        limit=100,
    )
    simulator = Simulator(wanted, options)
    await simulator.start()
    stop = asyncio.Event()
    url = f"ws://127.0.0.1:{simulator.port}"
    producer = Producer(wanted.model_copy(update={"tidewire_stream_url": url}))
    task = asyncio.create_task(producer.run(Health("producer"), stop))
    try:
        await until(lambda: task.done() or _states(simulator) == {"crypto": "finished", "news": "finished"})
        folder = wanted.tidewire_home / "simulator"
        crypto, news = _sent(folder / "crypto" / "ledger"), _sent(folder / "news" / "ledger")
        received = "tidewire_messages_received_total"
        await until(lambda: metric(received, feed="crypto:us") >= len(crypto))
        await until(lambda: metric(received, feed="news") >= len(news))
    finally:
        stop.set()
        await task
        await simulator.stop()
    trades = await _decoded(wanted, CRYPTO_TRADES)
    assert Counter((t["symbol"], t["id"], t["price"], t["size"], t["taker_side"]) for t in trades) == Counter(
        (m["S"], m["i"], m["p"], m["s"], m["tks"]) for m in crypto if m["T"] == "t"
    )
    quotes = await _decoded(wanted, CRYPTO_QUOTES)
    assert Counter(
        (q["symbol"], q["ts"], q["bid_price"], q["bid_size"], q["ask_price"], q["ask_size"]) for q in quotes
    ) == Counter(
        (m["S"], m["t"].to_unix_nano(), m["bp"], m["bs"], m["ap"], m["as"]) for m in crypto if m["T"] == "q"
    )
    books = await _decoded(wanted, CRYPTO_ORDERBOOKS)
    assert Counter(
        (b["symbol"], b["ts"], b["reset"], len(b["bid_prices"]), len(b["ask_sizes"])) for b in books
    ) == (
        Counter(
            (m["S"], m["t"].to_unix_nano(), m.get("r", False), len(m["b"]), len(m["a"]))
            for m in crypto
            if m["T"] == "o"
        )
    )
    folded: dict[str, OrderBook] = defaultdict(OrderBook)
    assert [
        odd for b in sorted(books, key=lambda b: b["k_offset"]) for odd in folded[b["symbol"]].apply(b)
    ] == []
    assert all(book.whole and book.bids and book.asks for book in folded.values())
    articles = await _decoded(wanted, NEWS)
    assert Counter((a["id"], a["revision"], a["headline"], a["content"]) for a in articles) == Counter(
        (str(m["id"]), m["updated_at"].to_unix_nano(), m["headline"], m["content"]) for m in news
    )
    assert min(len(trades), len(quotes), len(articles), len(books)) > 20
    for records in (trades, quotes, articles, books, await _decoded(wanted, CRYPTO_BARS)):
        assert len({record["event_id"] for record in records}) == len(records)


def _states(simulator: Simulator) -> dict[str, Any]:
    venues: Any = simulator.details()["venues"]
    return {name: venues[name]["state"] for name in ("crypto", "news")}


def _sent(folder: Path) -> list[Any]:
    return [m for path in sorted(folder.glob("*.frames")) for frame in ledger.frames(path) for m in frame]


async def _decoded(settings: Settings, topic: str) -> list[dict[str, Any]]:
    codec = load_codec(settings)
    name = settings.tidewire_topic_prefix + topic
    consumer = AIOKafkaConsumer(name, **kafka.client_arguments(settings), auto_offset_reset="earliest")
    await consumer.start()
    try:
        ends = await consumer.end_offsets(consumer.assignment())
        records: list[dict[str, Any]] = []
        while len(records) < sum(ends.values()):
            for batch in (await consumer.getmany(timeout_ms=500)).values():
                records += [{**codec.decode(r.value)[1], "k_offset": r.offset} for r in batch]
        return records
    finally:
        await consumer.stop()
