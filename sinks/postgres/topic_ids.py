"""Kafka's own ids of topics, to tell a topic from another of the same name made after it.

aiokafka speaks Metadata up to version 5; the ids came with version 10 (Kafka 2.8). Its protocol classes take
the later version as it is written in Kafka's documentation. An older broker gives no ids: then a topic made
again is noticed only by ending before the stored offset.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from io import BytesIO
from typing import Any

from aiokafka.client import AIOKafkaClient
from aiokafka.errors import NodeNotReadyError, UnknownTopicOrPartitionError, for_code
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import (
    AbstractType,
    Boolean,
    CompactArray,
    CompactString,
    Int16,
    Int32,
    Schema,
    TaggedFields,
)

from tidewire.config import Settings
from tidewire.kafka import client_arguments

NO_ID = bytes(16)


class _Uuid(AbstractType):  # type: ignore[misc]
    @classmethod
    def encode(cls, value: bytes) -> bytes:
        return value

    @classmethod
    def decode(cls, data: BytesIO) -> bytes:
        return data.read(16)


_TAGS = ("tags", TaggedFields)


class _Response(Response):  # type: ignore[misc]
    API_KEY = 3
    API_VERSION = 10
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "brokers",
            CompactArray(
                ("node_id", Int32),
                ("host", CompactString("utf-8")),
                ("port", Int32),
                ("rack", CompactString("utf-8")),
                _TAGS,
            ),
        ),
        ("cluster_id", CompactString("utf-8")),
        ("controller_id", Int32),
        (
            "topics",
            CompactArray(
                ("error_code", Int16),
                ("topic", CompactString("utf-8")),
                ("topic_id", _Uuid),
                ("is_internal", Boolean),
                (
                    "partitions",
                    CompactArray(
                        ("error_code", Int16),
                        ("partition", Int32),
                        ("leader", Int32),
                        ("leader_epoch", Int32),
                        ("replicas", CompactArray(Int32)),
                        ("isr", CompactArray(Int32)),
                        ("offline_replicas", CompactArray(Int32)),
                        _TAGS,
                    ),
                ),
                ("authorized_operations", Int32),
                _TAGS,
            ),
        ),
        ("authorized_operations", Int32),
        _TAGS,
    )


class _RequestStruct(RequestStruct):  # type: ignore[misc]
    API_KEY = 3
    API_VERSION = 10
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = _Response
    SCHEMA = Schema(
        ("topics", CompactArray(("topic_id", _Uuid), ("topic", CompactString("utf-8")), _TAGS)),
        ("allow_auto_topic_creation", Boolean),
        ("include_cluster_authorized_operations", Boolean),
        ("include_topic_authorized_operations", Boolean),
        _TAGS,
    )


class _MetadataRequest(Request[_RequestStruct]):  # type: ignore[misc]
    API_KEY = 3

    def __init__(self, topics: Sequence[str]) -> None:
        self._topics = topics

    def build(self, request_struct_class: type[_RequestStruct]) -> _RequestStruct:
        topics: list[tuple[bytes, str, dict[int, bytes]]] = [(NO_ID, topic, {}) for topic in self._topics]
        return request_struct_class(topics, False, False, False, {})


async def topic_ids(settings: Settings, topics: Sequence[str]) -> dict[str, str]:
    """The id of each topic that exists, as 32 hex digits; '' from brokers that have none.

    Raises:
        KafkaError: no broker answers, or it refuses to describe a topic.
    """
    client = AIOKafkaClient(**client_arguments(settings), request_timeout_ms=10_000)
    try:
        await client.bootstrap()
        return await _ask(client, topics)
    finally:
        await client.close()


async def _ask(client: Any, topics: Sequence[str]) -> dict[str, str]:
    brokers = [broker.nodeId for broker in client.cluster.brokers()]
    if not brokers:
        raise NodeNotReadyError("no broker is known")
    try:
        response = await client.send(random.choice(brokers), _MetadataRequest(topics))
    except NotImplementedError:  # how aiokafka says that the broker speaks no such version
        return dict.fromkeys(topics, "")
    found = {}
    for code, topic, topic_id, *_ in response.topics:
        error = for_code(code)
        if code and error is not UnknownTopicOrPartitionError:
            raise error(topic)
        if not code:
            found[topic] = topic_id.hex()
    return found
