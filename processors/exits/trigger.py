"""Triggers and events as records: all that is needed to judge a trigger again stands in it. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import orjson

from processors.exits.coordinates import Coordinates
from processors.exits.decision import Marks, Verdict
from processors.exits.exactly import rounded
from processors.exits.facts import Facts
from processors.exits.prices import Quote, Trade
from processors.exits.rescale import Action
from processors.exits.rules import ASK, BID, LAST, Rule
from processors.exits.state import PENDING, Guard
from schemas.event_id import exit_event_id, trigger_id
from schemas.order_ids import trigger_name


@dataclass(frozen=True, slots=True)
class Cause:
    """The input that is being folded: when it was received (ns), how, where it stands, and its event time
    (ns).

    `at` None: it is no price.
    """

    received_ts: int
    source: str
    at: Coordinates | None = None
    ts: int = 0
    value: float = 0.0


def trigger_record(
    guard: Guard,
    rule: Rule,
    actions: Sequence[Action],
    before: Marks,
    verdict: Verdict,
    facts: Facts,
    cause: Cause,
) -> dict[str, Any]:
    """The exit_trigger of a rule that fires. `before`: its marks as they stood when it was judged."""
    watch = guard.watch
    epochs = guard.epochs
    used = _inputs(rule, facts, cause)
    newest = max(used, key=lambda one: one[1])
    names = (*guard.position, *epochs)
    evidence = {
        "facts": facts.to_json(),
        "actions": [a.to_row() for a in actions],
        "applied": [a.to_row() for a in guard.applied],
        "marks": before.to_json(),
        "what": verdict.what,
    }
    return {
        "account": guard.position[0],
        "symbol": guard.position[1],
        "ts": facts.now,
        "reference_symbol": watch["symbol"],
        "position_epoch": epochs[0],
        "rule": watch["rule"],
        "kind": watch["kind"],
        "attempt": epochs[1],
        "state": PENDING,
        "threshold": rounded(
            verdict.threshold if verdict.threshold is not None else verdict.price or Decimal(0)
        ),
        "high_water": verdict.marks.high_water,
        "inputs": [one for one, _, _ in used],
        "trigger_id": trigger_name(*names),
        "exit_epoch": epochs[1],
        "watch": canonical(watch),
        "evidence": canonical(evidence),
        "received_ts": newest[1],
        "source": newest[2],
        "event_id": trigger_id(*names),
    }


def event_record(
    guard: Guard,
    event: str,
    reason: str,
    now: int,
    cause: Cause,
    gate: str = "",
    price: Decimal | None = None,
    threshold: Decimal | None = None,
) -> dict[str, Any]:
    """An exit_event of this rule at `now` (event time, ns)."""
    watch = guard.watch
    ts = now or watch["ts"]
    trigger = trigger_name(*guard.position, *guard.epochs)
    return {
        "account": guard.position[0],
        "symbol": guard.position[1],
        "rule": watch["rule"],
        "reference_symbol": watch["symbol"],
        "position_epoch": guard.epochs[0],
        "exit_epoch": guard.epochs[1],
        "ts": ts,
        "event": event,
        "gate": gate,
        "reason": reason,
        "price": None if price is None else rounded(price),
        "threshold": None if threshold is None else rounded(threshold),
        "received_ts": cause.received_ts,
        "source": cause.source,
        "event_id": exit_event_id(trigger, watch["rule"], ts, event, gate),
    }


def canonical(value: Any) -> str:
    """JSON, the same for the same value."""
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()


def inputs(rule: Rule, facts: Facts) -> list[tuple[dict[str, Any], int, str]]:
    """The prices that a decision read: each with its receive time (ns) and source."""
    found: list[tuple[dict[str, Any], int, str]] = []
    if rule.reference == LAST:
        if facts.trade is not None:
            found.append(_input(facts.trade, facts.trade.price))
        if facts.good is not None:
            found += [_input(facts.good, facts.good.bid), _input(facts.good, facts.good.ask)]
    elif facts.quote is not None:
        sides = {BID: [facts.quote.bid], ASK: [facts.quote.ask]}
        both = [facts.quote.bid, facts.quote.ask]
        found += [_input(facts.quote, value) for value in sides.get(rule.reference, both)]
    return found


def _inputs(rule: Rule, facts: Facts, cause: Cause) -> list[tuple[dict[str, Any], int, str]]:
    found = inputs(rule, facts)
    known = {(one["topic"], one["partition"], one["offset"]) for one, _, _ in found}
    if cause.at is not None and cause.at not in known:  # it moved the clock, or let a gate go
        own = {**cause.at._asdict(), "ts": cause.ts, "value": cause.value}
        found.append((own, cause.received_ts, cause.source))
    return found


def _input(of: Quote | Trade, value: float) -> tuple[dict[str, Any], int, str]:
    return {**of.at._asdict(), "ts": of.ts, "value": value}, of.received_ts, of.source
