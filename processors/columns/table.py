"""Faust tables held by partition: a changed key is written to the changelog once a commit.

A part is a matrix of integers (`ColumnTable`, for hot streams) or records (`RecordTable`, for the others).
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from functools import cached_property
from typing import Any, Generic, Protocol, TypeVar

from aiokafka.errors import KafkaError
from faust.events import Event
from faust.exceptions import ConsumerNotStarted
from faust.serializers.schemas import Schema
from faust.tables.table import Table
from faust.types import TP

from processors.columns.changelog_writer import ChangelogWriter
from processors.columns.matrix import FENCES, Matrix
from processors.columns.output import Output
from processors.columns.records import Records
from processors.columns.store import StandbyStore
from tidewire.errors import SchemaError, TidewireError
from tidewire.metrics import CHANGELOG_READ


class BatchSchema(Schema):  # type: ignore[misc]  # Faust is untyped
    """No codecs: the value of an event is a list of Blocks."""

    def compile(self, app: Any, **_: Any) -> Any:
        """Faust's decoder of messages."""

        async def decode(message: Any, *, propagate: bool = False) -> Event:
            return Event(app, None, message.value, None, message)

        return decode


class _Group:
    """Our consumer group, as the changelog asks it."""

    def __init__(self, app: Any) -> None:
        self._app = app

    def generation(self) -> int:
        return int(self._app.consumer_generation_id)

    async def is_member(self) -> bool:
        return bool(await self._app.consumer.is_member())


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
    """The store holds what the changelog holds; what is newer lives in the parts.

    A partition is served (there may be a part, and it is written) or stood by for (the store follows its
    changelog). `read` counts the changelog records that were read of each kind.
    """

    mundane_level = "debug"

    def __init__(self, *args: Any, output: Output, **kwargs: Any) -> None:
        own = {"key_type": bytes, "value_type": bytes, "default": None, "schema": BatchSchema()}
        # Two batches, not records: with one Faust goes on reading what it has recovered.
        super().__init__(*args, **(own | {"recovery_buffer_size": 2} | kwargs))
        self._output = output
        self._parts: dict[int, P] = {}
        self._flushing = asyncio.Lock()
        self.before_write: list[Callable[[], Awaitable[None]]] = []
        """Awaited between the taking of changed rows and their writing: what Kafka must have before them."""
        self.read: Counter[str] = Counter(served=0, standby=0)

    def _load(self, partition: int, stored: Mapping[bytes, bytes]) -> P:
        """A part from the rows of its changelog."""
        raise NotImplementedError

    async def on_changelog_event(self, event: Any) -> None:
        """Take it at once: in Faust's buffer the last batch would wait for another one."""
        self.apply_changelog_batch([event])

    def served(self) -> set[int]:
        """The partitions that are ours to fold and to write, as of the last rebalance."""
        return self._of(self.app.tables.recovery.active_tps)

    def behind(self) -> dict[int, int]:
        """The partitions stood by for, and how many offsets of their changelog are still to be read."""
        topic, behind = self.changelog_topic_name, {}
        for partition in self._of(self.app.tables.recovery.standby_tps):
            tp = TP(topic, partition)
            try:
                end = self.app.consumer.highwater(tp)
            except ConsumerNotStarted:
                end = None
            if end is not None:  # else it was not yet fetched from
                behind[partition] = max(0, end - 1 - self.data.persisted_offset(tp))
        return behind

    def _of(self, tps: set[TP]) -> set[int]:
        topic = self.changelog_topic_name
        return {tp.partition for tp in tps if tp.topic == topic}

    def key_count(self) -> int:
        """Keys of the partitions that are served, those that no record has come for since included."""
        return sum(
            len(self._parts[p]) if p in self._parts else self.data.count(p)
            for p in self.served() | self._parts.keys()
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
        """Go back to the store, that is to what the changelog holds.

        Only for the consumer, which sees to it that nothing of what is forgotten is committed.
        """
        self._parts.clear()
        self._changelog.new_term()

    @property
    def term(self) -> int:
        """Counts how often the parts were forgotten."""
        return self._changelog.term

    def _new_store_by_url(self, url: Any) -> StandbyStore:
        return StandbyStore(
            url,
            self.app,
            self,
            applied=self._count_read,
            table_name=self.name,
            key_type=self.key_type,
            value_type=self.value_type,
            key_serializer=self.key_serializer,
            value_serializer=self.value_serializer,
            options=self.options,
        )

    def _count_read(self, tp: TP, records: int) -> None:
        kind = "served" if tp in self.app.tables.recovery.active_tps else "standby"
        self.read[kind] += records
        CHANGELOG_READ.labels(self.name, kind).inc(records)

    async def flush(self) -> None:
        """Write every changed key to the changelog and wait until Kafka has all, and all sent before.

        Raises:
            KafkaError: something did not arrive.
            DeposedError: the group took this worker for dead meanwhile.
            TidewireError: another process keeps writing to the same partitions.
        """
        async with self._flushing:  # a commit must wait for a running flush
            await self._write_all(self._take_changed(), self.term)

    async def write_through(self, rows: Mapping[int, Mapping[bytes, bytes]]) -> None:
        """Write these rows, by partition, at once; Kafka has them when this returns. The others can wait.

        What a flush writes of these keys later must be as new. Partitions that are not served are left out.

        Raises:
            KafkaError, DeposedError, TidewireError: see `flush`.
        """
        term = self.term
        async with self._flushing:
            served = self.served()
            mine = {partition: rows[partition] for partition in rows if partition in served}
            await self._write_all(mine, term, alone=True)

    async def look_behind(self) -> None:
        """Write once more what another process wrote behind; a flush sees that too, but only if it writes.

        Raises:
            KafkaError: Kafka does not say where the changelog ends; nothing was done.
            DeposedError, TidewireError: see `flush`; TidewireError also if something did not arrive.
        """
        async with self._flushing:
            term = self.term
            tps = [TP(self.changelog_topic_name, p) for p in self._parts.keys() & self.served()]
            ends = await self.app.consumer.highwaters(*tps) if tps else {}
            late = [tp.partition for tp in tps if (ends.get(tp) or 0) - 1 > self.data.persisted_offset(tp)]
            if not late or term != self.term:  # after a rebalance it may be the next owner's
                return
            try:
                await self._write_all({partition: self.data.whole(partition) for partition in late}, term)
            except (KafkaError, OSError) as error:  # the term is void: only a restart reads it again
                raise TidewireError(f"rows did not reach {self.changelog_topic_name}: {error!r}") from error

    async def _write_all(
        self, changed: Mapping[int, Mapping[bytes, bytes | None]], term: int, *, alone: bool = False
    ) -> None:
        try:
            for settle in self.before_write if changed else ():
                await settle()
            await self._changelog.write(changed, term, alone)
        except BaseException as error:  # failed or cancelled: rows that were taken may be in no changelog
            if term == self.term:  # else a rebalance has made it void, and the parts are those of after it
                self.app.consumer.void(f"a write to {self.changelog_topic_name} ended with {error!r}")
            raise

    @cached_property
    def _changelog(self) -> ChangelogWriter:
        return ChangelogWriter(
            self.name, self.changelog_topic_name, self.data, self._output, _Group(self.app)
        )

    def _take_changed(self) -> dict[int, Mapping[bytes, bytes | None]]:
        served = self.served()
        changed: dict[int, Mapping[bytes, bytes | None]] = {}
        for partition, part in list(self._parts.items()):
            if partition not in served:  # lost in a rebalance: not ours to write
                self._check_lost(partition)
                del self._parts[partition]
            elif rows := part.take_changed():
                changed[partition] = rows
        return changed

    def _check_lost(self, partition: int) -> None:
        """What was folded must never be dropped while its offsets are still ours to commit."""
        inputs = self.app.batch_topics
        if any(tp.partition == partition and tp.topic in inputs for tp in self.app.consumer.assignment()):
            raise RuntimeError(f"{self.changelog_topic_name} partition {partition} was not assigned to us")


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
        records = Records(self._version, stored, partition)
        if records.other_version():
            raise SchemaError(self._other_layout())
        return records
