"""One partition as the exits service holds it: its fold, and what is not yet sent of what came out. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from processors.columns.records import Records
from processors.exits.fold import PartitionExits
from processors.exits.hours import Hours
from processors.exits.turns import Turns
from schemas.codec import Record

Trigger = dict[str, Any]


class Desk:
    """Lives as long as its part of the table; a rebalance makes another.

    A new desk publishes every pending trigger that it finds: a crash may have come before its intent.
    """

    def __init__(self, partition: int, records: Records, hours: Hours) -> None:
        self.partition, self.records = partition, records
        self.exits = PartitionExits(records, hours)
        self.turns = Turns()
        self.unsent: dict[str, Trigger] = {t["trigger_id"]: t for t in self.exits.pending()}
        self.recovered = len(self.unsent)
        self.rows: dict[bytes, bytes] = {}
        """Rows that must be durable before triggers go out; those of a trigger found again are."""
        self.symbols: frozenset[str] = frozenset()
        self.watched: frozenset[bytes] = frozenset()
        self.look()

    def look(self) -> None:
        """What is watched may have changed."""
        self.symbols = frozenset(self.exits.watched())
        self.watched = frozenset(symbol.encode() for symbol in self.symbols)

    def bulletin(self, stem: str, record: Record) -> None:
        """A gap or the state of a connection."""
        if stem == "gap":
            self.exits.gap(record)
        else:
            self.exits.connection(record)

    def collect(self) -> tuple[list[Trigger], list[dict[str, Any]]]:
        """Take what the fold has come to; returns the new triggers and events, which now wait to be sent.

        The fold also says again what is sent: by then it stands in the log (see publishing.py).
        """
        outcome = self.exits.take()
        fired = [trigger for trigger in outcome.triggers if trigger["state"] == "pending"]
        self.rows |= outcome.rows
        self.unsent |= {trigger["trigger_id"]: trigger for trigger in fired}
        self.turns.add(outcome.events)
        return fired, outcome.events

    def take_rows(self) -> dict[bytes, bytes]:
        """The rows to be written through."""
        rows, self.rows = self.rows, {}
        return rows

    def published(self, triggers: Iterable[Trigger]) -> None:
        """The intents of these triggers stand in the log."""
        for trigger in triggers:
            self.exits.result_published(trigger["trigger_id"])
            self.unsent.pop(trigger["trigger_id"], None)
