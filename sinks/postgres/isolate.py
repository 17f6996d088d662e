"""Which rows does PostgreSQL refuse? Pure: the attempt to write some rows is passed in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tidewire.errors import PoisonLimitError


class RowRefusedError(Exception):
    """Some row of an attempt was refused; `line` is its place in the attempt when PostgreSQL said so."""

    def __init__(self, line: int | None, error: str, reason: str) -> None:
        super().__init__(reason)
        self.line, self.error, self.reason = line, error, reason


@dataclass(frozen=True, slots=True)
class Bad:
    """A row that is refused also when it comes alone."""

    index: int
    error: str
    reason: str


Attempt = Callable[[int, int], int]
"""Writes rows [start, stop) or none of them, returns how many were new; raises RowRefusedError."""


def isolate(count: int, attempt: Attempt, limit: int) -> tuple[int, list[Bad]]:
    """Write all of `count` rows that can be written, in order; returns how many were new, and the others.

    Takes PostgreSQL's word for where to cut, but a row is bad only when it fails alone.

    Raises:
        PoisonLimitError: more than `limit` rows are bad.
    """
    new, bad = 0, list[Bad]()
    todo = [(0, count)] if count else []
    while todo:
        start, stop = todo.pop()
        try:
            new += attempt(start, stop)
        except RowRefusedError as refused:
            if stop - start > 1:
                todo += reversed(_cut(start, stop, refused.line))
                continue
            bad.append(Bad(start, refused.error, refused.reason))
            if len(bad) > limit:
                raise PoisonLimitError(
                    f"PostgreSQL refuses more than {limit} of {count} rows, the first: {bad[0].reason}"
                ) from refused
    return new, bad


def _cut(start: int, stop: int, line: int | None) -> list[tuple[int, int]]:
    """The parts to try next: before, the suspect, after; or halves when nothing is known."""
    if line is None or not 0 <= line < stop - start:
        middle = (start + stop) // 2
        return [(start, middle), (middle, stop)]
    suspect = start + line
    parts = [(start, suspect), (suspect, suspect + 1), (suspect + 1, stop)]
    return [(a, b) for a, b in parts if a < b]
