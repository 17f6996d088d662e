"""The records of watched symbols out of blocks of prices; of all others only the key is looked at. Pure.

So each record is judged for itself, and one that nobody watches may be broken. Ordinary batches are read by
whole.py, which gives the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Set
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aiokafka.record.default_records import DefaultRecordBatch

from processors.columns.single import Single, read_single
from processors.exits import ticks
from processors.exits.coordinates import Coordinates
from processors.exits.whole import WholeReader
from schemas.codec import Codec, Record
from tidewire.columns import Block
from tidewire.fence import REASON

if TYPE_CHECKING:
    from processors.exits.desk import Desk


@dataclass(frozen=True, slots=True)
class Read:
    """What was found in a block: wanted records in the order of their offsets, and how many were left out.

    `newest` is the last record of the block, with its offset, where nobody watches its symbol: it tells how
    far the market is, and who writes. None: it is among `singles`, or cannot be read.
    """

    singles: list[Single]
    skipped: int
    newest: tuple[int, Record] | None


class PriceReader:
    """Reads one kind of prices; `stem` is its schema."""

    def __init__(self, codec: Codec, stem: str) -> None:
        self._codec, self._stem = codec, stem
        self.whole = WholeReader(codec, stem)
        """Reads what is ordinary, a batch at a time."""

    def __call__(self, block: Block, watched: Set[bytes]) -> Read:
        """The records whose key is watched, decoded or refused with a reason."""
        try:
            records = [r for r in DefaultRecordBatch(bytes(block.raw)) if r.offset >= block.start]
        except Exception as error:  # a decompressor's or the unpacker's own
            reason = f"record batch of offsets {block.base}-{block.last} cannot be unpacked: {error!r}"
            return Read([Single(block.start, None, bytes(block.raw), None, reason)], 0, None)
        singles = [self._wanted(record) for record in records if record.key in watched]
        newest = records[-1] if records and records[-1].key not in watched else None
        return Read(singles, len(records) - len(singles), self._sound(newest))

    def _wanted(self, record: Any) -> Single:
        single = read_single(record, self._codec, self._stem)
        if single.record is None:
            return single
        if single.key != single.record["symbol"].encode():
            return single.refuse("its key is not its symbol")
        reason = ticks.refusal(self._stem, single.record)
        return single if reason is None else single.refuse(reason)

    def _sound(self, record: Any) -> tuple[int, Record] | None:
        found = None if record is None else self._wanted(record)
        return None if found is None or found.record is None else (found.offset, found.record)


def fold(desk: Desk, stem: str, found: Read, topic: str, partition: int) -> Iterator[str]:
    """Fold what was read of a block; yields what the fold says of each."""
    fence = desk.records.fences[topic]
    for single in found.singles:
        if single.record is None:
            continue
        if fence.stale(single.record, single.offset):
            yield REASON
        else:
            yield ticks.fold(desk.exits, stem, single.record, Coordinates(topic, partition, single.offset))
    if found.newest is not None:
        offset, record = found.newest
        if not fence.stale(record, offset):
            desk.exits.tick(record["ts"], Coordinates(topic, partition, offset))
