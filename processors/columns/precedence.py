"""Which partitions may be read: topics named first, to where they end, before others of the same number."""

from __future__ import annotations

from collections.abc import Callable, Set

from faust.types import TP

Place = Callable[[TP], tuple[int, int] | None]
"""Up to where a partition was read and where it ends, as offsets; None: not known yet."""


class Precedence:
    """After each assignment and seek (`begin`). The first topics' records may be in several answers, and of
    several brokers, while the others' are in the first.
    """

    def __init__(self) -> None:
        self._ends: dict[TP, int] = {}
        self._caught_up: set[TP] = set()

    def begin(self) -> None:
        """What is read from now on may have been read before, or be new to us."""
        self._ends.clear()
        self._caught_up.clear()

    def due(self, active: set[TP], first: Set[str], others: Set[str], place: Place) -> set[TP]:
        """`active` without those of `others` whose number is still behind: its partitions of the `first`
        topics are not read up to where they ended when we first knew."""
        late = {tp.partition for tp in active if tp.topic in first and not self._is_caught_up(tp, place)}
        return {tp for tp in active if tp.partition not in late or tp.topic not in others} if late else active

    def _is_caught_up(self, tp: TP, place: Place) -> bool:
        if tp in self._caught_up:
            return True
        found = place(tp)
        if found is None:
            return False
        position, end = found
        if position < self._ends.setdefault(tp, end):
            return False
        self._caught_up.add(tp)
        return True
