"""Whole record batches out of aiokafka's fetcher, without a Python object a record.

aiokafka turns every record into a ConsumerRecord (1.6-1.9 us) before anyone has looked at it. For the topics
named to `read_blocks` its consumers yield one `Block` a record batch instead; positions, waiting, rebalances
and CRC checks stay aiokafka's. Two names of its fetcher module are replaced for that, at the first call and
not at import, and only in the version that was compared line by line; with any other version the consumers
go on yielding ConsumerRecords, and `as_blocks` makes blocks of those: the same results, slower.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import aiokafka
from aiokafka import codec
from aiokafka.consumer import fetcher
from aiokafka.errors import CorruptRecordException
from aiokafka.record.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder

from tidewire.columns.native.crc import crc32c

COMPARED = "0.14."
HEADER = 61
"""Bytes of a v2 record batch before its first record."""
_MAGIC, _CRC, _COUNT = 16, 17, 57
_CODEC = 22  # the byte of a batch header whose lowest three bits name the compression
_DECOMPRESS = [bytes, codec.gzip_decode, codec.snappy_decode, codec.lz4_decode, codec.zstd_decode]

_log = logging.getLogger(__name__)
_topics: set[str] = set()


@dataclass(frozen=True, slots=True)
class Block:
    """One record batch as it was fetched.

    `base` is the offset that the records' deltas count from; `start` the first offset wanted (greater than
    `base` when the fetch began inside the batch); `last` the last offset; `count` the records in it, those
    before `start` included; `timestamp_ms` the newest Kafka timestamp; `raw` the batch with its header.
    """

    base: int
    start: int
    last: int
    count: int
    timestamp_ms: int
    raw: memoryview


def read_blocks(topics: Iterable[str]) -> None:
    """From now on aiokafka consumers of this process yield Blocks for these topics, where that is possible.

    Call it before the consumers start and pass what they yield through `as_blocks`.
    """
    _topics.update(topics)
    if fetcher.PartitionRecords is BlockRecords:
        return
    if not aiokafka.__version__.startswith(COMPARED):
        _log.warning(
            "aiokafka %s is not the %sx that whole batches are read from: reading record by record",
            aiokafka.__version__,
            COMPARED,
        )
        return
    fetcher.MemoryRecords, fetcher.PartitionRecords = _KeepRaw, BlockRecords


def as_blocks(values: Sequence[Any]) -> list[Block]:
    """What a consumer of one partition yielded, as Blocks: unchanged, or made from ConsumerRecords."""
    blocks: list[Block] = []
    plain: list[Any] = []
    for value in values:
        if isinstance(value, Block):
            blocks.append(value)
        else:
            plain.append(value)
    if plain:
        blocks.append(_from_records(plain))
    return blocks


def _from_records(records: list[Any]) -> Block:
    """One uncompressed record batch of records that follow each other in one partition."""
    base = records[0].offset
    builder = DefaultRecordBatchBuilder(
        magic=2,
        compression_type=0,
        is_transactional=0,
        producer_id=-1,
        producer_epoch=-1,
        base_sequence=-1,
        batch_size=1 << 30,
    )
    for record in records:
        headers = list(record.headers)
        builder.append(record.offset - base, max(record.timestamp, 0), record.key, record.value, headers)
    newest = max(record.timestamp for record in records)
    raw = base.to_bytes(8, "big") + bytes(builder.build())[8:]
    return Block(base, base, records[-1].offset, len(records), newest, memoryview(raw))


def body(block: Block) -> bytes:
    """The records of a batch, decompressed. A broken one raises whatever its decompressor does."""
    found: bytes = _DECOMPRESS[block.raw[_CODEC] & 7](block.raw[HEADER:])
    return found


def records_at(blocks: Sequence[Block], offsets: Sequence[int]) -> list[Any]:
    """The records at these ascending offsets, with `offset`, `key`, `value` and `timestamp`."""
    wanted = set(offsets)
    holding = [b for b in blocks if any(b.base <= offset <= b.last for offset in offsets)]
    return [r for b in holding for r in DefaultRecordBatch(bytes(b.raw)) if r.offset in wanted]


class _KeepRaw:
    """aiokafka's MemoryRecords (compiled) hides the bytes that it reads; this keeps them beside it."""

    def __init__(self, data: bytes) -> None:
        inner = _MemoryRecords(data)
        self.raw = data
        self.has_next = inner.has_next
        self.next_batch = inner.next_batch
        self.size_in_bytes = inner.size_in_bytes


_MemoryRecords = fetcher.MemoryRecords


class BlockRecords(fetcher.PartitionRecords):  # type: ignore[misc]  # aiokafka is untyped
    """One partition's part of a fetch response: yields Blocks for the topics named to `read_blocks`."""

    next_fetch_offset: int

    def _unpack_records(self) -> Iterator[Any]:
        # Leaving out aborted transactions is done record by record: aiokafka does it, as_blocks() follows.
        if self._tp.topic in _topics and self._isolation_level == fetcher.READ_UNCOMMITTED:
            return self._blocks()
        records: Iterator[Any] = super()._unpack_records()
        return records

    def _blocks(self) -> Iterator[Block]:
        view, position = memoryview(self._records.raw), 0
        while self._records.has_next():
            batch = self._records.next_batch()
            end = position + 12 + int.from_bytes(view[position + 8 : position + 12], "big")
            raw, position = view[position:end], end
            if raw[_MAGIC] != 2 or (self._check_crcs and not _is_whole(batch, raw)):
                raise CorruptRecordException(f"not a sound v2 record batch - {self._tp}")
            start = self.next_fetch_offset
            # Before the yield: aiokafka takes the position from here after each block.
            self.next_fetch_offset = max(start, batch.next_offset)
            count = int.from_bytes(raw[_COUNT : _COUNT + 4], "big")
            if count and batch.next_offset > start and not batch.is_control_batch:
                yield Block(batch.base_offset, start, batch.next_offset - 1, count, batch.max_timestamp, raw)


def _is_whole(batch: Any, raw: memoryview) -> bool:
    """Whether the bytes of a batch have the checksum that its header says."""
    native = crc32c()
    if native is None:
        whole: bool = batch.validate_crc()
        return whole
    return native(raw[_CRC + 4 :]) == int.from_bytes(raw[_CRC : _CRC + 4], "big")
