"""Blocks -> columns that may be folded, and everything else as dead letters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from aiokafka import AIOKafkaProducer

from tidewire import dead_letters
from tidewire.columns import Block, Decoded, Refused, records_at
from tidewire.columns.poison import PoisonLimit
from tidewire.dead_letters import DeadLetter

if TYPE_CHECKING:
    from faust.types import TP  # a replay folds without Faust

Decode = Callable[[Sequence[Block]], Decoded]
"""Blocks of one partition, in order -> their rows; a `Decoder`, as a rule."""

Refusals = Callable[[pl.DataFrame], dict[int, str]]
"""Position and reason of each row that must not be folded."""


def sound(decode: Decode, refusals: Refusals, blocks: Sequence[Block]) -> Decoded:
    """Decode; what must not be folded becomes refused as well, with its bytes."""
    decoded = decode(blocks)
    reasons = refusals(decoded.frame) if len(decoded.offsets) else {}
    if not reasons:
        return decoded
    refused = [
        Refused(r.offset, r.key, r.value, r.timestamp, reasons[i])
        for i, r in zip(reasons, records_at(blocks, decoded.offsets[list(reasons)].tolist()), strict=True)
    ]
    keep = np.ones(len(decoded.offsets), bool)
    keep[list(reasons)] = False
    everything = sorted([*decoded.refused, *refused], key=lambda r: r.offset)
    frame = decoded.frame.filter(pl.Series(keep))
    return Decoded(frame, decoded.offsets[keep], everything, decoded.bisected)


async def bury_refused(
    producer: AIOKafkaProducer, tp: TP, stage: str, decoded: Decoded, poison: PoisonLimit
) -> None:
    """Dead-letter what was refused, before the batch can count as done.

    Raises:
        PoisonLimitError: more was refused than broken data explains.
        KafkaError: a dead letter did not arrive.
    """
    offsets = [r.offset for r in decoded.refused]
    poison.observe(len(decoded.offsets), np.searchsorted(decoded.offsets, offsets).tolist())
    if offsets:
        await dead_letters.publish(producer, [_letter(tp, stage, refused) for refused in decoded.refused])


def _letter(tp: TP, stage: str, refused: Refused) -> DeadLetter:
    value = refused.value or b""
    return DeadLetter(
        tp.topic, tp.partition, refused.offset, refused.key, value, stage, "RecordError", refused.reason
    )
