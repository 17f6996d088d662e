"""A pure fold over a topic's log, without Faust: the base of replay. Trades; fetch, CRC, decoding and fold.

The goal is for ten accumulators a symbol (accumulators.py); the features that the processor really keeps are
beside it. So is aiokafka's fetch alone, which tells how fast the machine is at this hour: the goal was set on
one where that makes 540,000 to 620,000 records per CPU-second.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Iterator, Sequence
from statistics import median
from typing import Any

import uvloop

from benchmarks.ingest import cpu_seconds
from benchmarks.market import START_NS, SYMBOLS
from benchmarks.process import sample, side
from benchmarks.results import Sample, rates
from benchmarks.servers import Servers

RECORDS = 2_000_000
_FETCHED = 400_000
"""Records of a run of the fetch alone."""
_BATCH = 500
"""Records of a batch, as a producer under load writes them."""


def measure(servers: Servers, repetitions: int, say: Callable[[str], None]) -> tuple[float, dict[str, float]]:
    """Records per CPU-second of the process, with the ten accumulators; start-up is left out."""
    ten: list[Sample] = []
    features: list[Sample] = []
    fetch: list[Sample] = []
    with servers.topics("fold") as mine:
        say(f"filling the topic with {RECORDS:,} trades")
        size = side("benchmarks.fold:fill", {"count": RECORDS}, mine.env())["bytes"]
        for n in range(repetitions):
            say(f"run {n + 1} of {repetitions}")
            ten.append(sample("benchmarks.fold:accumulated", {}, mine.env()))
            features.append(sample("benchmarks.fold:real", {}, mine.env()))
            fetch.append(sample("benchmarks.peers.fetch:run", {"count": _FETCHED}, mine.env()))
    details = rates("ten", ten) | rates("features", features) | rates("fetch_alone", fetch)
    details["times_fetch_alone"] = round(details["ten_per_cpu_s"] / details["fetch_alone_per_cpu_s"], 2)
    return median(s.records / s.cpu for s in ten), details | {"bytes_a_record": round(size / RECORDS)}


def fill(count: int) -> dict[str, float]:
    """Trades of 100 symbols in the producer's own encoding."""
    return {"records": count, "bytes": asyncio.run(_fill(count))}


async def _fill(count: int) -> int:
    from aiokafka import AIOKafkaProducer
    from aiokafka.partitioner import DefaultPartitioner

    from schemas.catalogue import STOCK_TRADES
    from tidewire import config
    from tidewire.kafka import client_arguments

    settings = config.load()
    topic = settings.tidewire_topic_prefix + STOCK_TRADES
    producer = AIOKafkaProducer(**client_arguments(settings), max_batch_size=1 << 20)
    await producer.start()
    lanes: dict[int, Any] = {}
    place = DefaultPartitioner()
    where = {symbol.encode(): place(symbol.encode(), [0, 1, 2, 3], [0, 1, 2, 3]) for symbol in SYMBOLS}
    size = 0
    for key, value in _trades(count):
        size += len(key) + len(value)
        partition = where[key]
        batch = lanes.setdefault(partition, producer.create_batch())
        batch.append(key=key, value=value, timestamp=None)
        if batch.record_count() == _BATCH:
            await producer.send_batch(lanes.pop(partition), topic, partition=partition)
    for partition, batch in lanes.items():
        await producer.send_batch(batch, topic, partition=partition)
    await producer.flush()
    await producer.stop()
    return size


def _trades(count: int) -> Iterator[tuple[bytes, bytes]]:
    from producers.encoder import Encoder
    from producers.entrance import Bars, Window
    from schemas.codec import load_codec
    from tidewire import config

    chance = random.Random(1)
    encoder = Encoder(load_codec(config.load()), Window(), Bars(), owner_epoch=START_NS // 10**9)
    for n in range(count):
        if n % 100 == 0:
            encoder.frame(START_NS + n * 37_001 + 2_000_000)
        record = encoder.trade(
            {
                "T": "t", "S": chance.choice(SYMBOLS), "i": n, "x": chance.choice("PQDZ"),
                "p": chance.randrange(10_000, 900_000) / 100, "s": chance.choice((1, 100, 283)),
                "c": ["@", "I"], "z": "C", "t": START_NS + n * 37_001,
            }
        )  # fmt: skip
        assert record is not None, "every trade has an id of its own"
        yield record


def accumulated() -> dict[str, float]:
    """The ten accumulators of accumulators.py."""
    from benchmarks import accumulators
    from processors.features.folded import Folded

    def add(matrix: Any, frame: Any, offsets: Any) -> Folded:
        return Folded(offsets[:0], accumulators.fold(matrix, frame, offsets), 0)

    return uvloop.run(_fold(accumulators.COLUMNS, lambda _: {}, add))


def real() -> dict[str, float]:
    """The processor's features of trades."""
    from processors.features import trades
    from processors.features.native.folding import native_trades

    return uvloop.run(_fold(trades.COLUMNS, trades.refusals, trades.fold, native_trades()))


async def _fold(columns: Sequence[str], refusals: Any, add: Any, natively: Any = None) -> dict[str, float]:
    from replay.fold import Component, Table, fold
    from replay.log import read, spans
    from replay.stocks import WIDTH
    from schemas.catalogue import STOCK_TRADES
    from schemas.codec import load_codec
    from tidewire import config
    from tidewire.columns import Decoder

    settings = config.load()
    topic = settings.tidewire_topic_prefix + STOCK_TRADES
    wanted_columns = list(dict.fromkeys((*columns, "source", "owner_epoch")))  # these tell a stale owner's
    decode = Decoder(load_codec(settings).versions("stock_trade"), columns=wanted_columns)
    component = Component(topic, decode, refusals, add, natively)
    wanted = await spans(settings, [topic])
    cpu, wall = cpu_seconds(), time.perf_counter()
    table: Table = await fold(read(settings, wanted), {topic: component}, WIDTH)
    answer = {"records": table.applied, "wall": time.perf_counter() - wall, "cpu": cpu_seconds() - cpu}
    assert table.applied == sum(span.records for span in wanted.values())
    return answer
