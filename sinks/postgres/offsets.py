"""Where each partition goes on: kept in PostgreSQL, moved only from the value that the mover expects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from sinks.postgres.connection import Connection

_FENCE = """UPDATE kafka_offsets o SET next_offset = v.next, epochs = v.epochs::jsonb, updated_at = now()
    FROM unnest(%s::text[], %s::int4[], %s::text[], %s::int8[], %s::int8[], %s::text[])
      AS v(topic, part, id, expected, next, epochs)
    WHERE o.sink_group = %s AND o.topic = v.topic AND o.part = v.part
      AND o.cluster_topic_id = v.id AND o.next_offset = v.expected"""
_READ = """SELECT topic, part, next_offset, cluster_topic_id, epochs FROM kafka_offsets
    WHERE sink_group = %s AND topic = ANY(%s)"""
_PLACE = """INSERT INTO kafka_offsets (sink_group, topic, part, next_offset, cluster_topic_id)
    VALUES (%s, %s, %s, %s, %s)
    ON CONFLICT (sink_group, topic, part)
    DO UPDATE SET next_offset = excluded.next_offset, cluster_topic_id = excluded.cluster_topic_id,
                  epochs = CASE WHEN kafka_offsets.cluster_topic_id = excluded.cluster_topic_id
                           THEN kafka_offsets.epochs ELSE excluded.epochs END,
                  updated_at = now()"""

Key = tuple[str, int]
"""Topic and partition."""


class Move(Protocol):
    """A partition's step from the stored offset to the next."""

    @property
    def topic(self) -> str: ...  # noqa: D102
    @property
    def partition(self) -> int: ...  # noqa: D102
    @property
    def topic_id(self) -> str: ...  # noqa: D102
    @property
    def expected(self) -> int: ...  # noqa: D102
    @property
    def next(self) -> int: ...  # noqa: D102
    @property
    def epochs(self) -> str: ...  # noqa: D102


@dataclass(frozen=True, slots=True)
class Stored:
    """What PostgreSQL holds of a partition; `epochs`: see epochs.py."""

    next_offset: int
    topic_id: str
    epochs: Mapping[str, Any] = field(default_factory=dict, compare=False)


@dataclass(frozen=True, slots=True)
class Log:
    """What Kafka holds of a partition: offsets [beginning, end) of the topic with this id ('' unknown)."""

    topic_id: str
    beginning: int
    end: int


@dataclass(frozen=True, slots=True)
class Place:
    """Where to go on, how many records are gone for good, and what to tell about it."""

    offset: int
    topic_id: str
    expired: int = 0
    note: str | None = None
    epochs: Mapping[str, Any] = field(default_factory=dict)


def decide(stored: Stored | None, log: Log) -> Place:
    """Where a partition goes on.

    Where the stored offset cannot be trusted (the topic was made again, or lost its newest records), reading
    starts over: the tables' keys drop what they have already, while any other place could pass over records.
    """
    if stored is None:
        return Place(log.beginning, log.topic_id)
    if log.topic_id and stored.topic_id and log.topic_id != stored.topic_id:
        note = "the topic was deleted and made again: reading it from its beginning"
        return Place(log.beginning, log.topic_id, note=note)
    topic_id = log.topic_id or stored.topic_id
    if stored.next_offset > log.end:
        note = (
            f"the topic ends at {log.end}, before the stored offset {stored.next_offset}: it lost records or "
            "was made again; reading it from its beginning"
        )
        return Place(log.beginning, topic_id, note=note)
    if stored.next_offset < log.beginning:
        expired = log.beginning - stored.next_offset
        note = f"{expired} records were deleted by retention before they were read"
        return Place(log.beginning, topic_id, expired, note)
    return Place(stored.next_offset, topic_id)


def read(connection: Connection, group: str, topics: Sequence[str]) -> dict[Key, Stored]:
    """The stored offsets of a group's topics."""
    rows = connection.execute(_READ, (group, list(topics)))
    return {(topic, part): Stored(next_offset, id, epochs) for topic, part, next_offset, id, epochs in rows}


def place(connection: Connection, group: str, logs: Mapping[Key, Log]) -> dict[Key, Place]:
    """Decide for every partition, and store what is new or had to be changed."""
    placed: dict[Key, Place] = {}
    with connection.transaction():
        # Two sinks may place at once: the later one must see what the earlier stored.
        connection.execute("LOCK TABLE kafka_offsets IN SHARE ROW EXCLUSIVE MODE")
        stored = read(connection, group, sorted({topic for topic, _ in logs}))
        for key, log in sorted(logs.items()):
            known = stored.get(key)
            placed[key] = decide(known, log)
            if known is not None and known.topic_id == placed[key].topic_id:
                placed[key] = replace(placed[key], epochs=known.epochs)
            if known != Stored(placed[key].offset, placed[key].topic_id):
                connection.execute(_PLACE, (group, *key, placed[key].offset, placed[key].topic_id))
    return placed


def fence(connection: Connection, group: str, moves: Sequence[Move]) -> bool:
    """Move the stored offsets; False: one was not as expected, and the caller must roll back."""
    ordered = sorted(moves, key=lambda m: (m.topic, m.partition))  # the same lock order in every sink
    columns = [
        [m.topic for m in ordered],
        [m.partition for m in ordered],
        [m.topic_id for m in ordered],
        [m.expected for m in ordered],
        [m.next for m in ordered],
        [m.epochs for m in ordered],
    ]
    return connection.execute(_FENCE, (*columns, group)).rowcount == len(ordered)


def landed(connection: Connection, group: str, moves: Sequence[Move]) -> bool:
    """Whether all of these moves are stored: our own commit did land before the connection was lost."""
    stored = read(connection, group, sorted({m.topic for m in moves}))
    return all(stored.get((m.topic, m.partition)) == Stored(m.next, m.topic_id) for m in moves)
