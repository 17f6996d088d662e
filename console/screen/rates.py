"""Events a second from growing totals, over the last few seconds: pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence

WINDOW_SECONDS = 3.0


class Rates:
    """Keeps the totals of the last `window` seconds and gives the slope between the oldest and the newest."""

    def __init__(self, names: Sequence[str], window: float = WINDOW_SECONDS) -> None:
        self._names = names
        self._window = window
        self._kept: deque[tuple[float, dict[str, int]]] = deque()

    def add(self, now: float, totals: Mapping[str, int]) -> dict[str, float]:
        """Take the totals at `now` (seconds) and give the rates; a total that shrank counts as 0."""
        self._kept.append((now, dict(totals)))
        while len(self._kept) > 2 and self._kept[1][0] <= now - self._window:
            self._kept.popleft()
        then, before = self._kept[0]
        if now <= then:
            return dict.fromkeys(self._names, 0.0)
        return {name: max(0, totals[name] - before[name]) / (now - then) for name in self._names}
