"""When a finite run is over: a pure judgement of one observation after the other."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from console.screen.channels import CHANNELS
from console.screen.state import Observation

Verdict = Literal["running", "drained", "stuck"]

QUIET_SECONDS = 5.0
"""The topics hold less than was published: after so long without growth nothing more is expected to come."""

PATIENCE_SECONDS = 60.0
"""Without any progress for so long, the report is made as things stand."""


_READERS = ("producer", "accounts")
"""The services that read Alpaca."""


@dataclass(slots=True)
class Drain:
    """Judges whether all that was published has gone through.

    `started_at` and `stored_at` are when the tape began and when PostgreSQL last gained records, in monotonic
    seconds.
    """

    quiet_seconds: float = QUIET_SECONDS
    patience_seconds: float = PATIENCE_SECONDS
    started_at: float | None = None
    stored_at: float | None = None
    _counts: tuple[int, ...] = field(default=())
    _progress_at: float = 0.0
    _grew_at: float = 0.0
    _ended: bool = False

    def end_of_tape(self) -> None:
        """The simulator was stopped: nothing more will be published, whatever it said last."""
        self._ended = True

    def judge(self, seen: Observation) -> Verdict:
        """Take the next observation. `stuck`: not all has gone through, and nothing moves any more."""
        self._take(seen)
        if not self._is_over(seen):
            if self._playing(seen):
                self._progress_at = seen.at
        elif self._arrived(seen) and seen.sink_lag() == 0 and seen.processor_lag() == 0:
            return "drained"
        return "stuck" if seen.at - self._progress_at >= self.patience_seconds else "running"

    def _take(self, seen: Observation) -> None:
        topics = tuple(seen.topic(channel) for channel in CHANNELS)
        stored = tuple(seen.in_postgres(channel) for channel in CHANNELS)
        published = tuple(seen.simulator.published.values()) if seen.simulator is not None else ()
        counts = (*topics, *stored, *published, seen.processor_lag())
        if not self._counts or counts != self._counts:
            self._progress_at = seen.at
        size = len(CHANNELS)
        if topics != self._counts[:size]:
            self._grew_at = seen.at
        if stored != self._counts[size : 2 * size] and any(stored):
            self.stored_at = seen.at
        self._counts = counts
        if self.started_at is None and seen.simulator is not None and seen.simulator.state != "waiting":
            self.started_at = seen.at - seen.simulator.elapsed_seconds

    def _is_over(self, seen: Observation) -> bool:
        return self._ended or (seen.simulator is not None and seen.simulator.state == "finished")

    @staticmethod
    def _playing(seen: Observation) -> bool:
        """At its own pace a tape may be silent for minutes."""
        return seen.simulator is not None and seen.simulator.state == "running"

    def _arrived(self, seen: Observation) -> bool:
        """The topics hold all that was published, or are quiet and the producer holds nothing back."""
        published = seen.simulator.published if seen.simulator is not None else {}
        full = all(seen.topic(channel) >= published.get(channel, 0) for channel in CHANNELS)
        if full and not self._ended:
            return True
        # The last count of a stopped simulator may be older than its last message: half the time is enough.
        quiet = seen.at - self._grew_at >= (self.quiet_seconds / 2 if full else self.quiet_seconds)
        at_work = all(p.phase == "running" and p.ready for p in seen.processes if p.name in _READERS)
        return quiet and seen.buffered_bytes == 0 and (at_work or self._ended)
