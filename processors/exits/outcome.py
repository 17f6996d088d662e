"""What a fold of inputs has led to, for the shell to write. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

APPLIED, DUPLICATE, LATE, UNWATCHED, STALE, REFUSED = (
    "applied",
    "duplicate",
    "late",
    "unwatched",
    "stale",
    "refused",
)
"""What became of one input. late: older than what is known of its symbol; stale: of a former epoch."""


@dataclass(slots=True)
class Outcome:
    """Since the last `take`. Order of writing: `rows`, acknowledged; `triggers`; intents; the rest at a
    commit.

    `triggers`: exit_trigger records (state pending when made, sent after `result_published`).
    `events`: exit_event records. `changed`: keys of `rows`.
    `rows`: table rows (as `Records` would write them) of triggers that must be durable before their intents
    go out; all other rows come with `Records.take_changed` at a commit. Events go out before that commit.
    """

    triggers: list[dict[str, Any]] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)
    rows: dict[bytes, bytes] = field(default_factory=dict)

    @property
    def changed(self) -> tuple[bytes, ...]:
        """Keys of the rows to write through."""
        return tuple(self.rows)

    def __bool__(self) -> bool:
        return bool(self.triggers or self.events or self.rows)
