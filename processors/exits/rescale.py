"""Splits and other corporate actions: what they do to a rule's prices and to its high-water mark. Pure.

A rule's prices are in the shares of its price basis. A split that took effect since multiplies them by old
over new rate; what cannot be computed so (a spin-off, a merger, an announcement that was changed afterwards)
holds the exit until the account side gives the rule a basis from after it, or confirms the position after it.
Cash dividends change nothing.

A split is heard of twice: announced, with its exact rates, and booked to the position, perhaps rounded by
what a broker does not split. Both within a few days are one, and the announcement tells it; what was never
announced is told by the booking. So prices are rescaled once, whichever comes, and in any order.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any, NamedTuple

from processors.exits.exactly import exact, plain, quotient
from processors.exits.rules import Rule
from tidewire.clock import NS_PER_DAY

BOOKED = "booked_split"
SPLITS = frozenset({"forward_split", "reverse_split", "unit_split", "stock_dividend", BOOKED})
IGNORED = frozenset({"cash_dividend"})
WITHDRAWN = "withdrawn"
KEPT = 16
"""Actions remembered for each symbol, the newest."""
NEAR_NS = 5 * NS_PER_DAY
"""How far announcement and booking of one split may lie apart: a long weekend. A booking that lies further
ahead of the prices has another clock than they (a recorded market), and counts at once."""


class Action(NamedTuple):
    """A corporate action. `ts`: when it takes effect, ns. Rates are 0 where there are none."""

    id: str
    kind: str
    ts: int
    old: Decimal
    new: Decimal

    @property
    def scales(self) -> bool:
        """Whether prices before it can be told in shares after it."""
        return self.kind in SPLITS and self.old > 0 and self.new > 0

    def to_row(self) -> list[Any]:
        """As it is kept."""
        return [self.id, self.kind, self.ts, plain(self.old), plain(self.new)]


class Split(NamedTuple):
    """A split, as it is to be told. `since`: prices given from then on (ns) may be in its shares already."""

    action: Action
    since: int

    def rescales(self, basis: int, now: int) -> bool:
        """Whether prices of `basis` are to be rescaled by it to be those of `now` (ns)."""
        return self.since > basis and self.trades(now)

    def trades(self, now: int) -> bool:
        """Whether the market trades in the shares after it."""
        ahead = self.action.ts - now
        return ahead <= 0 or (self.action.kind == BOOKED and ahead > NEAR_NS)


def action_of(record: Mapping[str, Any]) -> Action:
    """A corporate_action record."""
    zero = Decimal(0)
    old, new = record["old_rate"], record["new_rate"]
    return Action(
        record["action_id"],
        record["kind"],
        record["ts"],
        zero if old is None else Decimal(old),
        zero if new is None else Decimal(new),
    )


def from_row(row: list[Any]) -> Action:
    """What was kept."""
    name, kind, ts, old, new = row
    return Action(name, kind, ts, Decimal(old), Decimal(new))


def splits(announced: Iterable[Action], booked: Iterable[tuple[int, Decimal]]) -> list[Split]:
    """Each split once, oldest first, by announcement where there is one."""
    left = list(booked)
    found = []
    for action in sorted(a for a in announced if a.scales):
        twin = next((one for one in left if abs(one[0] - action.ts) <= NEAR_NS), None)
        if twin is not None:
            left.remove(twin)
        found.append(Split(action, action.ts if twin is None else min(action.ts, twin[0])))
    found += [Split(Action(f"at {ts}", BOOKED, ts, Decimal(1), ratio), ts) for ts, ratio in left]
    return sorted(found, key=lambda split: (split.action.ts, split.action.id))


def factor(actions: Iterable[Action]) -> Decimal:
    """What prices before these splits are to be multiplied by, at 18 decimals."""
    old = new = Decimal(1)
    with exact():
        for action in actions:
            if action.scales:
                old, new = old * action.old, new * action.new
        return quotient(old, new)


def scaled(price: Decimal | None, actions: Iterable[Action]) -> Decimal | None:
    """A price before these splits in the shares after them, rounded at 18 decimals."""
    for action in actions:
        if price is not None and action.scales:
            with exact():
                price = Decimal(plain(quotient(price * action.old, action.new)))
    return price


def rescaled(rule: Rule, actions: list[Action]) -> Rule:
    """The rule in the shares after these splits. Percents stay."""
    if not actions:
        return rule
    return replace(
        rule,
        stop=scaled(rule.stop, actions),
        target=scaled(rule.target, actions),
        trail_price=scaled(rule.trail_price, actions),
    )


def unclear(rule: Rule, actions: Sequence[Action], now: int) -> str | None:
    """Why the rule's prices cannot be compared with those of `now` (ns); None: they can."""
    for action in actions:
        if action.scales or action.kind in IGNORED:
            continue
        if rule.sure_ts < action.ts <= now:
            return f"{action.kind} {action.id}: the account side has not confirmed the new price basis"
        if now < action.ts <= rule.basis_ts:
            return _ahead(action)
    ahead = (s for s in splits(actions, rule.booked) if s.since <= rule.basis_ts and not s.trades(now))
    return next((_ahead(split.action) for split in ahead), None)


def _ahead(action: Action) -> str:
    return f"{action.kind} {action.id}: the rule's prices are those after it, the market's are not"
