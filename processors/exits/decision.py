"""What a rule does at a moment: a pure function of the rule, its marks and the facts, live and explained."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any, NamedTuple

from processors.exits import gates, rescale
from processors.exits.exactly import plain
from processors.exits.facts import Facts
from processors.exits.gates import Gate
from processors.exits.hours import close_of
from processors.exits.rescale import Action
from processors.exits.rules import SIGNAL, TIME, Rule

FIRE, HOLD, QUIET, BLIND = "fire", "hold", "quiet", "blind"
"""blind: nothing is reached, but the price was not good, so that it releases nothing either."""


class Marks(NamedTuple):
    """What a rule remembers. `tight`: stop that a signal set; `tighten`: it will, at the next good price.

    `signalled`: a signal wants the exit. `not_before`: it pauses until then (event time, ns).
    """

    high_water: Decimal | None = None
    tight: Decimal | None = None
    tighten: bool = False
    signalled: bool = False
    not_before: int = 0

    def to_json(self) -> list[Any]:
        """For a row or the evidence."""
        amounts = [None if m is None else plain(m) for m in (self.high_water, self.tight)]
        return [*amounts, self.tighten, self.signalled, self.not_before]

    @classmethod
    def from_json(cls, found: Sequence[Any]) -> Marks:
        """Out of it."""
        high_water, tight = (None if m is None else Decimal(m) for m in found[:2])
        return cls(high_water, tight, *found[2:])


class Verdict(NamedTuple):
    """`what` was reached: stop, target, time or signal. `threshold`: where the rule fires now, USD."""

    kind: str
    what: str | None
    gate: Gate | None
    price: Decimal | None
    threshold: Decimal | None
    marks: Marks


def decide(rule: Rule, held: str | None, actions: Sequence[Action], marks: Marks, facts: Facts) -> Verdict:
    """The verdict. `rule` is in the shares of `facts.now`; `held`: why the account side holds the exit.

    `actions`: all corporate actions that are known of the reference symbol.
    """
    shut = _shut(rule, held, actions, facts)
    if shut is None and facts.now < marks.not_before:
        shut = Gate(gates.PAUSE, gates.PAUSED)
    found = gates.reference(rule, facts)
    price = None if found is None else found.price
    flaw = gates.judge(rule, facts, _over_night(rule, actions, facts))
    if shut is None and flaw is None and price is not None:
        marks = _marked(rule, marks, price)
    stop = rule.stop_at(marks.high_water, marks.tight)
    what = _reached(rule, marks, price, stop, facts)
    threshold = rule.target if what == "target" or stop is None else stop
    kind, gate = _kind(what, shut, flaw)
    return Verdict(kind, what, gate, price, threshold, marks)


def due(rule: Rule, facts: Facts) -> bool:
    """Whether a time rule's time has come."""
    if rule.due_ts is not None and facts.now >= rule.due_ts:
        return True
    if rule.before_close is None:
        return False
    close = close_of(facts.session, facts.now)
    return close is not None and close - rule.before_close <= facts.now < close


def _shut(rule: Rule, held: str | None, actions: Sequence[Action], facts: Facts) -> Gate | None:
    if held is not None:
        return Gate(gates.ACCOUNT, held)
    gate = gates.standing(rule, facts)
    if gate is None and (actions or rule.booked):
        why = rescale.unclear(rule, actions, facts.now)
        gate = None if why is None else Gate(gates.ACTION, why)
    return gate


def _over_night(rule: Rule, actions: Sequence[Action], facts: Facts) -> Decimal:
    before = facts.previous_quote or facts.previous_trade
    if before is None or not (actions or rule.booked):
        return Decimal(1)
    known = [split for split in rescale.splits(actions, rule.booked) if split.trades(facts.now)]
    return rescale.factor(split.action for split in known if split.action.ts > before.ts)


def _marked(rule: Rule, marks: Marks, price: Decimal) -> Marks:
    if rule.trails and rule.better(price, marks.high_water):
        marks = marks._replace(high_water=Decimal(plain(price)))  # 110, not 110.0: as a row gives it back
    if marks.tighten:
        marks = marks._replace(tighten=False, tight=rule.tightened(price))
    return marks


def _reached(
    rule: Rule, marks: Marks, price: Decimal | None, stop: Decimal | None, facts: Facts
) -> str | None:
    crossed = None if price is None else rule.crosses(price, stop)
    if crossed is not None:
        return crossed
    if marks.signalled:
        return SIGNAL
    return TIME if rule.timed and due(rule, facts) else None


def _kind(what: str | None, shut: Gate | None, flaw: Gate | None) -> tuple[str, Gate | None]:
    if shut is not None:
        return HOLD, shut
    if what is None:
        return (QUIET, None) if flaw is None else (BLIND, flaw)
    return (FIRE, None) if flaw is None else (HOLD, flaw)
