"""The way out of a replay: topics of its own, and records that say whose run they are.

Nothing here can reach a broker: a replay has no keys, its topics are read by no service, its records carry a
run id, which the executor refuses, and their prices were received long ago, which it refuses as well.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from processors.exits.intents import intent_of
from schemas import admin
from schemas.catalogue import DAY_MS, Catalogue
from schemas.codec import Codec, Record
from tidewire.config import Settings
from tidewire.errors import ConfigError, TidewireError, UnreachableError
from tidewire.kafka import client_arguments, start
from tidewire.placing import partition_of

PREFIX = "replay."
"""Every topic that a replay may write to begins so, behind the installation's own prefix."""
_NAME = re.compile(r"replay\.[a-z0-9][a-z0-9._-]{0,99}")
_RETENTION_MS = 7 * DAY_MS


def own_topic(asked: str, catalogue: Catalogue) -> str:
    """The real name of a topic that is a replay's own.

    Raises:
        ConfigError: it is not, or cannot be a topic.
    """
    name = asked.removeprefix(catalogue.prefix)
    if not _NAME.fullmatch(name) or catalogue.find(catalogue.name(name)) is not None:
        raise ConfigError(
            [
                f"--into {asked}: a replay writes to topics of its own only: {PREFIX} and then up to 100 of"
                " a-z 0-9 . _ -"
            ]
        )
    return catalogue.name(name)


def intents(triggers: Iterable[Record], run_id: str) -> list[Record]:
    """What would have been ordered, as order_intent records that no executor takes.

    Raises:
        TidewireError: a rule says of its order what cannot be read.
    """
    found = []
    for trigger in triggers:
        try:
            found.append({**intent_of(trigger), "run_id": run_id, "source": "replay"})
        except (ValueError, KeyError) as error:
            raise TidewireError(f"no order can be made of {trigger['trigger_id']}: {error!r}") from error
    return found


async def write(
    settings: Settings, codec: Codec, topic: str, partitions: int, records: Iterable[Record]
) -> int:
    """Write intents of a replay to its topic, which is made where it is missing; returns how many.

    Raises:
        UnreachableError: Kafka does not answer, or did not take them all.
        TidewireError: the topic is no replay's, or a record carries no run id.
    """
    records = list(records)
    if not topic.removeprefix(settings.tidewire_topic_prefix).startswith(PREFIX):
        raise TidewireError(f"{topic} is no topic of a replay")
    if any(not record["run_id"] for record in records):
        raise TidewireError("an intent of a replay must carry its run id")
    async with admin.connect(settings) as cluster:
        if topic not in await cluster.topics([topic]):
            wanted = admin.Topic(topic, partitions, {"retention.ms": str(_RETENTION_MS)})
            await cluster.create([wanted], min(3, await cluster.brokers()))
        count = (await cluster.topics([topic]))[topic].partitions
    producer = AIOKafkaProducer(**client_arguments(settings), enable_idempotence=True)
    try:
        await start(producer)
        sent = [
            await producer.send(
                topic,
                codec.encode("order_intent", record),
                key=record["account"].encode(),
                partition=partition_of(record["account"].encode(), count),
            )
            for record in records
        ]
        for one in sent:
            await one
    except (KafkaError, OSError) as error:
        raise UnreachableError(f"Kafka did not take the intents of the replay: {error!r}") from error
    finally:
        await producer.stop()
    return len(records)
