"""What an opening balance contains: which executions and activities the broker had counted by then. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from processors.portfolio.actions import Action
from processors.portfolio.executions import Execution
from processors.portfolio.history import Kept
from schemas import activity
from schemas.event_id import plain_quantity

SETTLED_NS = 60_000_000_000
"""Fills older than the cursor by more than this are contained; within it only those that are listed."""

_MILLISECOND = 1_000_000


@dataclass(frozen=True, slots=True)
class Reach:
    """How far a snapshot reaches: when it was asked for (ns), the time of its cursor in ns (None: the account
    had no fill yet), and the fills of the minute before, as `order id:cumulative quantity`.

    The cursor is that of a fill, and busts and corrections are not listed: one is contained if it happened
    before the cursor, or was received before the snapshot was asked for. Activities that are no fills are
    contained if they are listed or were received before: the producer looks for them before it asks.
    """

    cursor: str | None
    cursor_ts: int | None
    asked_ts: int
    listed: frozenset[str]
    activities: frozenset[str] = frozenset()

    def contains(self, execution: Execution) -> bool:
        """Whether the snapshot's balance has this execution in it."""
        if execution.kind != "fill":
            happened = self.cursor_ts is not None and execution.ts < self.cursor_ts + _MILLISECOND
            return happened or execution.received_ts <= self.asked_ts
        settled = self.cursor_ts is not None and execution.ts < self.cursor_ts - SETTLED_NS
        return settled or name_of(execution) in self.listed

    def has(self, one: Kept) -> bool:
        """Whether the snapshot's balance has it in it, whatever it is."""
        return self.contains(one) if isinstance(one, Execution) else self.holds(one)

    def holds(self, action: Action) -> bool:
        """Whether the snapshot's balance has this activity in it."""
        return action.received_ts <= self.asked_ts or (
            not action.revises and action.activity in self.activities
        )


def reach_of(snapshot: Mapping[str, Any]) -> Reach:
    """The reach of one decoded `account_snapshot` record.

    Raises:
        ValueError: its cursor does not begin with a time.
    """
    cursor = snapshot["activity_cursor"]
    listed = frozenset(snapshot["contained_fills"])
    moment = None if cursor is None else activity.moment(cursor)
    activities = frozenset(snapshot["contained_activities"] or ())
    return Reach(cursor, moment, snapshot["ts"], listed, activities)


def name_of(execution: Execution) -> str:
    """How a snapshot names a fill."""
    return f"{execution.order_id}:{plain_quantity(execution.cumulative)}"
