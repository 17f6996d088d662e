"""An order intent as it is read from the log: checked whole before anything else is made of it. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from schemas.order_ids import client_order_id, trigger_name
from tidewire.errors import RecordError

_SIDES = ("buy", "sell")
_TYPES = ("market", "limit", "stop", "stop_limit")
_TIFS = ("day", "gtc", "ioc", "fok", "opg", "cls")
_FOREIGN = ("cancel", "respect", "adopt")
_LONGEST = 512
_TERMS = (
    "account", "kind", "symbol", "side", "order_type", "time_in_force", "quantity", "notional", "limit_price",
    "stop_price", "extended_hours",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Intent:
    """Somebody wants an order. Prices in USD, times in ns since 1970 UTC."""

    account: str
    intent_id: str
    kind: str
    """`exit`: close what is held, side and quantity come from the broker; `order`: as it says."""
    symbol: str
    side: str
    """Of an exit: the side that closed the position when the rule fired; never the side that is sent."""
    order_type: str
    time_in_force: str
    quantity: Decimal | None
    notional: Decimal | None
    limit_price: Decimal | None
    stop_price: Decimal | None
    reference_price: Decimal | None
    position_epoch: int | None
    exit_epoch: int | None
    extended_hours: bool
    foreign_orders: str
    trigger_id: str | None
    ts: int
    received_ts: int
    expires_ts: int | None
    run_id: str | None

    @property
    def exit(self) -> bool:
        """Whether it closes a position."""
        return self.kind == "exit"

    def says_as(self, other: Intent) -> bool:
        """Whether another intent under the same id wants the same. Of an exit only what it closes counts: two
        rules of a position may fire as one.
        """
        names = ("account", "kind", "symbol") if self.exit else _TERMS
        return all(getattr(self, name) == getattr(other, name) for name in names)

    def oldest(self, max_age_ns: int) -> int:
        """The last moment (ns, wall clock) at which it may be sent."""
        due = self.received_ts + max_age_ns
        return due if self.expires_ts is None else min(due, self.expires_ts)

    def too_old(self, now: int, max_age_ns: int) -> str | None:
        """Why it must not be sent any more at `now` (wall clock); None: it may be."""
        age = now - self.received_ts
        if age > max_age_ns:
            return f"its newest input was received {age / 1e9:.1f} s ago, more than {max_age_ns / 1e9:g} s"
        if self.expires_ts is not None and now > self.expires_ts:
            return "it has expired"
        return None


def read(record: Mapping[str, Any]) -> Intent:
    """The intent of an `order_intent` record.

    Raises:
        RecordError: every way in which it contradicts itself.
    """
    exit_epoch, problems = _exit_epoch(record)
    intent = Intent(
        exit_epoch=exit_epoch,
        **{name: record[name] for name in Intent.__dataclass_fields__ if name != "exit_epoch"},
    )
    problems += _problems(intent, record)
    if problems:
        raise RecordError("; ".join(problems))
    return intent


def _exit_epoch(record: Mapping[str, Any]) -> tuple[int | None, list[str]]:
    if record["kind"] != "exit":
        return None, []
    name, epoch = str(record["trigger_id"] or ""), record["position_epoch"]
    last = name.rpartition(":")[2]
    exit_epoch = int(last) if last.isdecimal() and len(last) < 19 else -1
    known = epoch is not None and name == trigger_name(record["account"], record["symbol"], epoch, exit_epoch)
    if not known or record["intent_id"] != name:
        return None, ["an exit's intent_id and trigger_id are account:symbol:position_epoch:exit_epoch"]
    return exit_epoch, []


def _problems(intent: Intent, record: Mapping[str, Any]) -> list[str]:
    found = [
        f"{name} {value!r} is none of {', '.join(known)}"
        for name, value, known in (
            ("kind", intent.kind, ("exit", "order")),
            ("side", intent.side, _SIDES),
            ("order_type", intent.order_type, _TYPES),
            ("time_in_force", intent.time_in_force, _TIFS),
            ("foreign_orders", intent.foreign_orders, _FOREIGN),
        )
        if value not in known
    ]
    if not 0 < len(intent.intent_id) <= _LONGEST or not intent.symbol:
        found.append("intent_id and symbol must not be empty or too long")
    if record["client_order_id"] != client_order_id(intent.intent_id, 0) or record["attempt"] != 0:
        found.append("client_order_id is not that of the intent's attempt 0")
    amounts = ("quantity", "notional", "limit_price", "stop_price", "reference_price")
    found += [
        f"{name} must be more than 0"
        for name in amounts
        if (value := getattr(intent, name)) is not None and (not value.is_finite() or value <= 0)
    ]
    return found + (_order_problems(intent) if intent.kind == "order" else [])


def _order_problems(intent: Intent) -> list[str]:
    found = []
    if (intent.quantity is None) == (intent.notional is None):
        found.append("exactly one of quantity and notional is needed")
    if (intent.limit_price is None) != (intent.order_type not in ("limit", "stop_limit")):
        found.append("a limit order has a limit_price, and no other")
    if (intent.stop_price is None) != (intent.order_type not in ("stop", "stop_limit")):
        found.append("a stop order has a stop_price, and no other")
    if intent.trigger_id is not None:
        found.append("only an exit has a trigger")
    if re.search(r":\d+:\d+$", intent.intent_id):  # the exit of that name would be taken for a duplicate
        found.append("the intent_id of an order must not be shaped like an exit's")
    return found
