"""Trades for the comparison: made up, always the same, about 60 bytes each, in Kafka as told."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from itertools import cycle, islice
from typing import Any

import numpy as np
from confluent_kafka import Producer

from producers.publisher import Publisher
from producers.session import Session
from schemas.catalogue import STOCK_TRADES, Catalogue
from schemas.codec import load_codec
from tidewire import config
from tidewire.config import Settings
from tidewire.kafka import bootstrap, client_arguments

DISTINCT = 200_000
"""So many trades are made; more are these again: encoding them would take longer than measuring."""
_START_NS = 1_381_152_600 * 10**9
_STEP_NS = 37_001
_EVERY = 400  # records after which the event loop gets its turn


def trades(count: int, symbols: int) -> Iterator[dict[str, Any]]:
    """Trades of `symbols` symbols in no order, each a random walk in cents; after DISTINCT the same again."""
    return islice(cycle(list(_distinct(min(count, DISTINCT), symbols))), count)


def _distinct(count: int, symbols: int) -> Iterator[dict[str, Any]]:
    rng = np.random.default_rng(symbols)
    names = [f"S{n:04d}" for n in range(symbols)]
    cents = rng.integers(10_000, 90_000, symbols).tolist()
    which = rng.integers(0, symbols, count).tolist()
    steps = rng.integers(-1, 2, count).tolist()
    sizes = rng.choice((1, 40, 100, 283), count).tolist()
    for number, (symbol, step, size) in enumerate(zip(which, steps, sizes, strict=True)):
        cents[symbol] += step
        yield _record(names[symbol], number, cents[symbol] / 100, size)


def _record(symbol: str, number: int, price: float, size: int) -> dict[str, Any]:
    ts = _START_NS + number * _STEP_NS
    return {
        "symbol": symbol, "ts": ts, "id": number, "exchange": "Q", "price": price, "size": size,
        "conditions": ["@", "I"], "tape": "C", "extra": None, "received_ts": ts, "source": "ws",
        "owner_epoch": 1, "event_id": number.to_bytes(8, "big"),
    }  # fmt: skip


def publish(count: int, symbols: int, batch: int | None = None) -> dict[str, float]:
    """Write them: in batches as the producer makes them when it is busy, or of `batch` records each."""
    settings = config.load()
    topic = Catalogue(settings.tidewire_topic_prefix, 4).name(STOCK_TRADES)
    encode, now = load_codec(settings).encoder("stock_trade"), time.time_ns()
    distinct = [
        (trade["symbol"].encode(), encode(trade | {"received_ts": now}), now // 1_000_000)
        for trade in trades(min(count, DISTINCT), symbols)
    ]
    records = islice(cycle(distinct), count)
    if batch is None:
        asyncio.run(_publish(settings, topic, records))
    else:
        _publish_small(settings, topic, records, batch)
    return {"records": count}


Encoded = Iterator[tuple[bytes, bytes, int]]
"""Key, value, timestamp in ms."""


async def _publish(settings: Settings, topic: str, records: Encoded) -> None:
    publisher = Publisher(Session(client_arguments(settings)))
    await publisher.start([topic], [])
    add = publisher.adder(topic)
    for number, record in enumerate(records):
        add(*record)
        if publisher.full:
            await publisher.room()
        elif number % _EVERY == 0:
            await asyncio.sleep(0)
    await publisher.flush()
    await publisher.stop()


def _publish_small(settings: Settings, topic: str, records: Encoded, batch: int) -> None:
    failed: list[str] = []
    producer = Producer(
        {
            "bootstrap.servers": bootstrap(settings),
            "enable.idempotence": True,
            "batch.num.messages": batch,
            "linger.ms": 1000,  # so that each batch is full
            "partitioner": "murmur2_random",
        }
    )
    for number, (key, value, timestamp) in enumerate(records):
        producer.produce(
            topic,
            value,
            key,
            timestamp=timestamp,
            on_delivery=lambda e, _: failed.append(str(e)) if e else None,
        )
        if number % batch == 0:
            producer.poll(1.0 if len(producer) > 50_000 else 0)
    producer.flush()
    if failed:
        raise RuntimeError(f"{len(failed)} records were not written: {failed[0]}")
