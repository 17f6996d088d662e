"""What a fold did with a batch."""

from __future__ import annotations

from dataclasses import dataclass

from processors.columns.matrix import Ints, Rows


@dataclass(frozen=True, slots=True)
class Closed:
    """States of rows at the end of an interval of event time, in the order in which they were reached."""

    rows: Rows
    words: Ints


@dataclass(frozen=True, slots=True)
class Folded:
    """`touched`: rows of the batch, whether new or repeated. Applied records include the late ones.

    `closed` must be sent before any newer state of its rows.
    """

    touched: Rows
    applied: int
    repeated: int
    late: int = 0
    closed: tuple[Closed, ...] = ()
