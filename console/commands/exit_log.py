"""Exit rules in Kafka for `tidewire exits`: written with all acknowledgements, read whole."""

from __future__ import annotations

import getpass
from collections.abc import Iterable, Mapping
from typing import Any

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError

from schemas import admin
from schemas.catalogue import EXIT_RULES
from schemas.codec import Codec, Record
from schemas.exit_rules import rule_key
from tidewire.config import Settings
from tidewire.errors import RecordError, SchemaError, UnreachableError
from tidewire.kafka import client_arguments, start
from tidewire.placing import partition_of
from verify.topic import consumer, ends, whole


def set_by() -> str:
    """Who sets a rule here, as its record says it."""
    try:
        return f"cli:{getpass.getuser()}"
    except (KeyError, OSError):  # no name for this uid, as in some containers
        return "cli"


async def write(settings: Settings, codec: Codec, rules: Iterable[Record]) -> None:
    """Write rules to the partitions of their accounts; returns once Kafka has acknowledged all.

    Raises:
        SchemaError: there is no such topic.
        UnreachableError: Kafka does not answer, or did not take them: none or some may have been set.
    """
    topic = settings.tidewire_topic_prefix + EXIT_RULES
    async with admin.connect(settings) as cluster:
        found = (await cluster.topics([topic])).get(topic)
    if found is None:
        raise SchemaError(f"no such topic: {topic}. `tidewire topics apply` creates it.")
    producer = AIOKafkaProducer(**client_arguments(settings), acks="all", request_timeout_ms=10_000)
    try:
        await start(producer)
        for rule in rules:
            key = rule_key(rule["account"], rule["symbol"], rule["rule"])
            number = partition_of(rule["account"].encode(), found.partitions)
            value = codec.encode("exit_rule", rule)
            await producer.send_and_wait(topic, value, key=key, partition=number)
    except (KafkaError, OSError) as error:
        raise UnreachableError(f"Kafka did not take the rules: {error!r}. Set them again.") from error
    finally:
        await producer.stop()


async def newest(settings: Settings, codec: Codec, topics: Iterable[str]) -> dict[str, dict[str, Record]]:
    """The last record of every key of compacted topics, by topic and key; deleted ones left out.

    Raises:
        UnreachableError: Kafka does not answer.
    """
    names = {settings.tidewire_topic_prefix + topic: topic for topic in topics}
    stops = await ends(settings, names)
    found: dict[str, dict[str, Record]] = {topic: {} for topic in names.values()}
    async with consumer(settings) as client:
        async for place, records in whole(client, {tp: n for s in stops.values() for tp, n in s.items()}):
            into = found[names[place.topic]]
            for record in records:
                key = (record.key or b"").decode("utf-8", "replace")
                into.pop(key, None)
                if (content := decoded(codec, record.value)) is not None:
                    into[key] = content
    return found


async def last(settings: Settings, codec: Codec, topic: str, count: int) -> list[Record]:
    """The last records of a topic, up to `count` of each partition, by event time.

    Raises:
        UnreachableError: Kafka does not answer.
    """
    name = settings.tidewire_topic_prefix + topic
    stops = (await ends(settings, [name]))[name]
    async with consumer(settings) as client:
        first: Mapping[TopicPartition, int] = await client.beginning_offsets(list(stops)) if stops else {}
        begins = {place: max(first[place], end - count) for place, end in stops.items()}
        values = [r.value async for _, records in whole(client, stops, begins) for r in records]
    found = [content for value in values if (content := decoded(codec, value)) is not None]
    return sorted(found, key=lambda record: (record["ts"], record["received_ts"]))


def decoded(codec: Codec, value: bytes | None) -> dict[str, Any] | None:
    """A record's fields; None: deleted, or no record (its readers have dead-lettered it)."""
    try:
        return None if value is None else codec.decode(value)[1]
    except RecordError:
        return None
