"""Writes the rows of a table's partitions to its changelog, as their only owner.

A former owner that the group took for dead while it stood still may write as well. It finds out by the
offsets of what it wrote, and so does the owner: those of neither follow on each other. The group knows who is
who. The owner writes all of its rows once more, the other one forgets what it has.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import chain
from typing import Protocol

from faust.types import TP

from processors.columns.output import Output, Sent
from processors.columns.ownership import MARK, Mark
from processors.columns.store import StandbyStore
from tidewire import log
from tidewire.errors import TidewireError
from tidewire.metrics import CHANGELOG_FOREIGN, CHANGELOG_RECORDS

_ROUNDS = 3
"""So often a partition's rows are written anew because another process wrote in between, then it fails."""

_log = log.get(__name__)

Rows = Mapping[bytes, bytes | None]
"""Rows by key; None: deleted."""


class DeposedError(Exception):
    """The group gave partitions to somebody else while rows of them were being written.

    What was written does not count, nothing of it may be committed; it is done again by whoever has them.
    """


class Group(Protocol):
    """The consumer group, as far as a writer needs it."""

    def generation(self) -> int:
        """Of our membership."""
        ...

    async def is_member(self) -> bool:
        """Whether the group still counts us in."""
        ...


class ChangelogWriter:
    """Of one table. `store` holds what the changelog holds, of the partitions served and stood by for."""

    def __init__(self, name: str, topic: str, store: StandbyStore, output: Output, group: Group) -> None:
        self._name, self._topic, self._store, self._output, self._group = name, topic, store, output, group
        self.term = 0
        """Counts the rebalances: what was begun in one term is void in the next."""
        self._marked: set[int] = set()

    def new_term(self) -> None:
        """After a rebalance: what is being written is void, and the next rows begin with a new mark."""
        self.term += 1
        self._marked.clear()

    async def write(self, changed: Mapping[int, Rows], term: int, alone: bool = False) -> None:
        """Rows by partition to the changelog, then to the store; Kafka has them when this returns.

        `term`: in which the rows were taken. `alone`: do not wait for all else that is on its way to Kafka.

        Raises:
            KafkaError: something did not arrive.
            DeposedError: the group took this worker for dead, or there was a rebalance since `term`.
            TidewireError: another process keeps writing to the same partitions.
        """
        for _ in range(_ROUNDS):
            changed = await self._write(self._with_spoilt(changed), term, alone)
            if not changed:
                return
        raise TidewireError(
            f"another process keeps writing to {self._topic}, partitions {sorted(changed)}"
            ": is there a second consumer group with this TIDEWIRE_TOPIC_PREFIX?"
        )

    def _with_spoilt(self, changed: Mapping[int, Rows]) -> dict[int, Rows]:
        """With all rows of the partitions in which rows that do not count stand behind those that do.

        They go with our mark: once it has taken the place of the former one, nothing tells those rows apart.
        """
        return {
            partition: self._store.whole(partition) | dict(rows) if self._store.spoilt(partition) else rows
            for partition, rows in changed.items()
        }

    async def _write(self, changed: Mapping[int, Rows], term: int, alone: bool) -> dict[int, Rows]:
        """Once; returns the partitions of which all rows are to be written anew."""
        sent, marks = dict[int, list[Sent]](), dict[int, Mark]()
        for partition, rows in changed.items():
            if term != self.term:  # not ours to write any more, perhaps
                raise DeposedError
            records: Iterable[tuple[bytes, bytes | None]] = rows.items()
            if partition not in self._marked:
                marks[partition] = self._store.next_mark(partition, self._group.generation())
                records = chain([(MARK, bytes(marks[partition]))], records)
            sent[partition] = await self._output.write(self._topic, partition, records)
            CHANGELOG_RECORDS.labels(self._name).inc(len(rows))
        await self._arrived(sent, alone)
        ends = {partition: self._end(partition, batches) for partition, batches in sent.items()}
        await self._check_ours(term, any(foreign for _, foreign in ends.values()))
        for partition, mark in marks.items():
            self._store.own(partition, mark, self._output.producer_id)
            self._marked.add(partition)
        for partition, rows in changed.items():
            self._store.put(partition, rows)
            self._follow(partition, *ends[partition])
        return {partition: {} for partition in changed if self._store.spoilt(partition)}

    async def _arrived(self, sent: Mapping[int, list[Sent]], alone: bool) -> None:
        if not alone:
            await self._output.settle()
        for batch in (batch for batches in sent.values() for batch in batches):
            await batch.answer

    def _end(self, partition: int, sent: list[Sent]) -> tuple[int, bool]:
        """Offset of the last record of ours, and whether another process wrote between ours."""
        expected, foreign = self._store.persisted_offset(TP(self._topic, partition)) + 1, False
        for batch in sent:
            first = batch.first()
            foreign, expected = foreign or first != expected, first + batch.records
        return expected - 1, foreign

    async def _check_ours(self, term: int, foreign: bool) -> None:
        """If another process wrote too, one of us is not the owner: the group knows who.

        Raises:
            DeposedError: it is us, or there was a rebalance since.
        """
        if foreign and not await self._group.is_member():
            raise DeposedError
        if term != self.term:
            raise DeposedError

    def _follow(self, partition: int, last: int, foreign: bool) -> None:
        """Note how far the changelog is held, and whether all of our rows are to be written once more.

        They are if somebody else wrote in between: no reader counts those rows, but compaction would keep
        them in the place of ours.
        """
        tp = TP(self._topic, partition)
        self._store.set_persisted_offset(tp, last)
        if foreign:
            CHANGELOG_FOREIGN.labels(self._name).inc()
            self._store.spoil(partition)
            _log.warning("another process wrote to our changelog; its partition is written anew", at=str(tp))
        else:  # whatever was spoilt has been written whole
            self._store.mend(partition)
