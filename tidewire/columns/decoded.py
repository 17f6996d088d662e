"""What becomes of the records of some blocks: rows, or refusals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import polars as pl

Offsets = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Refused:
    """One record that cannot be read, as Kafka holds it (null key or value: None), and why."""

    offset: int
    key: bytes | None
    value: bytes | None
    timestamp_ms: int
    reason: str


@dataclass(frozen=True, slots=True)
class Decoded:
    """Rows and their offsets, in offset order, and what was refused. `bisected`: the slow way was taken."""

    frame: pl.DataFrame
    offsets: Offsets
    refused: list[Refused] = field(default_factory=list)
    bisected: bool = False


def joined(parts: Sequence[Decoded]) -> Decoded:
    """The same records as one, of parts that follow each other."""
    return Decoded(
        pl.concat([part.frame for part in parts], rechunk=True),
        np.concatenate([part.offsets for part in parts]),
        [refused for part in parts for refused in part.refused],
        any(part.bisected for part in parts),
    )
