"""Trade updates as the trading socket sends them, and the ids in them."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from simulator.broker.account import Account
from simulator.broker.amounts import text
from simulator.broker.book import Adjustment, Execution
from simulator.broker.order_json import Find, moment, order_json
from simulator.broker.orders import Order
from simulator.exchange_calendar import new_york
from simulator.rfc3339 import show

_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_MS = 1_000_000


@dataclass(frozen=True, slots=True)
class Update:
    """One trade update of an account; `ts` in ns."""

    account: int
    ts: int
    message: dict[str, Any]


@dataclass(slots=True)
class Changes:
    """What a request or a quote changed: kept by the journal as a whole, before anybody is told."""

    updates: list[Update] = field(default_factory=list)
    orders: dict[str, Order] = field(default_factory=dict)
    executions: dict[str, tuple[int, Execution]] = field(default_factory=dict)
    """Execution id -> account and execution; new ones and revised ones."""
    activities: list[tuple[int, dict[str, Any], Adjustment | None]] = field(default_factory=list)
    """Account, activity that is no fill, and what it does to a position."""

    def __bool__(self) -> bool:
        return bool(self.updates or self.orders or self.executions or self.activities)


class Ulids:
    """Event ids: 48 bits of milliseconds and 80 of chance, each greater than the one before."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._last = 0

    def next(self, now: int) -> str:
        """The id of an event at a time in ns."""
        value = (now // _MS) << 80 | self._chance.getrandbits(80)
        self._last = value = value if value > self._last else self._last + 1
        return "".join(_CROCKFORD[value >> shift & 31] for shift in range(125, -1, -5))

    def after(self, seen: str) -> None:
        """Go on after an id of an earlier run."""
        value = 0
        for letter in seen:
            value = value << 5 | _CROCKFORD.index(letter)
        self._last = max(self._last, value)


def activity_id(at: int, uuid: str) -> str:
    """yyyymmddHHMMSSmmm::uuid, by New York's clock, as Alpaca's are."""
    return f"{activity_moment(at)}::{uuid}"


def activity_moment(at: int) -> str:
    """How the id of an activity at a time (ns) begins; to the millisecond."""
    return f"{new_york(at):%Y%m%d%H%M%S}{at // _MS % 1000:03d}"


class Announcer:
    """Makes the updates of one broker and collects what changed until it is taken."""

    def __init__(self, ulids: Ulids, find: Find, new_id: Callable[[], str]) -> None:
        self._ulids = ulids
        self._find = find
        self._new_id = new_id
        self.changes = Changes()

    def say(self, order: Order, event: str, ts: int, **fields: Any) -> None:
        """One event of an order. All but pending_new have an execution id."""
        if event != "pending_new" and order.order_class != "mleg":
            fields.setdefault("execution_id", self._new_id())
        data = {
            "at": show(ts - ts % 1_000),
            "event_id": self._ulids.next(ts),
            "event": event,
            "timestamp": moment(ts),
            "order": order_json(order, self._find),
            **fields,
        }
        message = {"stream": "trade_updates", "data": data}
        self.changes.updates.append(Update(order.account, ts, message))
        self.changes.orders[order.id] = order

    def filled(self, account: Account, order: Order, execution: Execution, *, complete: bool) -> None:
        """A fill or a partial fill."""
        self.say(
            order,
            "fill" if complete else "partial_fill",
            execution.at,
            execution_id=execution.id,
            price=text(execution.price),
            qty=text(execution.qty),
            position_qty=text(account.book.quantity(execution.symbol)),
        )

    def changed(self, order: Order) -> None:
        """An order changed without an event."""
        self.changes.orders[order.id] = order

    def executed(self, account: int, execution: Execution) -> None:
        """An execution is new or revised."""
        self.changes.executions[execution.id] = (account, execution)

    def posted(self, account: int, body: dict[str, Any], adjustment: Adjustment | None) -> None:
        """An activity that is no fill has happened."""
        self.changes.activities.append((account, body, adjustment))

    def take(self) -> Changes:
        """Everything since the last call."""
        taken, self.changes = self.changes, Changes()
        return taken
