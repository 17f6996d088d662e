"""Blocks read record by record, for streams of a low rate: each record decoded by the codec, or refused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aiokafka import AIOKafkaProducer
from aiokafka.record.default_records import DefaultRecordBatch

from schemas.codec import Codec, Record
from tidewire import dead_letters
from tidewire.columns import Block
from tidewire.columns.poison import PoisonLimit
from tidewire.dead_letters import DeadLetter
from tidewire.errors import RecordError

if TYPE_CHECKING:
    from faust.types import TP  # a replay folds without Faust


@dataclass(frozen=True, slots=True)
class Single:
    """One record as it stands in its partition. `record` is None where it was refused, for `reason`."""

    offset: int
    key: bytes | None
    value: bytes | None
    record: Record | None
    reason: str = ""

    def refuse(self, reason: str) -> Single:
        """The same record, given up although it could be decoded."""
        return Single(self.offset, self.key, self.value, None, reason)


def read_singles(blocks: Sequence[Block], codec: Codec, stem: str) -> list[Single]:
    """Every wanted record of the blocks, in the order of their offsets."""
    return [
        read_single(record, codec, stem)
        for block in blocks
        for record in DefaultRecordBatch(bytes(block.raw))
        if record.offset >= block.start
    ]


def read_single(record: Any, codec: Codec, stem: str) -> Single:
    """One record of aiokafka's (with offset, key and value), which must be of this schema."""
    key, value = _bytes(record.key), _bytes(record.value)
    try:
        found, decoded = codec.decode(value)
    except RecordError as error:
        return Single(record.offset, key, value, None, error.reason)
    if found != stem:
        return Single(record.offset, key, value, None, f"a {found} record where only {stem} belongs")
    return Single(record.offset, key, value, decoded)


def _bytes(value: Any) -> bytes | None:
    return None if value is None else bytes(value)


async def bury(
    producer: AIOKafkaProducer, tp: TP, stage: str, singles: Sequence[Single], poison: PoisonLimit
) -> None:
    """Dead-letter the refused among the records of a batch, before it can count as done.

    Raises:
        PoisonLimitError: more were refused than broken data explains.
        KafkaError: a dead letter did not arrive.
    """
    refused, before, sound = [], [], 0
    for single in singles:
        if single.record is None:
            refused.append(single)
            before.append(sound)
        else:
            sound += 1
    poison.observe(sound, before)
    if refused:
        await dead_letters.publish(producer, [_letter(tp, stage, single) for single in refused])


def _letter(tp: TP, stage: str, single: Single) -> DeadLetter:
    return DeadLetter(
        tp.topic,
        tp.partition,
        single.offset,
        single.key,
        single.value or b"",
        stage,
        "RecordError",
        single.reason,
    )
