"""The life of one watch: armed, held, pending, sent, disarmed. Pure.

armed -> held -> armed        a gate closes, a good price comes
armed, held -> pending        it fires, or another rule of its position does: once for each exit epoch
pending -> sent               the intent is in the log
any -> armed                  a watch of a later exit epoch or position epoch
any -> disarmed               released
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from decimal import Decimal
from math import inf, nextafter
from typing import Any

from processors.exits import rescale
from processors.exits.decision import Marks
from processors.exits.exactly import at_least, at_most, plain
from processors.exits.prices import Prices
from processors.exits.rescale import BOOKED, Action, Split
from processors.exits.rules import MID, Rule, parse

ARMED, HELD, PENDING, SENT, DISARMED = "armed", "held", "pending", "sent", "disarmed"

_DECIMALS = ("quantity", "entry_price", "stop_price", "limit_price", "trail_price", "trail_percent")
_PASSING = frozenset({"ts", "received_ts", "source", "event_id", "result", "price_basis_ts", "parameters"})
_SLACK = 1e-9  # the middle of a quote is rounded as a float; whether it has crossed is decided exactly later

Epochs = tuple[int, int]
"""Position epoch, exit epoch."""


def plain_watch(record: Mapping[str, Any]) -> dict[str, Any]:
    """An exit_watch as a JSON object: decimals as text, the id in hex."""
    found = dict(record)
    for name in _DECIMALS:
        if found[name] is not None:
            found[name] = plain(Decimal(found[name]))
    if isinstance(found["event_id"], bytes):
        found["event_id"] = found["event_id"].hex()
    found["price_basis_ts"] = found.get("price_basis_ts") or found["ts"]
    return found


def _lasting(parameters: str) -> Any:
    """What of a watch's parameters is no time."""
    try:
        found = json.loads(parameters or "{}")
    except ValueError:
        return parameters
    return {n: v for n, v in found.items() if n != "confirmed_ts"} if isinstance(found, dict) else found


class Guard:
    """One watch. `low`, `high`: prices between them, both excluded, change nothing; `awake`: every price
    counts.

    `marks_basis`: the high-water mark is in the shares of that moment (ns). `since`: held from then on (event
    time, ns; 0: not known yet). `behind`: offsets up to which a loaded guard has seen more than its prices.
    """

    __slots__ = (
        "alerted",
        "applied",
        "awake",
        "behind",
        "gate",
        "high",
        "key",
        "low",
        "marks",
        "marks_basis",
        "offset",
        "problem",
        "reason",
        "rule",
        "since",
        "state",
        "stated",
        "watch",
    )

    def __init__(self, key: str, record: Mapping[str, Any], offset: int) -> None:
        self.key = key
        self.state = DISARMED
        self.marks = Marks()
        self.marks_basis = 0
        self.applied: list[Action] = []
        self.behind: dict[str, int] = {}
        self.calm()
        self.restate(record, offset)

    def restate(self, record: Mapping[str, Any], offset: int) -> None:
        """What the watch says now; nothing else changes."""
        self.watch = plain_watch(record)
        self.offset = offset
        self.problem: str | None = None
        self.stated: Rule | None = None
        try:
            self.stated = parse(self.watch)
        except ValueError as error:
            self.problem = str(error)
        self.rule = self.stated
        self.applied = []

    def calm(self) -> None:
        """No gate holds it."""
        self.gate = self.reason = ""
        self.since, self.alerted = 0, False

    @property
    def epochs(self) -> Epochs:
        """Position epoch and exit epoch."""
        return self.watch["position_epoch"], self.watch["exit_epoch"]

    @property
    def position(self) -> tuple[str, str]:
        """Account and symbol of the position."""
        return self.watch["account"], self.watch["position_symbol"]

    @property
    def live(self) -> bool:
        """Whether it may fire."""
        return self.state in (ARMED, HELD)

    def says_the_same(self, record: Mapping[str, Any]) -> bool:
        """Whether a watch differs from the known one by its times only."""
        old, new = self.watch, plain_watch(record)
        if _lasting(old["parameters"]) != _lasting(new["parameters"]):
            return False
        return all(new[name] == value for name, value in old.items() if name not in _PASSING)

    def keeps_marks(self, other: Mapping[str, Any], before: Rule | None) -> bool:
        """Whether a high-water mark survives a new statement: same position, kind, trail and price."""
        rule = self.stated
        if rule is None or before is None or self.watch["position_epoch"] != other["position_epoch"]:
            return False
        same_trail = rule.trail_percent == before.trail_percent and (
            (rule.trail_price is None) is (before.trail_price is None)
        )
        moved = rule.trail_price != before.trail_price and rule.basis_ts == before.basis_ts
        same = (rule.kind, rule.rises, rule.reference) == (before.kind, before.rises, before.reference)
        return same and same_trail and not moved

    def apply(self, actions: list[Action], now: int) -> list[Action]:
        """Bring rule and marks to the shares of `now`; returns the splits that this newly applied."""
        if self.stated is None:
            return []
        basis, booked = self.stated.basis_ts, self.stated.booked
        known = rescale.splits([*actions, *self._missing(actions)], booked)
        self._doubt_marks(known)
        for_rule = [s.action for s in known if s.rescales(basis, now)]
        marked = self.marks.high_water is not None or self.marks.tight is not None
        since = self.marks_basis if marked else now
        for_marks = [s.action for s in known if s.rescales(since, now)]
        new = [a for a in for_rule if a not in self.applied]
        self.rule, self.applied = rescale.rescaled(self.stated, for_rule), for_rule
        if for_marks:
            high_water = rescale.scaled(self.marks.high_water, for_marks)
            tight = rescale.scaled(self.marks.tight, for_marks)
            self.marks = self.marks._replace(high_water=high_water, tight=tight)
            self.marks_basis = for_marks[-1].ts
        return sorted({*new, *for_marks}, key=lambda a: a.ts)

    def _missing(self, actions: list[Action]) -> list[Action]:
        """Splits that were applied and are announced no more: they count until the account side is sure."""
        assert self.stated is not None, "nothing is applied to what cannot be read"
        there, sure = {a.id for a in actions if a.scales}, self.stated.sure_ts
        return [a for a in self.applied if a.kind != BOOKED and a.id not in there and a.ts > sure]

    def _doubt_marks(self, known: list[Split]) -> None:
        """A mark that was rescaled by a split that never was begins anew."""
        assert self.stated is not None, "nothing is applied to what cannot be read"
        there = {split.action.id for split in known}
        gone = [a for a in self.applied if a.kind != BOOKED and a.id not in there]
        booked = [ts for ts, _ in self.stated.booked]
        if any(all(abs(ts - a.ts) > rescale.NEAR_NS for ts in booked) for a in gone):
            tightened = self.marks.tighten or self.marks.tight is not None
            self.marks = self.marks._replace(high_water=None, tight=None, tighten=tightened)

    def caught_up(self, prices: Prices) -> bool:
        """Whether prices have come as far as the guard had when it was kept."""
        if self.behind and all(prices.expected.get(t, 0) >= n for t, n in self.behind.items()):
            self.behind = {}
        return not self.behind

    def bound(self) -> None:
        """Work out `low`, `high` and `awake`."""
        self.low, self.high, self.awake = -inf, inf, False
        rule, marks = self.rule, self.marks
        if not self.live or rule is None:
            return
        self.awake = self.state == HELD or marks.tighten or marks.signalled
        stop, target = rule.stop_at(marks.high_water, marks.tight), rule.target
        below, above = (stop, target) if rule.rises else (target, stop)
        if below is not None:
            self.low = at_most(below)
        if above is not None:
            self.high = at_least(above)
        if rule.trails:
            self._bound_mark(marks.high_water, rule.rises)
        if rule.reference == MID:
            self.low, self.high = self.low + abs(self.low) * _SLACK, self.high - abs(self.high) * _SLACK

    def _bound_mark(self, mark: Decimal | None, rises: bool) -> None:
        if mark is None:
            self.awake = True
        elif rises:
            self.high = min(self.high, nextafter(at_most(mark), inf))
        else:
            self.low = max(self.low, nextafter(at_least(mark), -inf))

    def to_row(self, seen: Mapping[str, int]) -> dict[str, Any]:
        """As it is kept; `seen`: by topic, the offset after the last price that it has seen."""
        return {
            "watch": self.watch,
            "offset": self.offset,
            "state": self.state,
            "marks": self.marks.to_json(),
            "marks_basis": self.marks_basis,
            "applied": [a.to_row() for a in self.applied],
            "hold": [self.gate, self.reason, self.since, self.alerted],
            "seen": dict(seen),
        }

    @classmethod
    def from_row(cls, key: str, row: Mapping[str, Any]) -> Guard:
        """What was kept."""
        guard = cls(key, row["watch"], row["offset"])
        guard.state = row["state"]
        guard.marks = Marks.from_json(row["marks"])
        guard.marks_basis = row["marks_basis"]
        guard.applied = [rescale.from_row(a) for a in row["applied"]]
        guard.gate, guard.reason, guard.since, guard.alerted = row["hold"]
        guard.behind = dict(row["seen"])
        if guard.stated is not None:
            guard.rule = rescale.rescaled(guard.stated, guard.applied)
        return guard
