"""Whether a batch follows what its table has folded: a record must never count as folded that is not."""

from __future__ import annotations

from collections.abc import Sequence

from faust.types import TP

from tidewire.columns import Block
from tidewire.errors import SchemaError


def check_delivered(tp: TP, expected: int | None, blocks: Sequence[Block]) -> None:
    """`expected`: the offset that follows the last batch handled; None: this is the first.

    Raises:
        RuntimeError: batches were skipped; after a restart they are read again.
    """
    if expected is not None and blocks[0].start > expected:
        raise RuntimeError(f"offsets {expected}-{blocks[0].start - 1} of {tp} were not delivered")


def check_same_topic(tp: TP, folded: int, end: int | None, changelog: str) -> None:
    """`folded`: the greatest offset that the table has folded, plus 1; `end`: of the partition, if known.

    Raises:
        SchemaError: the topic is not the one that the table was folded from.
    """
    if end is not None and folded > end:
        raise SchemaError(
            f"the table has folded {tp.topic} partition {tp.partition} up to offset {folded}, but the topic "
            f"ends at {end}: it was deleted and made again. Delete {changelog} too, or use another "
            "TIDEWIRE_TOPIC_PREFIX."
        )
