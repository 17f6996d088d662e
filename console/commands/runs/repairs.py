"""What is still to be found again when a market closes: waited for, up to a bound, or named. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from console.screen.completeness import Tracker
from console.screen.completeness_panel import groups
from console.screen.state import Observation

PATIENCE_SECONDS = 60.0
"""Without any progress of the open gaps for so long, they are named instead."""
AUDIT_SECONDS = 180.0
"""A minute is audited once it is final: so long at most is waited for the minutes of dropped trades."""


@dataclass(slots=True)
class Repairs:
    """Judges whether all gaps are closed. `dropped`: symbol and time of trades lost in silence."""

    dropped: frozenset[tuple[str, int]] = frozenset()
    patience_seconds: float = PATIENCE_SECONDS
    audit_seconds: float = AUDIT_SECONDS
    left: tuple[str, ...] = ()
    """What is still open, in words."""
    _began: float | None = None
    _moved_at: float = 0.0
    _states: object = field(default=None)

    def judge(self, seen: Observation, unaudited: Iterable[tuple[str, int]] = ()) -> bool:
        """Take the next observation, and those of `dropped` that wait for an audit; True: wait no longer."""
        if seen.completeness is None:
            return True
        missing = self.dropped & frozenset(unaudited)
        states = [(gap.id, gap.ts) for gap in seen.completeness.open]
        if self._began is None:
            self._began = seen.at
        if states != self._states:
            self._states, self._moved_at = states, seen.at
        self.left = _words(seen, len(missing))
        if not states and not missing:
            return True
        stuck = seen.at - self._moved_at >= self.patience_seconds
        late = seen.at - self._began >= self.audit_seconds
        return late or (stuck and not missing)


def unaudited(tracker: Tracker, feed: str, dropped: Iterable[tuple[str, int]]) -> list[tuple[str, int]]:
    """Those of the dropped trades (symbol, event time in ns) whose minute was not found equal yet."""
    return [(s, ts) for s, ts in dropped if not tracker.audited(feed, "trades", s, ts)]


def _words(seen: Observation, missing: int) -> tuple[str, ...]:
    assert seen.completeness is not None
    gaps = [
        f"{parts[0].feed} {parts[0].channel} ({parts[0].reason}): {_progress(parts[0].lasts)}, "
        f"{sum(g.published for g in parts):,} of {sum(g.found for g in parts):,} published"
        for parts in groups(seen.completeness.open)
    ]
    return (*gaps, *([f"{missing} dropped trades whose minutes are not audited yet"] if missing else []))


def _progress(lasts: bool) -> str:
    return "not over" if lasts else "being fetched"
