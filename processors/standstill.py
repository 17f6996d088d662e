"""Whether a worker has come to a standstill before it serves: neither ready nor any further. Pure.

Faust waits in recovery for events that other tasks set; one that is missed (a rebalance at a bad moment, a
Kafka that was killed) is waited for without end, while heartbeats keep the partitions. Whoever sees it can
only start anew. Looks are counted, not seconds: a process that was stopped and woken has missed one look.
"""

from __future__ import annotations

LOOKS = 360
"""At two looks a second three minutes: a join takes seconds, and a recovery that goes on is seen to read."""


class Standstill:
    """Counts looks without any change."""

    def __init__(self, looks: int = LOOKS) -> None:
        self._looks, self._same, self._before = looks, 0, object()

    def look(self, serving: bool, progress: object) -> bool:
        """Whether it stands still.

        `serving`: it is ready, or waits for a Kafka that does not answer. `progress`: whatever changes as
        long as it gets any further.
        """
        self._same = self._same + 1 if not serving and progress == self._before else 0
        self._before = progress
        return self._same >= self._looks
