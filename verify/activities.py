"""Account activities from the broker's journal to the position: booked, in the topic, in PostgreSQL.

An activity is its id and status. What it moves after the last fill is part of what the broker holds.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

from tidewire.errors import TidewireError
from verify.orders import Sent

JOURNALS = ("updates.jsonl", "state.jsonl")
"""Files of the simulated broker, in the folder of its journal."""


class Activity(NamedTuple):
    """One activity that is no fill, in one status (empty: as it was booked)."""

    id: str
    status: str = ""


@dataclass(frozen=True, slots=True)
class Booked:
    """One that the simulated broker booked for account number `number` at `ts` (ns): it moved `quantity`."""

    activity: Activity
    number: int
    symbol: str
    quantity: Decimal
    ts: int


@dataclass(frozen=True, slots=True)
class ActivityOutcome:
    """How many are where, and what is wrong in words. `sent` None: nobody knows."""

    sent: int | None = None
    topic: int = 0
    postgres: int = 0
    missing: int = 0
    extra: int = 0
    problems: tuple[str, ...] = ()

    def as_json(self) -> dict[str, dict[str, int | None]]:
        """As a channel of the report."""
        counts = {"sent": self.sent, "topic": self.topic, "table": None, "postgres": self.postgres}
        zeros = dict.fromkeys(("duplicates", "filtered", "late", "dead_lettered", "unrecoverable"), 0)
        return {"account_activities": {**counts, **zeros, "missing": self.missing, "extra": self.extra}}


def read_journal(folder: Path) -> tuple[Booked, ...]:
    """What the simulated broker booked; a last line that was cut off never happened.

    Raises:
        TidewireError: a line in the middle is broken.
    """
    found: dict[str, Booked] = {}
    for path in (folder / name for name in JOURNALS):
        if path.is_file():
            for entry in _entries(path):
                found |= {one.activity.id: one for one in _booked(entry)}
    return tuple(found.values())


def _entries(path: Path) -> Iterator[Mapping[str, Any]]:
    lines = path.read_bytes().split(b"\n")
    for number, line in enumerate(lines[:-1], 1):
        if b'"activities"' not in line and b'"transfer"' not in line:
            continue
        try:
            yield json.loads(line)
        except ValueError as error:
            raise TidewireError(f"{path} is broken in line {number}: {error!r}") from error


def _booked(entry: Mapping[str, Any]) -> Iterator[Booked]:
    changed = entry.get("state") or entry.get("changed") or {}
    posted = [(n, body, kept) for n, body, kept in changed.get("activities", ())]
    posted += [(entry["account"], entry["transfer"], None)] if "transfer" in entry else []
    times = {body.get("group_id"): kept["at"] for _, body, kept in posted if kept and body.get("group_id")}
    for number, body, kept in posted:
        split = body["activity_type"] == "SPLIT"
        quantity = body.get("qty") if split else kept["amount"] if kept else "0"
        at = kept["at"] if kept else times.get(body.get("group_id"), 0)
        symbol = kept["symbol"] if kept else body.get("symbol") or ""
        yield Booked(Activity(body["id"]), number, symbol, Decimal(quantity or 0), at)


def after_fills(sent: Sent, booked: Iterable[Booked]) -> Sent:
    """The broker's positions with what activities moved after the last fill of each."""
    positions = dict(sent.positions)
    for one in booked:
        key = one.number, one.symbol
        if one.quantity and one.ts >= sent.position_times.get(key, 0):
            positions[key] = positions.get(key, Decimal(0)) + one.quantity
    return replace(sent, positions=positions)


def compare(
    booked: Iterable[Booked] | None, topic: Iterable[Activity], rows: Iterable[Activity], limit: int = 10
) -> ActivityOutcome:
    """Hold each place against the one before it; at most `limit` differences of a kind are named."""
    there, stored = Counter(topic), Counter(rows)
    problems: list[str] = []
    missing = extra = 0
    if booked is not None:
        names = {activity.id for activity in there}
        absent = [one.activity for one in booked if one.activity.id not in names]
        missing += len(absent)
        problems += [f"activity {a.id} was booked and is not in the topic" for a in absent[:limit]]
    repeated = there - Counter(set(there))
    unwritten, invented = Counter(set(there)) - stored, stored - there
    problems += [f"activity {a.id} is in the topic twice" for a in list(repeated)[:limit]]
    problems += [f"activity {a.id} is in the topic and not in PostgreSQL" for a in list(unwritten)[:limit]]
    problems += [f"activity {a.id} is in PostgreSQL and not in the topic" for a in list(invented)[:limit]]
    missing, extra = missing + unwritten.total(), extra + invented.total() + repeated.total()
    sent = None if booked is None else len({one.activity for one in booked})
    return ActivityOutcome(sent, there.total(), stored.total(), missing, extra, tuple(problems))
