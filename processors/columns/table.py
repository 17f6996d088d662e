"""Faust tables held by partition: a changed key is written to the changelog once a commit.

A part is a matrix of integers (`ColumnTable`, for hot streams) or records (`RecordTable`, for the others).
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Generic, Protocol, TypeVar

from faust.stores import memory
from faust.tables.table import Table
from faust.types import TP

from processors.columns.matrix import FENCES, Matrix
from processors.columns.output import Output
from processors.columns.records import Records
from tidewire.errors import SchemaError
from tidewire.metrics import CHANGELOG_RECORDS


class StandbyStore(memory.Store):  # type: ignore[misc]  # Faust is untyped
    """Faust's memory store, with offsets.

    The stock one never reports a persisted offset and forgets standby keys after every recovery, so that a
    standby that takes over replays the whole changelog.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        self._offsets: dict[TP, int] = {}

    def persisted_offset(self, tp: TP) -> int | None:
        """Last changelog offset that is in `data`."""
        return self._offsets.get(tp)

    def set_persisted_offset(self, tp: TP, offset: int) -> None:
        """Called by Faust with what it has read."""
        self._offsets[tp] = offset

    def apply_changelog_batch(
        self, batch: Iterable[Any], to_key: Callable[[Any], Any], to_value: Callable[[Any], Any]
    ) -> None:
        """Take changelog records and remember how far they reach."""
        events = list(batch)
        super().apply_changelog_batch(events, to_key, to_value)
        for event in events:
            tp, offset = event.message.tp, event.message.offset
            self._offsets[tp] = max(offset, self._offsets.get(tp, -1))

    def forget(self, partitions: set[int]) -> None:
        """Drop partitions: if one comes back it is read again from the changelog."""
        for key in [k for k, p in self._key_partition.items() if p in partitions]:
            self.data.pop(key, None)
            del self._key_partition[key]
        for tp in [tp for tp in self._offsets if tp.partition in partitions]:
            del self._offsets[tp]

    async def on_recovery_completed(self, active_tps: set[TP], standby_tps: set[TP]) -> None:
        """Keep what this worker serves or stands by for."""
        keep = {tp.partition for tp in active_tps | standby_tps}
        held = set(self._key_partition.values()) | {tp.partition for tp in self._offsets}
        self.forget(held - keep)

    def put(self, partition: int, rows: Mapping[bytes, bytes | None]) -> None:
        """Rows of a partition, as they go to its changelog; None deletes."""
        for key, value in rows.items():
            if value is None:
                self.data.pop(key, None)
                self._key_partition.pop(key, None)
            else:
                self.data[key] = value
                self._key_partition[key] = partition

    def counts(self) -> Counter[int]:
        """Keys by partition."""
        return Counter(p for key, p in self._key_partition.items() if not key.startswith(FENCES))

    def rows(self, partition: int) -> dict[bytes, bytes]:
        """Everything held of a partition."""
        of = self._key_partition
        return {key: value for key, value in self.data.items() if of.get(key) == partition}


class Part(Protocol):
    """What a table holds of one partition. `expected`: by input topic, the next offset to handle."""

    expected: dict[str, int]

    def __len__(self) -> int:
        """Keys held."""
        ...

    def take_changed(self) -> Mapping[bytes, bytes | None]:
        """Rows changed since the last call; None: deleted."""
        ...


P = TypeVar("P", bound=Part)


class PartTable(Table, Generic[P]):  # type: ignore[misc]  # Faust is untyped
    """The store holds what the changelog holds; what is newer lives in the parts."""

    mundane_level = "debug"

    def __init__(self, *args: Any, output: Output, **kwargs: Any) -> None:
        super().__init__(*args, **{"key_type": bytes, "value_type": bytes, "default": None} | kwargs)
        self._output = output
        self._parts: dict[int, P] = {}
        self._flushing = asyncio.Lock()

    def _load(self, partition: int, stored: Mapping[bytes, bytes]) -> P:
        """A part from the rows of its changelog."""
        raise NotImplementedError

    def key_count(self) -> int:
        """Keys held, those of partitions that no record has come for since the recovery included."""
        stored: Counter[int] = self.data.counts()
        return sum(map(len, self._parts.values())) + sum(
            stored[p] for p in stored.keys() - self._parts.keys()
        )

    def part(self, partition: int) -> P:
        """What is held of a partition, made from the recovered store when it is first asked for.

        Raises:
            SchemaError: the changelog holds rows of another layout.
        """
        if partition not in self._parts:
            self._parts[partition] = self._load(partition, self.data.rows(partition))
        return self._parts[partition]

    def _other_layout(self) -> str:
        return (
            f"{self.changelog_topic_name} was written by another version of tidewire. Stop all processors, "
            "delete that topic and the consumer group's offsets, and start again: the table is folded anew."
        )

    @property
    def parts(self) -> Mapping[int, P]:
        """The parts in use, by partition."""
        return self._parts

    def forget_parts(self) -> None:
        """Go back to the store, that is to what the changelog holds (after a rebalance)."""
        self._parts.clear()

    def _new_store_by_url(self, url: Any) -> StandbyStore:
        return StandbyStore(
            url,
            self.app,
            self,
            table_name=self.name,
            key_type=self.key_type,
            value_type=self.value_type,
            key_serializer=self.key_serializer,
            value_serializer=self.value_serializer,
            options=self.options,
        )

    async def flush(self) -> None:
        """Write every changed key to the changelog and wait until Kafka has all, and all sent before.

        Raises:
            KafkaError: something did not arrive.
        """
        async with self._flushing:  # a commit must wait for a running flush
            written: set[int] = set()
            try:
                await self._write(written)
                await self._output.settle()
            except BaseException:  # cancelled by a rebalance, or failed: the store may be ahead of Kafka
                self._read_again(written)
                raise

    async def _write(self, written: set[int]) -> None:
        topic, mine = self.changelog_topic_name, self.app.consumer.assignment()
        for partition, part in list(self._parts.items()):
            if TP(topic, partition) not in mine:  # lost in a rebalance: not ours to write
                self._parts.pop(partition, None)
                continue
            rows = part.take_changed()
            if rows:
                written.add(partition)
                self.data.put(partition, rows)
                await self._output.send(topic, partition, rows.items())
                CHANGELOG_RECORDS.labels(self.name).inc(len(rows))

    def _read_again(self, partitions: set[int]) -> None:
        """Have the next recovery read these partitions' changelog from its beginning."""
        self.data.forget(partitions)
        for partition in partitions:
            self._parts.pop(partition, None)
            self.app.tables.recovery.revoke(TP(self.changelog_topic_name, partition))


class ColumnTable(PartTable[Matrix]):
    """key -> `width` words."""

    def __init__(self, *args: Any, width: int, version: tuple[int, int], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._width, self._version = width, version

    def _load(self, partition: int, stored: Mapping[bytes, bytes]) -> Matrix:
        rows = {key: value for key, value in stored.items() if not key.startswith(FENCES)}
        if any(len(value) != 8 * self._width for value in rows.values()):
            raise SchemaError(self._other_layout())
        matrix = Matrix(self._width, stored, partition)
        word, current = self._version
        if rows and (matrix.values[matrix.rows_of(rows), word] != current).any():
            raise SchemaError(self._other_layout())
        return matrix


class RecordTable(PartTable[Records]):
    """key -> a JSON object, for streams of a low rate. `version` stands in every row, as `v`."""

    def __init__(self, *args: Any, version: int, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._version = version

    def _load(self, partition: int, stored: Mapping[bytes, bytes]) -> Records:
        records = Records(self._version, stored)
        if records.other_version():
            raise SchemaError(self._other_layout())
        return records
