"""Makes a Kafka cluster match the catalogue, says where it does not, or empties it.

The comparison is a pure function of what is wanted and what was found; the rest talks to the cluster.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass

from aiokafka.errors import (
    GroupCoordinatorNotAvailableError,
    GroupLoadInProgressError,
    NonEmptyGroup,
    NotCoordinatorForGroupError,
)

from schemas import admin
from schemas.catalogue import Catalogue, RealTopic
from schemas.codec import load_codec
from schemas.written import mixtures, newest_ids
from tidewire.config import Settings
from tidewire.dead_letters import SUFFIX
from tidewire.errors import SchemaError

LOCAL_PARTITIONS = 4
CLUSTER_PARTITIONS = 24
CLUSTER_BROKERS = 3
_PROCESSORS = ("tidewire-processor", "tidewire-portfolio", "tidewire-exits", "tidewire-signals")
_GROUPS = (*_PROCESSORS, "tidewire-sink-postgres", "tidewire-executor")
_LOADING = (GroupLoadInProgressError, GroupCoordinatorNotAvailableError, NotCoordinatorForGroupError)
_BATCH = 20


@dataclass(frozen=True, slots=True)
class Plan:
    """What `apply` would do, and what it cannot do."""

    create: tuple[admin.Topic, ...]
    alter: Mapping[str, Mapping[str, str]]
    problems: tuple[str, ...]


def partitions(settings: Settings, found: Iterable[int], brokers: int) -> int:
    """The partition count: the setting, else what symbol-keyed topics have already, else by brokers."""
    if settings.tidewire_partitions is not None:
        return settings.tidewire_partitions
    counts = sorted(found)
    if counts:
        return counts[0]
    return CLUSTER_PARTITIONS if brokers >= CLUSTER_BROKERS else LOCAL_PARTITIONS


def configs(topic: RealTopic, replicas: int) -> dict[str, str]:
    """The topic configs that tidewire decides; all others are the cluster's own."""
    return {
        "cleanup.policy": topic.cleanup_policy,
        "retention.ms": str(topic.retention_ms),
        "max.message.bytes": str(topic.max_bytes),
        # The Kafka timestamp is the receive time, set by the producer; event time is in the value.
        "message.timestamp.type": "CreateTime",
        "min.insync.replicas": str(max(1, replicas - 1)),
    }


def plan(wanted: Iterable[RealTopic], found: Mapping[str, admin.Topic], replicas: int) -> Plan:
    """Compare. A partition count cannot be changed: keys would move and per-symbol order would break."""
    create: list[admin.Topic] = []
    alter: dict[str, dict[str, str]] = {}
    wrong: dict[tuple[int, int], list[str]] = {}
    for topic in wanted:
        should = configs(topic, replicas)
        there = found.get(topic.name)
        if there is None:
            create.append(admin.Topic(topic.name, topic.partitions, should))
            continue
        if there.partitions != topic.partitions:
            wrong.setdefault((there.partitions, topic.partitions), []).append(topic.name)
        drift = {key: value for key, value in should.items() if there.configs.get(key) != value}
        if drift:
            alter[topic.name] = drift
    problems = [
        f"{_listed(names)}: {has} partitions instead of {should_have}. Another count moves symbols to other "
        "partitions and needs a rebuild into new topics: "
        f"set TIDEWIRE_PARTITIONS={has}, or another TIDEWIRE_TOPIC_PREFIX"
        for (has, should_have), names in wrong.items()
    ]
    return Plan(tuple(create), alter, tuple(problems))


async def apply(settings: Settings, only: Collection[str] | None = None) -> list[str]:
    """Create and align the topics of the catalogue and wait until each has its leaders; says what was done.

    `only` names topic constants: they and their dead letters, and no others.

    Raises:
        SchemaError: a topic has a wrong partition count, or records with ids of the other kind (registry or
            lock file); nothing was changed.
        UnreachableError: no broker answers.
    """
    async with admin.connect(settings) as cluster:
        todo, there, replicas = await _compare(cluster, settings, only)
        if problems := [*todo.problems, *await _mixtures(settings, there)]:
            raise SchemaError("\n".join(problems))
        # In portions: one request for all would hold the controller longer than its timeout on a slow disk.
        for start in range(0, len(todo.create), _BATCH):
            await cluster.create(todo.create[start : start + _BATCH], replicas)
        if todo.alter:
            await cluster.alter(todo.alter)
        await _until_ready(cluster, {topic.name for topic in todo.create})
    return _described(todo)


async def check(settings: Settings, only: Collection[str] | None = None) -> list[str]:
    """What does not match the catalogue, one line each; empty: all is well.

    Raises:
        UnreachableError: no broker answers.
    """
    async with admin.connect(settings) as cluster:
        todo, there, _ = await _compare(cluster, settings, only)
        mixed = await _mixtures(settings, there)
    missing = []
    if todo.create:
        names = _listed([topic.name for topic in todo.create])
        missing = [f"missing: {names}; `tidewire topics apply` creates what is missing"]
    drift = [
        f"{name}: {key} is not {value}; `tidewire topics apply` sets it"
        for name, changes in todo.alter.items()
        for key, value in changes.items()
    ]
    return [*missing, *todo.problems, *drift, *mixed]


async def delete_all(settings: Settings, timeout_s: float = 60.0) -> list[str]:
    """Delete this prefix's topics, dead letters, the processors' own topics and the consumer groups.

    Returns the names of the topics deleted, when the cluster no longer knows any of them.

    Raises:
        SchemaError: a consumer still runs, or the cluster did not finish within `timeout_s`.
        UnreachableError: no broker answers.
    """
    deadline = time.monotonic() + timeout_s
    async with admin.connect(settings) as cluster:
        catalogue = Catalogue(settings.tidewire_topic_prefix, 1)
        ours = {topic.name for topic in catalogue.real()}
        owned = tuple(f"{catalogue.name(processor)}-" for processor in _PROCESSORS)
        gone = sorted(name for name in await cluster.names() if name in ours or name.startswith(owned))
        await _delete_groups(cluster, catalogue.prefix, deadline)  # first: fails while a service still runs
        for start in range(0, len(gone), _BATCH):
            await cluster.delete(gone[start : start + _BATCH])
        while left := sorted(set(gone) & set(await cluster.names())):
            await _wait(deadline, f"the cluster still holds {_listed(left)} after {timeout_s:.0f} s")
    return gone


async def _compare(
    cluster: admin.Admin, settings: Settings, only: Collection[str] | None
) -> tuple[Plan, Mapping[str, admin.Topic], int]:
    brokers = await cluster.brokers()
    replicas = min(CLUSTER_BROKERS, brokers)
    by_symbol = {t.name for t in Catalogue(settings.tidewire_topic_prefix, 1).real() if t.by_symbol}
    there = await cluster.topics(by_symbol)
    count = partitions(settings, [topic.partitions for topic in there.values()], brokers)
    catalogue = Catalogue(settings.tidewire_topic_prefix, count)
    wanted = [topic for topic in catalogue.real() if only is None or _chosen(catalogue, topic, only)]
    found = await cluster.topics(topic.name for topic in wanted)
    keys = configs(wanted[0], replicas) if wanted else {}
    values = await cluster.configs(found, keys)
    whole = {
        name: admin.Topic(name, topic.partitions, values.get(name, {}), topic.ready)
        for name, topic in found.items()
    }
    return plan(wanted, whole, replicas), whole, replicas


async def _mixtures(settings: Settings, there: Mapping[str, admin.Topic]) -> list[str]:
    counts = {name: t.partitions for name, t in there.items() if t.ready and not name.endswith(SUFFIX)}
    if not counts:
        return []
    codec = await asyncio.to_thread(load_codec, settings)  # a registry is asked in a blocking way
    return mixtures(codec, await newest_ids(settings, counts))


def _chosen(catalogue: Catalogue, topic: RealTopic, only: Collection[str]) -> bool:
    found = catalogue.find(topic.name)
    return found is not None and found.name in only


async def _until_ready(cluster: admin.Admin, names: set[str], timeout_s: float = 60.0) -> None:
    deadline = time.monotonic() + timeout_s
    while names:
        found = await cluster.topics(names)
        names = {name for name in names if name not in found or not found[name].ready}
        if names:
            await _wait(deadline, f"no leader for {_listed(sorted(names))} after {timeout_s:.0f} s")


async def _delete_groups(cluster: admin.Admin, prefix: str, deadline: float) -> None:
    # Right after its start a broker lists only the groups that it has loaded: ask for ours by name as well.
    groups = {prefix + group for group in _GROUPS}
    # Without a prefix every group of the cluster would match; then only tidewire's own are ours.
    with suppress(*_LOADING):
        groups |= {group for group in await cluster.groups() if group.startswith(prefix or "tidewire-")}
    for group in sorted(groups):
        await _delete_group(cluster, group, deadline)


async def _delete_group(cluster: admin.Admin, group: str, deadline: float) -> None:
    while True:
        try:
            await cluster.delete_group(group)
            return
        except NonEmptyGroup:
            problem = f"the consumer group {group} still has members: stop the services first"
        except _LOADING as error:
            problem = f"Kafka does not delete the consumer group {group}: {error}"
        await _wait(deadline, problem)


def _listed(names: list[str], most: int = 4) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


async def _wait(deadline: float, otherwise: str) -> None:
    if time.monotonic() > deadline:
        raise SchemaError(otherwise)
    await asyncio.sleep(0.1)


def _described(done: Plan) -> list[str]:
    created = [f"created {topic.name} ({topic.partitions} partitions)" for topic in done.create]
    altered = [
        f"changed {name}: {', '.join(f'{key}={value}' for key, value in changes.items())}"
        for name, changes in done.alter.items()
    ]
    return [*created, *altered]


__all__ = ["Plan", "apply", "check", "configs", "delete_all", "partitions", "plan"]
