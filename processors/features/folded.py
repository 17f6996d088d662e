"""What a fold did with a batch."""

from __future__ import annotations

from dataclasses import dataclass

from processors.columns.matrix import Rows


@dataclass(frozen=True, slots=True)
class Folded:
    """`touched`: rows of the batch, whether new or repeated. Applied records include the late ones."""

    touched: Rows
    applied: int
    repeated: int
    late: int = 0
