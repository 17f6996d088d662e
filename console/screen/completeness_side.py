"""The screen's view of completeness: follows connections, gaps and audits."""

from __future__ import annotations

from collections.abc import Sequence

from console.screen.completeness import Tracker
from console.screen.follower import Decode, Follower
from tidewire.config import Settings

_KEPT = 2_000


class CompletenessSide(Follower):
    """`topics`: those of connections, gaps and audits. What it reads goes into `tracker`."""

    def __init__(self, settings: Settings, topics: Sequence[str], decode: Decode) -> None:
        self.tracker = tracker = Tracker()
        takes = {"connection": tracker.connection, "gap": tracker.gap, "audit": tracker.audit}
        super().__init__(settings, topics, decode, _KEPT, takes)
