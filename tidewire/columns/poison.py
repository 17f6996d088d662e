"""When dead letters stop being an accident: so many that the program must be wrong, not the data."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from tidewire.errors import PoisonLimitError

WINDOW = 10_000
SHARE = 0.05
FEWEST = 100
IN_A_ROW = 100


class PoisonLimit:
    """Counts sound and refused records of one topic, in the order in which they were read."""

    def __init__(self, topic: str) -> None:
        self._topic = topic
        self._runs: deque[tuple[bool, int]] = deque()
        self._size = self._refused = self._row = 0

    def observe(self, sound: int, refused: Iterable[int] = ()) -> None:
        """Add a batch: how many sound records it has, and before how many of them each refused one stood.

        Raises:
            PoisonLimitError: 100 refused in a row, or more than 5% (at least 100) of the last 10,000.
        """
        seen = 0
        for before in sorted(refused):
            self._add(False, before - seen)
            seen = before
            self._add(True, 1)
        self._add(False, sound - seen)

    def _add(self, refused: bool, count: int) -> None:
        if not count:
            return
        self._row = self._row + count if refused else 0
        self._runs.append((refused, count))
        self._size, self._refused = self._size + count, self._refused + count * refused
        self._forget()
        if self._row >= IN_A_ROW or self._refused > max(FEWEST - 1, SHARE * WINDOW):
            raise PoisonLimitError(
                f"{self._refused} of the last {self._size} records of {self._topic} were refused "
                f"({self._row} in a row). That is more than broken data explains: nothing more is taken "
                f"from the topic. Look at {self._topic}.dlq (`tidewire tail {self._topic}.dlq`): each record "
                "there says why. After an upgrade, check that producer and reader have the same schemas."
            )

    def _forget(self) -> None:
        while self._size > WINDOW:
            refused, count = self._runs.popleft()
            dropped = min(count, self._size - WINDOW)
            self._size, self._refused = self._size - dropped, self._refused - dropped * refused
            if count > dropped:
                self._runs.appendleft((refused, count - dropped))
