"""A trigger judged again from its own record alone: its watch, its inputs and its evidence. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import orjson

from processors.exits import rescale
from processors.exits.decision import FIRE, Marks, Verdict, decide
from processors.exits.exactly import plain, rounded
from processors.exits.facts import Facts
from processors.exits.rules import Rule, parse
from processors.exits.trigger import inputs
from schemas.order_ids import trigger_name


@dataclass(frozen=True, slots=True)
class Explanation:
    """Whether the record alone gives the trigger again, and how, in plain text."""

    fires: bool
    steps: list[str] = field(default_factory=list)


def explain(trigger: Mapping[str, Any]) -> Explanation:
    """Evaluate an exit_trigger again. What cannot be read, or does not agree, does not fire, and says so."""
    try:
        return _explained(trigger)
    except (ValueError, KeyError, TypeError, ArithmeticError, IndexError) as error:
        return Explanation(False, [f"the record cannot be evaluated: {error!r}"])


def _explained(trigger: Mapping[str, Any]) -> Explanation:
    watch, evidence = orjson.loads(trigger["watch"]), orjson.loads(trigger["evidence"])
    facts = Facts.from_json(evidence["facts"])
    actions = [rescale.from_row(a) for a in evidence["actions"]]
    applied = [rescale.from_row(a) for a in evidence["applied"]]
    before = Marks.from_json(evidence["marks"])
    rule = rescale.rescaled(parse(watch), applied)
    verdict = decide(rule, watch["held"], actions, before, facts)
    steps = [*_told(watch, rule, facts, before, verdict), *(f"rescaled by {a.kind} {a.id}" for a in applied)]
    wrong = _disagreements(trigger, watch, rule, facts, verdict)
    if verdict.kind != FIRE:
        wrong.append(f"judged again it does not fire: {verdict.gate or 'nothing is reached'}")
    return Explanation(not wrong, [*steps, *wrong] if wrong else [*steps, "it fires"])


def _told(watch: Mapping[str, Any], rule: Rule, facts: Facts, before: Marks, verdict: Verdict) -> list[str]:
    side = "above" if rule.rises else "below"
    steps = [
        f"{watch['kind']} of {watch['position_symbol']} ({watch['quantity']} at {watch['entry_price']}),"
        f" exit epoch {watch['exit_epoch']} of position epoch {watch['position_epoch']}",
        f"it watches the {rule.reference} of {watch['symbol']}, event time {facts.now}",
    ]
    if rule.trails:
        best = "none yet" if before.high_water is None else plain(before.high_water)
        steps.append(f"best price {best}, the rule gains {side} it")
    if verdict.price is not None:
        steps.append(f"price {plain(verdict.price)}, every gate open" if verdict.kind == FIRE else "")
    threshold = "none" if verdict.threshold is None else plain(verdict.threshold)
    steps.append(f"{verdict.what or 'nothing'} reached; threshold {threshold}")
    return [step for step in steps if step]


def _disagreements(
    trigger: Mapping[str, Any], watch: Mapping[str, Any], rule: Rule, facts: Facts, verdict: Verdict
) -> list[str]:
    wrong = []
    names = watch["account"], watch["position_symbol"], watch["position_epoch"], watch["exit_epoch"]
    if trigger["trigger_id"] != trigger_name(*names):
        wrong.append("the trigger's id is not that of its watch")
    named = [_comparable(one) for one in trigger["inputs"]]
    wrong += [
        f"the evidence read {one['topic']} {one['partition']} {one['offset']}, which the inputs do not name"
        for one, _, _ in inputs(rule, facts)
        if _comparable(one) not in named
    ]
    expected = verdict.threshold if verdict.threshold is not None else verdict.price or Decimal(0)
    if Decimal(trigger["threshold"]) != rounded(expected):
        wrong.append(f"the record says threshold {trigger['threshold']}, judged again it is {expected}")
    if trigger["high_water"] != verdict.marks.high_water:
        wrong.append(f"the record says best price {trigger['high_water']}, not {verdict.marks.high_water}")
    return wrong


def _comparable(one: Mapping[str, Any]) -> tuple[Any, ...]:
    return one["topic"], one["partition"], one["offset"], one["ts"], float(one["value"])
