"""What a worker holds of a table's changelog, by partition: of those served and of those stood by for.

Faust's own memory store never says how far it has read and forgets standby keys after every recovery, so that
a standby that takes over replays the whole changelog. This one knows the last offset that it holds of each
partition: read from the changelog, or written to it by this worker and acknowledged.

It also knows whose rows count. A worker that stood still between its last look at the group and its write
puts older rows behind those of the partition's next owner. Each owner's first batch therefore begins with
its mark: from there on the rows of any other producer are left out (see ownership.py).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from aiokafka.record.default_records import DefaultRecordBatch
from faust.stores import memory
from faust.types import TP

from processors.columns.matrix import FENCES
from processors.columns.ownership import MARK, Mark, Ownership
from tidewire.columns import Block

NOTHING = -1
"""The last offset of a partition that nothing is held of."""


class StandbyStore(memory.Store):  # type: ignore[misc]  # Faust is untyped
    """Rows by partition. `applied` is told of each batch taken from the changelog: partition and records."""

    def __init__(self, *args: Any, applied: Callable[[TP, int], None], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._applied = applied

    def __post_init__(self) -> None:
        super().__post_init__()
        self._rows: defaultdict[int, dict[bytes, bytes]] = defaultdict(dict)
        self._last: dict[int, int] = {}
        self._owners: defaultdict[int, Ownership] = defaultdict(Ownership)
        self._spoilt: dict[int, set[bytes]] = {}  # keys of rows that do not count, if known

    def persisted_offset(self, tp: TP) -> int:
        """Last changelog offset that is held, NOTHING if there is none.

        Never None: Faust would then go on from what it remembers of the partition, not from what is held.
        """
        return self._last.get(tp.partition, NOTHING)

    def set_persisted_offset(self, tp: TP, offset: int) -> None:
        """The changelog is held up to here: what this worker itself wrote was acknowledged."""
        self._last[tp.partition] = offset

    def apply_changelog_batch(
        self, batch: Iterable[Any], to_key: Callable[[Any], Any], to_value: Callable[[Any], Any]
    ) -> None:
        """Take events of whole record batches; what is held already, or not ours to hold, is left out.

        Faust's recovery gives an event of a partition that was just given away to whichever table came last.
        """
        recovery = self.app.tables.recovery
        for event in batch:
            tp = event.message.tp
            ours = tp in recovery.active_tps or tp in recovery.standby_tps
            if ours and tp.topic == self.table.changelog_topic_name:
                self._applied(tp, self._take(tp.partition, event.value))

    def _take(self, partition: int, blocks: list[Block]) -> int:
        rows, owner, taken = self._rows[partition], self._owners[partition], 0
        held = self._last.get(partition, NOTHING)
        for block in blocks:
            if block.last <= held:
                continue
            batch = DefaultRecordBatch(bytes(block.raw))
            for record in batch:
                if record.offset <= held:
                    continue
                taken += 1
                key = bytes(record.key)
                if key == MARK:
                    owner.see(Mark.read(bytes(record.value)), batch.producer_id)
                elif not owner.counts(batch.producer_id):
                    self._spoilt.setdefault(partition, set()).add(key)
                elif record.value is None:
                    rows.pop(key, None)
                else:
                    rows[key] = bytes(record.value)
            held = self._last[partition] = block.last
        return taken

    def next_mark(self, partition: int, generation: int) -> Mark:
        """The mark that an owner of this generation of the group begins with."""
        return self._owners[partition].next(generation)

    def own(self, partition: int, mark: Mark, producer_id: int) -> None:
        """This worker's mark is in the changelog, written by that producer."""
        self._owners[partition].see(mark, producer_id)

    def spoil(self, partition: int) -> None:
        """Rows of somebody else stand behind ours; of which keys is not known."""
        self._spoilt.setdefault(partition, set())

    def mend(self, partition: int) -> None:
        """Every row has been written once more."""
        self._spoilt.pop(partition, None)

    def spoilt(self, partition: int) -> bool:
        """Whether older rows stand behind newer ones: compaction would keep those, so all are to be written
        once more.
        """
        return partition in self._spoilt

    def whole(self, partition: int) -> dict[bytes, bytes | None]:
        """Everything held of a partition, and None for what only rows hold that do not count."""
        return dict.fromkeys(sorted(self._spoilt.get(partition, ()))) | self._rows.get(partition, {})

    def forget(self, partitions: Iterable[int]) -> None:
        """Drop partitions: if one comes back it is read again from the changelog."""
        for partition in list(partitions):
            self._rows.pop(partition, None)
            self._last.pop(partition, None)
            self._owners.pop(partition, None)
            self._spoilt.pop(partition, None)

    async def on_recovery_completed(self, active_tps: set[TP], standby_tps: set[TP]) -> None:
        """Keep what this worker serves or stands by for."""
        keep = {tp.partition for tp in active_tps | standby_tps}
        self.forget((self._rows.keys() | self._last.keys()) - keep)

    def put(self, partition: int, rows: Mapping[bytes, bytes | None]) -> None:
        """Rows of a partition, as they go to its changelog; None deletes."""
        held = self._rows[partition]
        for key, value in rows.items():
            if value is None:
                held.pop(key, None)
            else:
                held[key] = value

    def count(self, partition: int) -> int:
        """Keys held of a partition."""
        held = self._rows.get(partition, {})
        return len(held) - (FENCES + str(partition).encode() in held)

    def rows(self, partition: int) -> dict[bytes, bytes]:
        """Everything held of a partition."""
        return dict(self._rows.get(partition, {}))
