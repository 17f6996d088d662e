"""The screen's view of exits: follows watches, what gates hold, triggers and what became of their orders."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any

from console.screen.exits_state import Exit, Exits
from console.screen.follower import Decode, Follower
from schemas.exit_rules import DUPLICATE
from tidewire.config import Settings

_KEPT = 2_000
_SHOWN = 20
_MOST = 5_000
_ENDS_HOLD = ("released", "triggered", "disarmed")

Record = Mapping[str, Any]
Rule = tuple[str, str, str]
"""(account, symbol of the position, rule)."""


class Tracker:
    """Folds the records of exits as they come. Pure; what is older than `_MOST` triggers is forgotten."""

    def __init__(self) -> None:
        self._watches: dict[Rule, str | None] = {}
        self._gates: dict[Rule, str] = {}
        self._triggers: dict[str, Record] = {}
        self._orders: dict[str, int] = {}
        self._ends: dict[str, tuple[str, Decimal | None]] = {}
        self._seen = 0
        self._seen_orders = 0
        self._seen_closed = 0

    def watch(self, record: Record) -> None:
        """A watch: active, with what the account side says, or released."""
        rule = record["account"], record["position_symbol"], record["rule"]
        if record["active"]:
            self._watches[rule] = record["held"]
        else:
            self._watches.pop(rule, None)
            self._gates.pop(rule, None)

    def event(self, record: Record) -> None:
        """A turn of a rule: which gate holds it, or that none does any more."""
        rule = record["account"], record["symbol"], record["rule"]
        if record["event"] == "held":
            self._gates[rule] = record["gate"]
        elif record["event"] in _ENDS_HOLD or _armed_anew(record):
            self._gates.pop(rule, None)

    def trigger(self, record: Record) -> None:
        """A rule that fired."""
        name = record["trigger_id"]
        self._seen += name not in self._triggers
        self._triggers[name] = record
        while len(self._triggers) > _MOST:
            gone = next(iter(self._triggers))
            for held in (self._triggers, self._orders, self._ends):
                held.pop(gone, None)

    def result(self, record: Record) -> None:
        """What became of an exit's intent; results of users' intents are none of this panel's."""
        name = record["trigger_id"]
        if name is None or record["outcome"] == DUPLICATE:
            return
        if record["order_id"] is not None and name not in self._orders:
            self._orders[name] = record["ts"]
            self._seen_orders += 1
        if record["final"] and name not in self._ends:
            self._ends[name] = record["outcome"], record["remaining"]
            self._seen_closed += record["remaining"] == 0

    def show(self, killed: str | None = None) -> Exits:
        """All of it as it is now. `killed`: why the kill switch is on."""
        fired = {(t["account"], t["symbol"]) for name, t in self._triggers.items() if name not in self._ends}
        held: Counter[str] = Counter()
        for rule, account_side in self._watches.items():
            if rule[:2] in fired:
                continue
            gate = account_side or self._gates.get(rule)
            held.update([gate] if gate else ())
        waiting = sum(rule[:2] not in fired for rule in self._watches)
        newest = sorted(self._triggers.values(), key=lambda t: (-t["ts"], t["trigger_id"]))[:_SHOWN]
        return Exits(
            armed=waiting - held.total(),
            held=dict(held),
            triggered=self._seen,
            ordered=self._seen_orders,
            closed=self._seen_closed,
            newest=tuple(self._exit(trigger) for trigger in newest),
            killed=killed,
        )

    def _exit(self, trigger: Record) -> Exit:
        name = trigger["trigger_id"]
        outcome, remaining = self._ends.get(name, (None, None))
        ordered_at = self._orders.get(name)
        inputs: Sequence[Record] = trigger["inputs"]
        newest = max(inputs, key=lambda one: one["ts"], default=None)
        return Exit(
            ts=trigger["ts"],
            name=name,
            rule=trigger["rule"],
            price=None if newest is None else newest["value"],
            threshold=trigger["threshold"],
            state=_state(outcome, remaining) if outcome else "ordered" if ordered_at else trigger["state"],
            latency_ns=None if ordered_at is None else ordered_at - trigger["received_ts"],
        )


def _armed_anew(event: Record) -> bool:
    """A restated rule stays held by what held it."""
    return bool(event["event"] == "armed" and event["reason"] != "restated")


def _state(outcome: str, remaining: Decimal | None) -> str:
    return f"{outcome}, {remaining.normalize():f} left" if remaining else outcome


class ExitsSide(Follower):
    """`topics`: watches, events, triggers, results. `killed`: why the kill switch is on, asked each time."""

    def __init__(
        self, settings: Settings, topics: Sequence[str], decode: Decode, killed: Callable[[], str | None]
    ) -> None:
        self._tracker, self._killed = Tracker(), killed
        takes = {
            "exit_watch": self._tracker.watch,
            "exit_event": self._tracker.event,
            "exit_trigger": self._tracker.trigger,
            "order_result": self._tracker.result,
        }
        super().__init__(settings, topics, decode, _KEPT, takes)

    def exits(self) -> Exits:
        """All that has been read."""
        return self._tracker.show(self._killed())
