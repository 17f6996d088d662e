"""One intent from the log to its end: what to do next, given what has just been learnt. Pure.

::

    received ──> clearing ──> sending ──> open ──> settling ──> done
                                 └──> unknown ──┘        └──> received, with the next attempt

A state is kept before its action is carried out, so whoever takes over goes on from it. The rules that make
an order exactly one: what is `sending` was never proved unsent, so a takeover looks it up first; an unknown
outcome is looked up by its client_order_id, and when the broker has none the same id is sent again; the
number of the attempt rises only when the broker has shown the last one terminal. An exit's limit order that
does not fill in time is withdrawn first: the next attempt has a new price. An intent whose order may
still be on its way (`doubt_ns`) ends in a refusal only after SETTLE_NS without a trace of it.
"""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

from schemas.exit_rules import PERMANENT
from schemas.order_ids import client_order_id
from sinks.executor import sizing
from sinks.executor.facts import Facts
from sinks.executor.intents import Intent
from sinks.executor.moves import (
    Action,
    Blind,
    Clear,
    Denied,
    Doubtful,
    Event,
    LookUp,
    Missing,
    Overdue,
    Post,
    Result,
    Resumed,
    Rules,
    Shown,
    State,
    Step,
    Survey,
    Surveyed,
    Unsent,
    Watch,
    Withdraw,
    as_of,
)
from sinks.executor.risk import DUST, Breach
from tidewire.clock import NS_PER_MS, NS_PER_SECOND

SETTLE_NS = 22 * NS_PER_SECOND
"""How long an order without an answer may still turn up at the broker: longer than a request may last, and
than an order of a former owner of the account may take to leave (last_look.py)."""
MOST_ATTEMPTS = 10
MOST_LOOKS = 5
"""Looks at a position that lags behind our own fill, or that hidden orders hold, before it is believed."""
PAUSE_NS = 200 * NS_PER_MS
LONGEST_PAUSE_NS = 5 * NS_PER_SECOND
ZERO = Decimal(0)


def step(intent: Intent, state: State, event: Event, rules: Rules) -> Step:
    """The next step; an event that comes too late changes nothing."""
    if state.done:
        return Step(state, None)
    intent = as_of(intent, state)
    match event:
        case Resumed():
            return _resume(intent, state, event.now, rules)
        case Surveyed():
            return _surveyed(intent, state, event.facts, rules)
        case Shown():
            return _shown(intent, state, event)
        case Overdue():
            return _overdue(intent, state)
        case Missing():
            return _missing(intent, state, event.now)
        case Denied():
            return _denied(intent, state, event)
        case Doubtful():
            doubtful = replace(state, phase="unknown", doubt_ns=event.now, looks=0)
            return _tell(doubtful, _look_up(intent, doubtful), "unknown", event.reason)
        case Unsent():
            if event.outcome is not None:
                return _end(intent, state, event.outcome, event.reason, event.now)
            return Step(replace(state, phase="received"), Survey(PAUSE_NS))
        case Blind():
            return _blind(intent, state, event.now, rules)


def _resume(intent: Intent, state: State, now: int, rules: Rules) -> Step:
    match state.phase:
        case "sending" | "unknown":
            doubtful = replace(state, phase="unknown", doubt_ns=now, looks=0)
            return Step(doubtful, LookUp(client_order_id(intent.intent_id, state.attempt)))
        case "open":
            assert state.order_id is not None
            return Step(state, Watch(state.order_id))
        case "settling":
            return Step(state, Survey())
        case _:
            return _blind(intent, state, now, rules, pause=0)


def _blind(intent: Intent, state: State, now: int, rules: Rules, pause: int = PAUSE_NS) -> Step:
    """Nothing is known of the broker: one that is too old ends even so."""
    if state.phase in ("received", "clearing"):
        old = intent.too_old(now, rules.max_age_ns)
        if old is not None:
            return _end(intent, state, "stale", old, now)
    return Step(state, Survey(pause))


# -- before an order


def _surveyed(intent: Intent, state: State, facts: Facts, rules: Rules) -> Step:
    if state.phase == "settling":
        return _settle(intent, state, facts, rules)
    if state.phase not in ("received", "clearing"):
        return Step(state, None)
    if (old := intent.too_old(facts.now, rules.max_age_ns)) is not None:
        held = "; other orders held what it was to close" if state.waits else ""
        return _end(intent, state, "stale", old + held, facts.now, facts)
    return _exit(intent, state, facts, rules) if intent.exit else _propose(intent, state, None, facts, rules)


def _exit(intent: Intent, state: State, facts: Facts, rules: Rules) -> Step:
    position = facts.position
    if sizing.held(position):
        if blocking := sizing.in_the_way(intent, facts.open_orders, _ids(intent, state)):
            left = sizing.adopted(intent, blocking)
            doomed = [o for o in blocking if o not in left and o.status != "pending_cancel"]
            if doomed:
                pause = _pause(state) if state.waits else 0
                return Step(_waiting(state), Clear(tuple(o.id for o in doomed), pause))
            return Step(_waiting(state), Survey(_pause(state)))
        lagging = sizing.lags(position, state.base, state.all_filled)
        hidden = sizing.unexplained_hold(position, facts.open_orders)
        if (lagging or hidden) and state.looks < MOST_LOOKS:
            return Step(replace(state, looks=state.looks + 1), Survey(PAUSE_NS))
    size = sizing.exit_size(intent, position, state.base, state.all_filled)
    if isinstance(size, sizing.NoSize):
        outcome = "closed" if size.kind == "closed" else "refused"
        why = PERMANENT + size.reason if size.kind == "flipped" else size.reason
        return _end(intent, state, outcome, why, facts.now, facts)
    return _propose(intent, state, size, facts, rules)


def _propose(intent: Intent, state: State, size: sizing.Size | None, facts: Facts, rules: Rules) -> Step:
    order = rules.shape(intent, size, facts, client_order_id(intent.intent_id, state.attempt))
    breach = order if isinstance(order, Breach) else rules.check(intent, order, facts)
    if isinstance(order, Breach) or breach is not None:
        assert breach is not None
        if breach.check == DUST:  # as closed as it can be: see Attempt.ended in processors/placing
            return _end(intent, state, "closed", f"{DUST}: {breach.reason}", facts.now, facts)
        return _end(intent, state, "refused", _reason(breach), facts.now, facts)
    base = state.base
    if size is not None and base is None:
        base = sizing.held(facts.position)
    return Step(replace(state, phase="sending", order=order, base=base, looks=0), Post(order))


# -- after a POST


def _shown(intent: Intent, state: State, event: Shown) -> Step:
    if state.phase not in ("sending", "unknown", "open"):
        return Step(state, None)
    order = event.order
    state = replace(
        state, phase="open", order_id=order.id, doubt_ns=None, ending=None, looks=0, status=order.status,
        filled=max(state.filled, order.filled_quantity), average=order.average_price or state.average,
    )  # fmt: skip
    if order.status == "replaced" and order.replaced_by is not None:
        following = _followed(state, order.replaced_by)
        return _tell(following, Watch(order.replaced_by), "accepted", "")
    if not order.terminal:
        return _tell(state, Watch(order.id), "accepted", "")
    if intent.exit:
        if state.withdrawn and order.status == "canceled":
            state = replace(state, renewed_ns=event.now)
        return Step(replace(state, phase="settling"), Survey())
    return _finish(state, order.status, order.reject_reason or "", None)


def _overdue(intent: Intent, state: State) -> Step:
    """The market has left the limit of an exit behind: end its order, and follow with a new price.

    A market order is left to work: another one would fare no better.
    """
    limited = state.order is not None and state.order.type == "limit"
    if state.phase != "open" or not intent.exit or not limited or state.order_id is None:
        return Step(state, None if state.order_id is None else Watch(state.order_id))
    return Step(replace(state, withdrawn=True), Withdraw(state.order_id))


def _followed(state: State, order_id: str) -> State:
    """Somebody has put another order in the place of ours: it counts its fills from 0, and is ours now."""
    return replace(
        state, order_id=order_id, before=state.all_filled,
        worth_before=state.worth_before + state.filled * (state.average or ZERO),
        filled=ZERO, average=None, status=None,
    )  # fmt: skip


def _missing(intent: Intent, state: State, now: int) -> Step:
    """Nothing is there under the id: the same id again, from a new look at the broker on."""
    if state.phase != "unknown":
        return Step(state, None)
    if state.ending is not None:
        return _end(intent, state, *state.ending, now)
    return Step(replace(state, phase="received", looks=0), Survey())


def _denied(intent: Intent, state: State, event: Denied) -> Step:
    if state.phase != "sending":
        return Step(state, None)
    verdict = event.verdict
    if verdict.next == "look_up":  # an order of ours is there: find it, it is what this POST was to be
        doubtful = replace(state, phase="unknown", doubt_ns=event.now, ending=("rejected", event.reason))
        return Step(doubtful, _look_up(intent, doubtful))
    if verdict.next in ("clear", "look_again") and intent.exit:
        if state.doubt_ns is not None:  # what holds the shares may be our own order
            unknown = replace(state, phase="unknown")
            return Step(unknown, _look_up(intent, unknown))
        if verdict.name != "crossing" or intent.foreign_orders != "respect":
            return Step(_waiting(state), Survey(_pause(state)))
    why = PERMANENT + event.reason if verdict.permanent else event.reason
    return _end(intent, state, "rejected", why, event.now)


def _waiting(state: State) -> State:
    return replace(state, phase="clearing", looks=0, waits=state.waits + 1)


def _pause(state: State) -> int:
    """Before the next look at orders of others, each time longer: the account's other exits need its 200
    requests a minute too."""
    return min(PAUSE_NS << min(max(state.waits - 1, 0), 5), LONGEST_PAUSE_NS)


def _settle(intent: Intent, state: State, facts: Facts, rules: Rules) -> Step:
    """The order of an exit is terminal at the broker: is the position closed?"""
    left = sizing.held(facts.position)
    if left and state.looks < MOST_LOOKS and sizing.lags(facts.position, state.base, state.all_filled):
        return Step(replace(state, looks=state.looks + 1), Survey(PAUSE_NS))
    status = state.status or "unknown"
    again = left and state.status != "rejected" and state.attempt + 1 < MOST_ATTEMPTS
    size = sizing.exit_size(intent, facts.position, state.base, state.all_filled)
    fresh = intent.too_old(facts.now, rules.max_age_ns) is None
    flipped = isinstance(size, sizing.NoSize) and size.kind == "flipped"
    due = state.base is None or state.all_filled < state.base
    if not again or not fresh or flipped or not due or _satisfied(intent, state):
        return _finish(state, status, "", left)
    told = (Result(status, f"{left:f} are left: attempt {state.attempt + 1} follows", final=False),)
    following = State(
        attempt=state.attempt + 1,
        base=state.base,
        before=state.all_filled,
        worth_before=state.worth_before + state.filled * (state.average or ZERO),
        renewed_ns=state.renewed_ns,
    )
    return Step(following, Survey(PAUSE_NS), told)


# -- ends


def _end(
    intent: Intent, state: State, outcome: str, reason: str, now: int, facts: Facts | None = None
) -> Step:
    """End without an order of this attempt, once it is sure that there is none."""
    if state.doubt_ns is not None and now - state.doubt_ns < SETTLE_NS:
        waiting = replace(state, phase="unknown", ending=(outcome, reason), looks=state.looks + 1)
        return Step(waiting, _look_up(intent, waiting))
    remaining = None
    if intent.exit and facts is not None:
        remaining = sizing.held(facts.position)
    return _finish(state, outcome, reason, remaining)


def _finish(state: State, outcome: str, reason: str, remaining: Decimal | None) -> Step:
    done = replace(
        state, phase="done", outcome=outcome, reason=reason, remaining=remaining, ending=None, doubt_ns=None
    )
    return Step(done, None, (Result(outcome, reason, final=True),))


def _tell(state: State, action: Action, outcome: str, reason: str) -> Step:
    if outcome in state.told:
        return Step(state, action)
    told = replace(state, told=(*state.told, outcome))
    return Step(told, action, (Result(outcome, reason, final=False),))


def _reason(breach: Breach) -> str:
    why = breach.reason.removeprefix(PERMANENT)
    return f"{PERMANENT if why != breach.reason else ''}{breach.check}: {why}"


def _satisfied(intent: Intent, state: State) -> bool:
    return intent.quantity is not None and state.all_filled >= intent.quantity


def _look_up(intent: Intent, state: State) -> LookUp:
    pause = min(PAUSE_NS << min(state.looks, 5), LONGEST_PAUSE_NS)
    return LookUp(client_order_id(intent.intent_id, state.attempt), pause)


def _ids(intent: Intent, state: State) -> list[str]:
    return [client_order_id(intent.intent_id, n) for n in range(state.attempt + 1)]
