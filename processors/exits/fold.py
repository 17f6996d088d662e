"""The exits of one partition: watches, prices and what gates them are folded here, triggers come out. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from processors.columns.records import Records
from processors.exits.coordinates import Coordinates
from processors.exits.hours import Hours
from processors.exits.outcome import APPLIED, Outcome

VERSION = 1
"""Layout of the rows: `Records(VERSION, stored)`."""

Record = Mapping[str, Any]

__all__ = ["VERSION", "Coordinates", "Outcome", "PartitionExits"]


class PartitionExits:
    """The live state of one partition over the rows of its table.

    Decisions depend on the inputs in the order in which these methods are called and on event time, never on
    batches or clocks. Every method may see the same record again. Each returns what became of its input (see
    outcome.py), for the counters.
    """

    def __init__(self, records: Records, hours: Hours | None = None) -> None:
        """`hours`: hours.NewYork() unless told; hours.AlwaysOpen() for a synthetic market."""
        self.records = records
        self._hours = hours
        self._outcome = Outcome()

    @property
    def watermark(self) -> int:
        """Event time of the partition, ns since 1970 UTC; 0 before the first event."""
        return 0

    def watched(self) -> set[str]:
        """Reference symbols with at least one active watch."""
        return set()

    def pending(self) -> list[dict[str, Any]]:
        """exit_trigger records whose intents are perhaps not published."""
        return []

    def take(self) -> Outcome:
        """What came since the last call."""
        outcome, self._outcome = self._outcome, Outcome()
        return outcome

    def watch(self, record: Record | None, at: Coordinates, key: bytes = b"") -> str:
        """An exit_watch; None with its Kafka key for a tombstone."""
        return APPLIED

    def quote(
        self,
        symbol: str,
        bid: float,
        ask: float,
        bid_size: float,
        ask_size: float,
        conditions: Sequence[str],
        ts: int,
        received_ts: int,
        at: Coordinates,
        source: str = "ws",
    ) -> str:
        """A quote of a stock, an option or a pair."""
        return APPLIED

    def trade(
        self,
        symbol: str,
        price: float,
        size: float,
        conditions: Sequence[str],
        exchange: str,
        ts: int,
        received_ts: int,
        at: Coordinates,
        source: str = "ws",
        tape: str = "",
    ) -> str:
        """A trade of a stock, an option (its one condition in a sequence) or a pair (no conditions)."""
        return APPLIED

    def tick(self, ts: int, at: Coordinates) -> None:
        """Event time goes on by a symbol that nobody watches: time rules of quiet symbols need it. Optional."""

    def status(self, record: Record, at: Coordinates) -> str:
        """A stock_status; all symbols, watched or not: a halt may be older than a watch."""
        return APPLIED

    def luld(self, record: Record, at: Coordinates) -> str:
        """A stock_luld of a watched symbol; others change nothing."""
        return APPLIED

    def corporate_action(self, record: Record, at: Coordinates) -> str:
        """A corporate_action; all symbols."""
        return APPLIED

    def gap(self, record: Record) -> str:
        """A gap of any feed; the same one may come again and again."""
        return APPLIED

    def connection(self, record: Record) -> str:
        """A connection of any feed."""
        return APPLIED

    def signal(self, record: Record, at: Coordinates) -> str:
        """A signal; rules with `on_signal` tighten or exit."""
        return APPLIED

    def result_published(self, trigger_id: str) -> None:
        """The intent of this trigger is acknowledged by Kafka: it is sent."""
