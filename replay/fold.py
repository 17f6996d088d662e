"""A table folded from a topic's log, by the very decoders and folds of the processor; nothing is written.

Each input topic is a component of the table's rows that reads no other one's words, so the order between
topics does not matter; within a partition pieces come in the order of their offsets.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
import numpy.typing as npt
import polars as pl

from processors.columns.matrix import Ints, Matrix
from processors.columns.sound import Refusals, sound
from replay.log import Piece
from tidewire.columns import Bare, Decoded, Decoder, Refused
from tidewire.columns.owned import owned
from tidewire.fence import LogFence

KEPT_REFUSALS = 1_000
"""So many refused records are kept with their bytes; all are counted."""


class Progress(Protocol):
    """What a fold of a batch tells: `applied` records were new to their rows."""

    @property
    def applied(self) -> int:
        """Records folded."""
        ...


Keep = Callable[[str, int, pl.DataFrame, Ints], npt.NDArray[np.bool_]]
"""Topic, partition, sound records and their offsets -> which of them are to be folded."""


@dataclass(frozen=True, slots=True)
class Component:
    """How the records of one topic are decoded, refused and folded."""

    topic: str
    decode: Decoder
    refusals: Refusals
    fold: Callable[[Matrix, pl.DataFrame, Ints], Progress]
    natively: Callable[[Matrix, Bare, LogFence], Progress | None] | None = None
    """The same for batches of ordinary records of known keys; None: it is not one, nothing was folded."""


@dataclass(slots=True)
class Table:
    """The folded rows, by partition, and what became of every record that was read.

    `read` = `applied` + `stale` + `left_out` + `refused_count`.
    """

    width: int
    parts: dict[int, Matrix] = field(default_factory=dict)
    read: int = 0
    applied: int = 0
    stale: int = 0
    left_out: int = 0
    refused_count: int = 0
    refused: list[tuple[str, int, Refused]] = field(default_factory=list)
    """Topic, partition and record of the first KEPT_REFUSALS."""

    def part(self, partition: int) -> Matrix:
        """The rows of a partition."""
        if partition not in self.parts:
            self.parts[partition] = Matrix(self.width, partition=partition)
        return self.parts[partition]

    def changed(self) -> dict[int, dict[bytes, bytes]]:
        """The rows folded since the last call, by partition, as the processor's changelog has them."""
        return {partition: matrix.take_changed() for partition, matrix in self.parts.items()}

    def add(self, component: Component, piece: Piece, keep: Keep | None = None) -> None:
        """Fold one piece.

        Raises:
            OverflowError: a sum does not fit its word.
        """
        if keep is None and self._natively(component, piece):
            return
        partition = piece.at.partition
        decoded = before(sound(component.decode, component.refusals, piece.blocks), piece.end)
        self.read += len(decoded.offsets) + len(decoded.refused)
        self._refuse(piece, decoded.refused)
        matrix = self.part(partition)
        decoded, stale = owned(matrix.fences[component.topic], decoded)
        self.stale += stale
        frame, offsets = decoded.frame, decoded.offsets
        if keep is not None and len(offsets):
            wanted = keep(component.topic, partition, frame, offsets)
            self.left_out += len(offsets) - int(wanted.sum())
            frame, offsets = frame.filter(pl.Series(wanted)), offsets[wanted]
        if len(offsets):
            self.applied += component.fold(matrix, frame, offsets).applied

    def _natively(self, component: Component, piece: Piece) -> bool:
        """Whether the piece was one for the native fold, and is folded."""
        if component.natively is None or (bare := component.decode.bare(piece.blocks)) is None:
            return False
        if not bare.count or int(bare.offsets[-1]) >= piece.end:
            return False
        matrix = self.part(piece.at.partition)
        folded = component.natively(matrix, bare, matrix.fences[component.topic])
        if folded is None:
            return False
        self.read += bare.count
        self.applied += folded.applied
        return True

    def _refuse(self, piece: Piece, refused: list[Refused]) -> None:
        self.refused_count += len(refused)
        room = KEPT_REFUSALS - len(self.refused)
        self.refused += [(piece.at.topic, piece.at.partition, letter) for letter in refused[:room]]


async def fold(
    log: AsyncIterable[Piece],
    components: Mapping[str, Component],
    width: int,
    keep: Keep | None = None,
    told: Callable[[int], object] = lambda records: None,
) -> Table:
    """The table that a log gives; `components` by topic, `width` of a row in words.

    `told` is called after each piece with the number of records read so far.

    Raises:
        OverflowError: a sum does not fit its word.
        TidewireError: the log cannot be read.
    """
    table = Table(width)
    async for piece in log:
        table.add(components[piece.at.topic], piece, keep)
        told(table.read)
    return table


def before(decoded: Decoded, end: int) -> Decoded:
    """Without what comes after the end: a record batch is read whole."""
    refused = [letter for letter in decoded.refused if letter.offset < end]
    if not len(decoded.offsets) or int(decoded.offsets[-1]) < end:
        return replace(decoded, refused=refused)
    wanted = decoded.offsets < end
    frame = decoded.frame.filter(pl.Series(wanted))
    return replace(decoded, frame=frame, offsets=decoded.offsets[wanted], refused=refused)
