"""The topics belong to everybody: a client and an Avro decoder that share no code with ours read them all.

confluent-kafka (librdkafka) fetches, the plain `avro` package decodes by the .avsc file alone, and the five
bytes in front are taken apart by hand.
"""

from __future__ import annotations

import io
import json
import time
from itertools import islice
from pathlib import Path
from typing import Any

import avro.io
import avro.schema
import pytest
from aiokafka import AIOKafkaProducer
from confluent_kafka import Consumer, TopicPartition

from schemas import catalogue, cluster, examples
from schemas.catalogue import TOPICS, Topic
from schemas.codec import load_codec
from tidewire import config
from tidewire.config import Settings
from tidewire.kafka import client_arguments

pytestmark = pytest.mark.kafka

CODEC = load_codec(config.load(_env_file=None))
SCHEMAS = Path(__file__).parents[2] / "schemas"
LOCKED = {line["id"]: line for line in json.loads((SCHEMAS / "lock.json").read_text("utf-8"))["schemas"]}
WITH_RECORDS = [topic for topic in TOPICS if topic.schema is not None]
EACH = 40


def _decode(value: bytes, stem: str) -> Any:
    """What any other program would do that knows only Confluent's format and the .avsc file."""
    assert value[0] == 0
    assert LOCKED[int.from_bytes(value[1:5], "big")]["stem"] == stem
    schema = avro.schema.parse((SCHEMAS / f"{stem}.avsc").read_text("utf-8"))
    body = io.BytesIO(value[5:])
    record = avro.io.DatumReader(schema).read(avro.io.BinaryDecoder(body))
    assert body.read() == b""
    return record


@pytest.mark.parametrize("topic", WITH_RECORDS, ids=lambda topic: topic.name)
def test_another_decoder_sees_the_same_record(topic: Topic) -> None:
    """A field that only fastavro understands would lock every user of another language out."""
    assert topic.schema is not None
    for record in islice(examples.records(catalogue.schema(topic.schema)), EACH):
        assert _decode(CODEC.encode(topic.schema, record), topic.schema) == record


@pytest.mark.parametrize("topic", WITH_RECORDS, ids=lambda topic: topic.name)
def test_another_encoder_is_understood(topic: Topic) -> None:
    """A user's own producer, in whatever language, must be able to write records that we read."""
    assert topic.schema is not None
    schema = avro.schema.parse((SCHEMAS / f"{topic.schema}.avsc").read_text("utf-8"))
    for record in islice(examples.records(catalogue.schema(topic.schema), seed=2), EACH):
        body = io.BytesIO()
        avro.io.DatumWriter(schema).write(record, avro.io.BinaryEncoder(body))
        assert CODEC.decode(CODEC.header(topic.schema) + body.getvalue()) == (topic.schema, record)


async def test_another_client_reads_every_topic(settings: Settings) -> None:
    """Every topic through a real broker: key, receive time and record arrive as they were sent."""
    await cluster.apply(settings)
    sent: dict[str, list[tuple[bytes, int, dict[str, Any]]]] = {}
    async with AIOKafkaProducer(
        **client_arguments(settings), acks="all", enable_idempotence=True
    ) as producer:
        futures = []
        for topic in WITH_RECORDS:
            assert topic.schema is not None
            name = settings.tidewire_topic_prefix + topic.name
            for n, record in enumerate(islice(examples.records(catalogue.schema(topic.schema), seed=3), 5)):
                key, ms = f"K{n}".encode(), 1_700_000_000_000 + n
                value = CODEC.encode(topic.schema, record)
                futures.append(await producer.send(name, value, key=key, timestamp_ms=ms))
                sent.setdefault(name, []).append((key, ms, record))
        for future in futures:
            await future
    found = _read_all(settings, {name: len(records) for name, records in sent.items()})
    for name, records in sent.items():
        assert sorted(found[name], key=lambda r: r[0]) == records, name


def _read_all(settings: Settings, counts: dict[str, int]) -> dict[str, list[tuple[bytes, int, Any]]]:
    consumer = Consumer(
        {
            "bootstrap.servers": settings.kafka_bootstrap_servers,
            "group.id": settings.tidewire_topic_prefix + "foreign",
            "enable.auto.commit": False,
        }
    )
    stems = {settings.tidewire_topic_prefix + topic.name: topic.schema for topic in WITH_RECORDS}
    partitions = {
        settings.tidewire_topic_prefix + topic.name: range(1 if topic.single else 4) for topic in WITH_RECORDS
    }
    consumer.assign([TopicPartition(name, number, 0) for name in counts for number in partitions[name]])
    found: dict[str, list[tuple[bytes, int, Any]]] = {name: [] for name in counts}
    missing, deadline = sum(counts.values()), time.monotonic() + 60
    try:
        while missing and time.monotonic() < deadline:
            message = consumer.poll(1.0)
            if message is None:
                continue
            assert message.error() is None, message.error()
            stem = stems[message.topic()]
            assert stem is not None
            assert message.headers() is None
            found[message.topic()].append(
                (message.key(), message.timestamp()[1], _decode(message.value(), stem))
            )
            missing -= 1
    finally:
        consumer.close()
    assert missing == 0, f"{missing} records did not arrive"
    return found
