"""An order as its events leave it: a maximum over them, so repeats and any order of arrival agree. Pure.

The status is that of the greatest event by (terminal, ts, rank of its status, event id): it never goes back,
and a terminal one stays terminal. What was filled is the greatest cumulative quantity.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from processors.portfolio.exact import ZERO
from schemas.fills import FILL_EVENTS

TERMINAL = frozenset({"filled", "canceled", "expired", "rejected", "replaced"})
"""Statuses that no order leaves."""

_RANK = {"pending_new": 0, "accepted": 1, "accepted_for_bidding": 1, "held": 1, "new": 2}
_LATER = 3  # any other that is not terminal
_REMEMBERED = 32  # event ids an order: enough to tell a repeat, too few to grow

_FROM_EVENT = {
    "client_order_id": "client_order_id",
    "symbol": "symbol",
    "side": "side",
    "order_type": "order_type",
    "order_class": "order_class",
    "time_in_force": "time_in_force",
    "status": "status",
    "quantity": "order_quantity",
    "notional": "notional",
    "limit_price": "limit_price",
    "stop_price": "stop_price",
    "trail_price": "trail_price",
    "trail_percent": "trail_percent",
    "event": "event",
}
_FROM_SNAPSHOT = ("client_order_id", "symbol", "side", "order_type", "status", "quantity")
_DECIMALS = ("quantity", "notional", "limit_price", "stop_price", "trail_price", "trail_percent")

Rank = tuple[int, int, int, str]
_NEVER: Rank = (-1, 0, 0, "")


@dataclass(slots=True)
class Order:
    """`next_update`: the offset that follows its last event. `decided`: the event that gave `fields`."""

    account: str
    order_id: str
    next_update: int = 0
    decided: Rank = _NEVER
    fields: dict[str, Any] = field(default_factory=dict)
    filled: Decimal = ZERO
    average: Decimal | None = None
    average_of: Decimal = Decimal(-1)
    average_ts: int = 0
    reason: str | None = None
    reason_ts: int = 0
    ts: int = 0
    first_ts: int = 0
    submitted_ts: int | None = None
    filled_ts: int | None = None
    replaces: str | None = None
    replaced_by: str | None = None
    newest: tuple[int, str, str] = (0, "ws", "")
    seen: list[str] = field(default_factory=list)

    @property
    def terminal(self) -> bool:
        """Whether it can still be filled, canceled or replaced: no."""
        return self.decided[0] == 1

    def fold(self, update: Mapping[str, Any], offset: int) -> bool:
        """Fold one decoded trade update; False if it was known and changed nothing."""
        self.next_update = max(self.next_update, offset + 1)
        id = update["event_id"].hex()
        if id in self.seen:
            return False
        before = self._content()
        self._decide(update, id)
        self._fill(update)
        self._times(update)
        self._note(update, id)
        if update["event"] in FILL_EVENTS and not update["legs"]:
            return self._content() != before  # a fill is told from a repeat by its quantity
        self.seen = [*self.seen[1 - _REMEMBERED :], id]
        return True

    def open_from(self, order: Mapping[str, Any], snapshot: Mapping[str, Any]) -> None:
        """Take an open order of a snapshot that the log has no event of; any event will be greater."""
        self.decided = (0, order["submitted_ts"], -1, "")
        self.fields = dict.fromkeys(_FROM_EVENT) | {name: order[name] for name in _FROM_SNAPSHOT}
        self.fields |= {"order_class": "", "time_in_force": ""}
        self.fields |= {"limit_price": order["limit_price"], "stop_price": order["stop_price"]}
        self.filled = order["filled_quantity"]
        self.ts = self.first_ts = self.submitted_ts = order["submitted_ts"]
        self.newest = (snapshot["received_ts"], snapshot["source"], snapshot["event_id"].hex())

    def _decide(self, update: Mapping[str, Any], id: str) -> None:
        status, ts = update["status"], update["ts"]
        rank = (int(status in TERMINAL), ts, _RANK.get(status, _LATER), id)
        if rank > self.decided:
            self.decided = rank
            self.fields = {name: update[given] for name, given in _FROM_EVENT.items()}

    def _fill(self, update: Mapping[str, Any]) -> None:
        filled, average, ts = update["cumulative_quantity"], update["average_price"], update["ts"]
        if average is not None and (filled, ts) >= (self.average_of, self.average_ts):
            self.average, self.average_of, self.average_ts = average, filled, ts
        self.filled = max(self.filled, filled)

    def _times(self, update: Mapping[str, Any]) -> None:
        ts = update["ts"]
        self.ts, self.first_ts = max(self.ts, ts), min(self.first_ts or ts, ts)
        self.submitted_ts = _least(self.submitted_ts, update["submitted_ts"])
        self.filled_ts = _greatest(self.filled_ts, update["filled_ts"])

    def _note(self, update: Mapping[str, Any], id: str) -> None:
        if update["reason"] is not None and (update["ts"], update["reason"]) >= (
            self.reason_ts,
            self.reason or "",
        ):
            self.reason, self.reason_ts = update["reason"], update["ts"]
        self.replaces = update["replaces"] or self.replaces
        self.replaced_by = update["replaced_by"] or self.replaced_by
        self.newest = max(self.newest, (update["received_ts"], update["source"], id))

    def _content(self) -> tuple[Any, ...]:
        return self.decided, self.filled, self.average, self.ts, self.reason, self.replaces, self.replaced_by

    # ---------------------------------------------------------------- out

    def record(self) -> dict[str, Any]:
        """The `portfolio_order` record."""
        received_ts, source, id = self.newest
        return {
            **self.fields,
            "account": self.account,
            "order_id": self.order_id,
            "ts": self.ts,
            "filled_quantity": self.filled,
            "average_price": self.average,
            "submitted_ts": self.first_ts if self.submitted_ts is None else self.submitted_ts,
            "filled_ts": self.filled_ts,
            "reason": self.reason,
            "replaced_by": self.replaced_by,
            "replaces": self.replaces,
            "received_ts": received_ts,
            "source": source,
            "event_id": bytes.fromhex(id),
        }

    def to_row(self) -> dict[str, Any]:
        """The order as JSON can hold it."""
        return {
            "next_update": self.next_update,
            "decided": list(self.decided),
            "fields": {name: _text(value) for name, value in self.fields.items()},
            "filled": str(self.filled),
            "average": [_text(self.average), str(self.average_of)],
            "at": [self.average_ts, self.reason_ts, self.ts, self.first_ts],
            "times": [self.submitted_ts, self.filled_ts],
            "notes": [self.reason, self.replaces, self.replaced_by],
            "newest": list(self.newest),
            "seen": self.seen,
        }


def from_row(account: str, order_id: str, row: dict[str, Any]) -> Order:
    """The order of `to_row`."""
    terminal, ts, rank, id = row["decided"]
    order = Order(account, order_id, row["next_update"], (terminal, ts, rank, id))
    order.fields = {
        name: Decimal(value) if name in _DECIMALS and value is not None else value
        for name, value in row["fields"].items()
    }
    order.filled = Decimal(row["filled"])
    average, of = row["average"]
    order.average, order.average_of = None if average is None else Decimal(average), Decimal(of)
    order.average_ts, order.reason_ts, order.ts, order.first_ts = row["at"]
    order.submitted_ts, order.filled_ts = row["times"]
    order.reason, order.replaces, order.replaced_by = row["notes"]
    received_ts, source, newest = row["newest"]
    order.newest, order.seen = (received_ts, source, newest), row["seen"]
    return order


def _text(value: Any) -> Any:
    return str(value) if isinstance(value, Decimal) else value


def _least(held: int | None, given: int | None) -> int | None:
    return given if held is None else held if given is None else min(held, given)


def _greatest(held: int | None, given: int | None) -> int | None:
    return given if held is None else held if given is None else max(held, given)
