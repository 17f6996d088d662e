"""Splits and other corporate actions: what they do to a rule's prices and to its high-water mark. Pure.

A rule's prices are in the shares of its price basis. A split that took effect since multiplies them by old
over new rate; what cannot be computed so (a spin-off, a merger, an announcement that was changed afterwards)
holds the exit until the account side gives the rule a basis from after it. Cash dividends change nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Any, NamedTuple

from processors.exits.exactly import exact, plain, quotient
from processors.exits.rules import Rule

SPLITS = frozenset({"forward_split", "reverse_split", "unit_split", "stock_dividend"})
IGNORED = frozenset({"cash_dividend"})
WITHDRAWN = "withdrawn"
KEPT = 16
"""Actions remembered for each symbol, the newest."""


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


def between(actions: Iterable[Action], basis: int, now: int) -> list[Action]:
    """Those that took effect after `basis` and not after `now` (ns), oldest first."""
    return sorted(a for a in actions if basis < a.ts <= now)


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


def unclear(rule: Rule, actions: Iterable[Action], now: int) -> str | None:
    """Why the rule's prices cannot be compared with those of `now` (ns); None: they can."""
    for action in actions:
        if rule.basis_ts < action.ts <= now and not action.scales and action.kind not in IGNORED:
            return f"{action.kind} {action.id}: the account side has not confirmed the new price basis"
        if now < action.ts <= rule.basis_ts and action.kind not in IGNORED:
            return f"{action.kind} {action.id}: the rule's prices are those after it, the market's are not"
    return None
