"""What aiokafka's admin client leaves out: topics as found, config changes by key, deletion of groups."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import (
    GroupIdNotFound,
    InvalidReplicationFactorError,
    KafkaConnectionError,
    KafkaError,
    NodeNotReadyError,
    RequestTimedOutError,
    TopicAlreadyExistsError,
    UnknownTopicOrPartitionError,
    for_code,
)
from aiokafka.protocol.admin import DeleteGroupsRequest
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import Array, Boolean, Int8, Int16, Int32, Schema, String

from tidewire.config import Settings
from tidewire.errors import UnreachableError
from tidewire.kafka import client_arguments, start, unreachable

_SET = 0
_LOOKS = 300
_LOOK_SECONDS = 0.1
_TEXT = String("utf-8")


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic of a cluster, wanted or found. `configs` holds only what is said about it."""

    name: str
    partitions: int
    configs: Mapping[str, str] = field(default_factory=dict)
    ready: bool = True
    """Whether every partition has a leader."""


class Admin:
    """Administers one cluster; made by `connect`."""

    def __init__(self, client: AIOKafkaAdminClient) -> None:
        self._client = client

    async def brokers(self) -> int:
        """How many brokers the cluster has now."""
        return len((await self._client.describe_cluster())["brokers"])

    async def names(self) -> list[str]:
        """Every topic's name."""
        return list(await self._client.list_topics())

    async def topics(self, names: Iterable[str]) -> dict[str, Topic]:
        """Those of the named topics that exist, without their configs."""
        wanted = set(names)
        return {
            topic["topic"]: Topic(
                topic["topic"],
                len(topic["partitions"]),
                ready=bool(topic["partitions"]) and all(p["leader"] >= 0 for p in topic["partitions"]),
            )
            for topic in await self._client.describe_topics(None)
            if topic["topic"] in wanted
        }

    async def configs(self, names: Iterable[str], keys: Iterable[str]) -> dict[str, dict[str, str]]:
        """The values of some config keys of some topics; topics that do not exist are left out."""
        wanted = dict.fromkeys(keys, "")
        asked = [ConfigResource(ConfigResourceType.TOPIC, name, wanted) for name in names]
        found: dict[str, dict[str, str]] = {}
        for answer in await self._client.describe_configs(asked) if asked else []:
            for code, message, _, name, entries in answer.resources:
                if code == UnknownTopicOrPartitionError.errno:
                    continue
                _raise(code, f"{name}: {message}")
                found[name] = {entry[0]: entry[1] for entry in entries}
        return found

    async def create(self, topics: Iterable[Topic], replicas: int) -> None:
        """Create topics; one that somebody else created meanwhile is no error.

        Returns when the cluster answers with all of them.

        Raises:
            UnreachableError: it did not for half a minute; they are created all the same. Or it had too few
                brokers for the replicas for so long, which while one restarts is soon over.
        """
        new = [NewTopic(t.name, t.partitions, replicas, topic_configs=dict(t.configs)) for t in topics]
        names = {topic.name for topic in new}
        await _until(
            lambda: self._try_to_create(new), f"Kafka has too few brokers at work for {replicas} copies"
        )
        await _until(lambda: self._unready(names), "the brokers do not answer for what was created")

    async def _unready(self, names: set[str]) -> str | None:
        """The controller knows of a topic at once, the brokers a moment later: those that they lack."""
        found = await self.topics(names)
        return ", ".join(sorted(n for n in names if n not in found or not found[n].ready)) or None

    async def _try_to_create(self, new: list[NewTopic]) -> str | None:
        """None: they are created, or were before; else what the cluster lacks for it at the moment."""
        answer = await self._client.create_topics(new, timeout_ms=30_000)
        lacking = None
        for name, code, message in answer.topic_errors:
            if code == InvalidReplicationFactorError.errno:
                lacking = f"{name}: {message}"
            elif code != TopicAlreadyExistsError.errno:
                _raise(code, f"{name}: {message}")
        return lacking

    async def alter(self, changes: Mapping[str, Mapping[str, str]]) -> None:
        """Set these config keys of these topics and leave all others as they are.

        Returns when the cluster answers with the new values.

        Raises:
            UnreachableError: it did not for half a minute; the values are set all the same.
        """
        answer = await self._client._send_request(_IncrementalAlterConfigs(changes))
        for code, message, _, name in answer.resources:
            _raise(code, f"{name}: {message}")
        await _until(lambda: self._untold(changes), "the brokers do not answer with what was set")

    async def _untold(self, changes: Mapping[str, Mapping[str, str]]) -> str | None:
        """The topics that the brokers still show with other values."""
        keys = {key for configs in changes.values() for key in configs}
        found = await self.configs(changes, keys)
        old = (n for n, cs in changes.items() if any(found.get(n, {}).get(k) != v for k, v in cs.items()))
        return ", ".join(old) or None

    async def delete(self, names: Iterable[str]) -> None:
        """Delete topics; one that is gone already is no error. The brokers may still be at it on return."""
        answer = await self._client.delete_topics(list(names), timeout_ms=30_000)
        for name, code in answer.topic_error_codes:
            if code != UnknownTopicOrPartitionError.errno:
                _raise(code, name)

    async def groups(self) -> list[str]:
        """Every consumer group's name."""
        return sorted({group[0] for group in await self._client.list_consumer_groups()})

    async def delete_group(self, group: str) -> None:
        """Delete one consumer group with its offsets; one that is gone already is no error."""
        node = await self._client.find_coordinator(group)
        answer = await self._client._send_request(DeleteGroupsRequest([group]), node)
        for name, code in answer.results:
            if code != GroupIdNotFound.errno:
                _raise(code, f"group {name}")


@asynccontextmanager
async def connect(settings: Settings) -> AsyncIterator[Admin]:
    """An `Admin` for the cluster of the settings.

    Raises:
        UnreachableError: no broker answers, or none does any more.
    """
    client = AIOKafkaAdminClient(**client_arguments(settings), request_timeout_ms=30_000)
    try:
        try:
            await start(client)
        except (KafkaError, OSError) as error:
            raise unreachable(settings, error) from error
        try:
            yield Admin(client)
        except (KafkaConnectionError, NodeNotReadyError, RequestTimedOutError) as error:
            raise unreachable(settings, error) from error
    finally:
        await client.close()


async def _until(lacking: Callable[[], Awaitable[str | None]], complaint: str) -> None:
    """Look until nothing is lacking any more; raises UnreachableError after half a minute."""
    for _ in range(_LOOKS):
        if (what := await lacking()) is None:
            return
        await asyncio.sleep(_LOOK_SECONDS)
    raise UnreachableError(f"{complaint}: {what}")


def _raise(code: int, about: str) -> None:
    if code:
        raise for_code(code)(about)


class _IncrementalAlterConfigsResponse(Response):  # type: ignore[misc]
    API_KEY = 44
    API_VERSION = 0
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "resources",
            Array(
                ("error_code", Int16),
                ("error_message", _TEXT),
                ("resource_type", Int8),
                ("resource_name", _TEXT),
            ),
        ),
    )


class _IncrementalAlterConfigsStruct(RequestStruct):  # type: ignore[misc]
    API_KEY = 44
    API_VERSION = 0
    RESPONSE_TYPE = _IncrementalAlterConfigsResponse
    SCHEMA = Schema(
        (
            "resources",
            Array(
                ("resource_type", Int8),
                ("resource_name", _TEXT),
                (
                    "configs",
                    Array(("name", _TEXT), ("operation", Int8), ("value", _TEXT)),
                ),
            ),
        ),
        ("validate_only", Boolean),
    )


class _IncrementalAlterConfigs(Request[_IncrementalAlterConfigsStruct]):  # type: ignore[misc]
    """aiokafka has only AlterConfigs, which resets every key that it does not name."""

    API_KEY = 44

    def __init__(self, changes: Mapping[str, Mapping[str, str]]) -> None:
        self._resources = [
            (int(ConfigResourceType.TOPIC), name, [(key, _SET, value) for key, value in configs.items()])
            for name, configs in changes.items()
        ]

    def build(
        self, request_struct_class: type[_IncrementalAlterConfigsStruct]
    ) -> _IncrementalAlterConfigsStruct:
        return request_struct_class(self._resources, False)
