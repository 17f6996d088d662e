"""A msgpack frame to acknowledged Kafka records, against decoding and Avro encoding alone."""

from __future__ import annotations

import asyncio
import io
import os
import time
from collections.abc import Callable
from typing import Any

import fastavro
import msgpack

from benchmarks import market
from benchmarks.pictured import pictured
from benchmarks.process import sample
from benchmarks.results import Sample, compared
from benchmarks.servers import Servers

MESSAGES = 200_000
_EVERY_FRAMES = 4
"""So often the event loop gets its turn, as it does between frames that come from a socket."""


def measure(servers: Servers, repetitions: int, say: Callable[[str], None]) -> tuple[float, dict[str, float]]:
    """Ratio of records per CPU-second of the process."""
    ours: list[Sample] = []
    reference: list[Sample] = []
    with servers.topics("ingest") as mine:
        for n in range(repetitions):
            say(f"run {n + 1} of {repetitions}")
            ours.append(sample("benchmarks.ingest:publish", {"count": MESSAGES}, mine.env()))
            reference.append(sample("benchmarks.ingest:encode_only", {"count": MESSAGES}, mine.env()))
    return compared(ours, reference)


def cpu_seconds() -> float:
    """User and system time of this process so far."""
    times = os.times()
    return times.user + times.system


def publish(count: int) -> dict[str, float]:
    """Ours: the producer's own path from a frame to Kafka's acknowledgement (acks=all, idempotent)."""
    return asyncio.run(_publish(market.frames(count), count))


async def _publish(frames: list[bytes], count: int) -> dict[str, float]:
    from producers.channel import dead_letters, topics
    from producers.encoder import Encoder
    from producers.entrance import Bars, Window
    from producers.intake import Intake
    from producers.publisher import Publisher
    from producers.session import Session
    from schemas.catalogue import Catalogue
    from schemas.codec import load_codec
    from tidewire import config
    from tidewire.kafka import client_arguments

    settings = config.load()
    name = Catalogue(settings.tidewire_topic_prefix, 1).name
    publisher = Publisher(Session(client_arguments(settings)))
    encoder = Encoder(load_codec(settings), Window(), Bars(), owner_epoch=1)
    await publisher.start(map(name, topics(encoder)), map(name, dead_letters(encoder)))
    intake = Intake("iex", encoder, publisher, name)
    with pictured():
        cpu, wall = cpu_seconds(), time.perf_counter()
        for number, frame in enumerate(frames):
            intake.frame(frame, time.time_ns())
            if publisher.full:
                await publisher.room()
            elif number % _EVERY_FRAMES == 0:
                await asyncio.sleep(0)
        await publisher.flush()
    answer = {"records": count, "wall": time.perf_counter() - wall, "cpu": cpu_seconds() - cpu}
    await publisher.stop()
    return answer


def encode_only(count: int) -> dict[str, float]:
    """The reference: msgpack to dicts, dicts to records, records to Avro by fastavro. No ids, no Kafka."""
    from schemas.catalogue import schema

    trade, quote = fastavro.parse_schema(schema("stock_trade")), fastavro.parse_schema(schema("stock_quote"))
    frames = market.frames(count)
    write, out = fastavro.schemaless_writer, io.BytesIO()
    cpu, wall, size = cpu_seconds(), time.perf_counter(), 0
    for frame in frames:
        received = time.time_ns()
        for m in msgpack.unpackb(frame, timestamp=2):
            out.seek(0)
            out.truncate()
            if m["T"] == "t":
                write(out, trade, trade_record(m, received))
            else:
                write(out, quote, quote_record(m, received))
            size += len(out.getvalue())
    answer = {"records": count, "wall": time.perf_counter() - wall, "cpu": cpu_seconds() - cpu}
    assert size > 50 * count, "the encoder has done its work"
    return answer


def trade_record(m: dict[str, Any], received: int) -> dict[str, Any]:
    """A trade's message as its record."""
    return {
        "symbol": m["S"], "ts": m["t"], "id": m["i"], "exchange": m["x"], "price": m["p"],
        "size": m["s"], "conditions": m["c"], "tape": m["z"], "extra": None, "received_ts": received,
        "source": "ws", "owner_epoch": 1, "event_id": b"\0" * 8,
    }  # fmt: skip


def quote_record(m: dict[str, Any], received: int) -> dict[str, Any]:
    """A quote's message as its record."""
    return {
        "symbol": m["S"], "ts": m["t"], "bid_exchange": m["bx"], "bid_price": m["bp"],
        "bid_size": m["bs"], "ask_exchange": m["ax"], "ask_price": m["ap"], "ask_size": m["as"],
        "conditions": m["c"], "tape": m["z"], "extra": None, "received_ts": received, "source": "ws",
        "owner_epoch": 1, "event_id": b"\0" * 8,
    }  # fmt: skip
