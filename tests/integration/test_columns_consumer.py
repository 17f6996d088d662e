"""Blocks of real Kafka, whole and record by record: if these fail, an aiokafka upgrade changes results."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from confluent_kafka.admin import AdminClient, NewTopic
from faust.types import TP

from processors.columns.fetching import Readable
from schemas.catalogue import schema
from tests.unit.columns_batches import encode

pytestmark = pytest.mark.kafka

CURRENT, FORMER, UNKNOWN = 7, 6, 5
RECORDS = 300
START = 33
"""The read begins inside a record batch."""

READ = """
import asyncio, json, logging, sys
import aiokafka
version, bootstrap, topic, start, end = *sys.argv[1:4], int(sys.argv[4]), int(sys.argv[5])
logging.basicConfig(stream=sys.stderr, format="%(message)s")
if version:
    aiokafka.__version__ = version
from aiokafka import AIOKafkaConsumer, TopicPartition
from schemas.catalogue import schema
from schemas.codec import Version
from tidewire.columns import Block, Decoder, as_blocks, read_blocks

async def main():
    read_blocks([topic])
    current = schema("stock_trade")
    former = {**current, "fields": [f for f in current["fields"] if f["name"] != "extra"]}
    current = {**current, "fields": [
        {**f, "default": None} if f["name"] == "extra" else f for f in current["fields"]
    ]}
    decoder = Decoder([Version(7, "stock_trade", current), Version(6, "stock_trade", former)])
    tp = TopicPartition(topic, 0)
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, enable_auto_commit=False)
    await consumer.start()
    consumer.assign([tp])
    consumer.seek(tp, start)
    rows, offsets, refused, kinds, blocks_read, after = [], [], [], set(), 0, start
    while after < end:
        values = (await consumer.getmany(tp, timeout_ms=5000)).get(tp, [])
        kinds |= {type(value).__name__ for value in values}
        blocks = as_blocks(values)
        decoded = decoder(blocks)
        blocks_read += len(blocks)
        after = blocks[-1].last + 1 if blocks else after
        rows += [str(row) for row in decoded.frame.rows()]
        offsets += decoded.offsets.tolist()
        refused += [(r.offset, r.reason, None if r.value is None else r.value.hex()) for r in decoded.refused]
    await consumer.stop()
    print(json.dumps({
        "rows": rows, "offsets": offsets, "refused": refused, "kinds": sorted(kinds), "blocks": blocks_read
    }))

asyncio.run(main())
"""


def _trade(number: int) -> dict[str, Any]:
    fields = {"symbol": "AAPL", "ts": 10**18 + number, "id": number, "exchange": "V", "price": number / 4}
    more = {"size": 100, "conditions": ["@", "I"][: number % 3], "tape": "C", "received_ts": 10**18}
    rest = {"extra": None if number % 2 else "{}", "source": "ws", "owner_epoch": 1, "event_id": b"12345678"}
    return fields | more | rest


def _value(number: int) -> bytes | None:
    """Mostly a trade; a former version in the second third; now and then no record at all."""
    if number % 50 == 49:
        return [None, b"{}", encode(schema("stock_trade"), _trade(number), UNKNOWN)][number // 50 % 3]
    if RECORDS // 3 <= number < 2 * RECORDS // 3:
        fields = [f for f in schema("stock_trade")["fields"] if f["name"] != "extra"]
        return encode({**schema("stock_trade"), "fields": fields}, _trade(number), FORMER)
    return encode(schema("stock_trade"), _trade(number), CURRENT)


async def _fill(bootstrap: str, topic: str, compression: str | None) -> None:
    """The records in batches of sixty."""
    admin = AdminClient({"bootstrap.servers": bootstrap})
    admin.create_topics([NewTopic(topic, 1, 1)])[topic].result()
    async with AIOKafkaProducer(
        bootstrap_servers=bootstrap, compression_type=compression, linger_ms=5
    ) as producer:
        for begin in range(0, RECORDS, 60):
            batch = producer.create_batch()
            for number in range(begin, begin + 60):
                assert batch.append(key=b"AAPL", value=_value(number), timestamp=1_700_000_000_000 + number)
            await (await producer.send_batch(batch, topic, partition=0))


def _read(bootstrap: str, topic: str, version: str) -> tuple[dict[str, Any], str]:
    """What a consumer of its own process decodes, and what it logs."""
    done = subprocess.run(
        [sys.executable, "-c", READ, version, bootstrap, topic, str(START), str(RECORDS)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), done.stderr


@pytest.mark.parametrize("compression", [None, "lz4", "zstd"])
async def test_another_aiokafka_gives_the_same_columns_and_says_so(
    kafka_bootstrap: str, topic_prefix: str, compression: str | None
) -> None:
    """Compressed by a real producer, read from inside a batch, with former versions and poison between."""
    topic = f"{topic_prefix}columns"
    await _fill(kafka_bootstrap, topic, compression)
    whole, said = _read(kafka_bootstrap, topic, "")
    assert whole["kinds"] == ["Block"]
    assert whole["blocks"] == RECORDS // 60
    assert "record by record" not in said
    poison = [number for number in range(START, RECORDS) if number % 50 == 49]
    assert whole["offsets"] == [number for number in range(START, RECORDS) if number not in poison]
    assert [offset for offset, _, _ in whole["refused"]] == poison
    single, said = _read(kafka_bootstrap, topic, "9.9.9")
    assert single["kinds"] == ["ConsumerRecord"]
    assert (
        "aiokafka 9.9.9 is not the 0.14.x that whole batches are read from: reading record by record" in said
    )
    for what in ("rows", "offsets", "refused"):
        assert single[what] == whole[what]


async def test_a_fetch_that_waits_takes_nothing_of_what_is_paused_meanwhile(
    kafka_bootstrap: str, topic_prefix: str
) -> None:
    """A worker stands by for a changelog whose first rows it never got, and serves without them one day."""
    topic = f"{topic_prefix}paused"
    admin = AdminClient({"bootstrap.servers": kafka_bootstrap})
    admin.create_topics([NewTopic(topic, 2, 1)])[topic].result()
    recovered, standby = TP(topic, 0), TP(topic, 1)
    async with (
        AIOKafkaProducer(bootstrap_servers=kafka_bootstrap) as producer,
        AIOKafkaConsumer(bootstrap_servers=kafka_bootstrap, enable_auto_commit=False) as consumer,
    ):
        await producer.send_and_wait(topic, b"row", partition=standby.partition)
        consumer.assign([recovered, standby])
        await consumer.seek_to_beginning()
        active = {recovered}
        fetcher = consumer._fetcher
        waiting = asyncio.create_task(fetcher.fetched_records(Readable(active, set()), timeout=2))
        async with asyncio.timeout(30):
            while standby not in fetcher._records:  # it has come, and nobody is to have it yet
                await asyncio.sleep(0.01)
        active.clear()
        await producer.send_and_wait(topic, b"wake up", partition=recovered.partition)
        assert await waiting == {}
        assert await consumer.position(standby) == 0
        active.add(standby)
        found = await fetcher.fetched_records(Readable(active, set()), timeout=10)
        assert [record.value for record in found[standby]] == [b"row"]
