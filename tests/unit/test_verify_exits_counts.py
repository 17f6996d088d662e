"""If these fail, an exit that was lost, doubled or forgotten half-way passes as complete."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from schemas.order_ids import client_order_id, trigger_name
from verify.exits import Attempt, Evidence, Taken, compare

D = Decimal
NAME = trigger_name("one", "AAPL", 3, 0)
MINE = "strategy-7"


def a_trigger(exit_epoch: int = 0, **changes: Any) -> dict[str, Any]:
    name = trigger_name("one", "AAPL", 3, exit_epoch)
    place = {"account": "one", "symbol": "AAPL", "position_epoch": 3, "exit_epoch": exit_epoch}
    return place | {"trigger_id": name} | changes


def an_intent(name: str = NAME, **changes: Any) -> dict[str, Any]:
    exit = name != MINE
    content = {
        "intent_id": name, "account": "one", "symbol": "AAPL", "kind": "exit" if exit else "order",
        "position_epoch": 3 if exit else None, "client_order_id": client_order_id(name, 0), "run_id": None,
    }  # fmt: skip
    return content | changes


def a_result(name: str = NAME, outcome: str = "filled", remaining: int | None = 0, **more: Any) -> Any:
    told = {"outcome": outcome, "final": True, "reason": "", "event_id": f"{name}{outcome}".encode()}
    return {"intent_id": name, "remaining": None if remaining is None else D(remaining)} | told | more


def an_attempt(name: str = NAME, attempt: int = 0, order: str | None = "o1") -> Attempt:
    return Attempt(name, attempt, client_order_id(name, attempt), order)


WHOLE = Evidence(
    triggers=[a_trigger(state="pending"), a_trigger(state="sent")],
    intents=[an_intent(), an_intent(MINE), an_intent(), an_intent(NAME, run_id="replay", symbol="X")],
    results=[
        a_result(outcome="accepted", final=False),
        a_result(), a_result(), a_result(outcome="duplicate"), a_result(MINE, "canceled", None),
    ],
    taken=[Taken(NAME, "filled"), Taken(MINE, "canceled")],
    attempts=[an_attempt(), an_attempt(NAME, 1, "o2"), an_attempt(MINE, 0, "o3")],
    placed={
        client_order_id(NAME, 0): frozenset({"o1"}), client_order_id(NAME, 1): frozenset({"o2"}),
        client_order_id(MINE, 0): frozenset({"o3"}), "house-1": frozenset({"o8", "o9"}),
    },
    positions={("one", "AAPL"): (3, D(0))},
)  # fmt: skip


def test_a_whole_way_is_complete() -> None:
    """Said again, answered by a duplicate, with a second attempt, beside others' orders and a replay."""
    found = compare(WHOLE)
    assert found.problems == ()
    assert (found.triggers, found.intents, found.said_again, found.taken, found.orders) == (1, 1, 1, 1, 2)
    assert (found.closed, found.not_closed, found.still_open, found.users_intents) == (1, 0, 0, 1)


def test_what_is_under_way_is_open_and_no_loss() -> None:
    """An order that works at the broker when the report is made is counted as such."""
    taken = [Taken(NAME), WHOLE.taken[1]]
    found = compare(replace(WHOLE, taken=taken, results=WHOLE.results[-1:]))
    assert (found.problems, found.still_open, found.closed) == ((), 1, 0)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda e: replace(e, intents=e.intents[1:2]), "no intent followed"),
        (lambda e: replace(e, triggers=[]), "no trigger wanted it"),
        (lambda e: replace(e, triggers=[a_trigger(symbol="IBM")]), "should be called"),
        (lambda e: replace(e, intents=[*e.intents, an_intent(symbol="IBM")]), "different symbol"),
        (lambda e: replace(e, taken=e.taken[1:], attempts=[], results=[]), "has not taken it"),
        (lambda e: replace(e, taken=[*e.taken, Taken("x")]), "nobody wanted it"),
        (lambda e: replace(e, results=[]), "orders.results does not say so"),
        (lambda e: replace(e, taken=[Taken(NAME), e.taken[1]]), "goes on in the ledger"),
        (lambda e: replace(e, results=[*e.results, a_result(outcome="stale")]), "2 final results"),
        (lambda e: replace(e, attempts=[e.attempts[1], e.attempts[2]]), "do not follow each other"),
        (lambda e: replace(e, attempts=[*e.attempts, an_attempt(attempt=1)]), "do not follow each other"),
        (lambda e: replace(e, attempts=[*e.attempts, an_attempt("x")]), "which is not in the ledger"),
        (
            lambda e: replace(e, attempts=[replace(e.attempts[0], client_order_id="tw-x"), *e.attempts[1:]]),
            "another intent's client_order_id",
        ),
        (lambda e: replace(e, placed=e.placed | {"tw-x": frozenset({"o7"})}), "not in the executor's ledger"),
        (
            lambda e: replace(e, placed=e.placed | {client_order_id(NAME, 0): frozenset({"o1", "o7"})}),
            "has 2 orders",
        ),
        (lambda e: replace(e, placed={}), "is not at the broker"),
        (lambda e: replace(e, unguarded=["one: rule stop of AAPL is not watched"]), "is not watched"),
    ],
)  # fmt: skip
def test_each_step_that_is_lost_or_doubled_is_named(damage: Callable[[Any], Evidence], words: str) -> None:
    """A report that misses one of these calls an exit done that was not, or one that was done twice."""
    problems = compare(damage(WHOLE)).problems
    assert any(words in problem for problem in problems), problems


def test_a_position_that_is_still_open_must_be_guarded_by_the_next_exit_epoch() -> None:
    """After a refusal the stop must stand again; positions without rules, and new ones, are passed over."""
    refused = replace(
        WHOLE,
        results=[a_result(outcome="refused", remaining=10, reason="kill switch"), WHOLE.results[-1]],
        positions={("one", "AAPL"): (3, D(10))},
    )
    (problem,) = compare(replace(refused, guards={("one", "AAPL"): [(3, 0)]})).problems
    assert "refused: kill switch" in problem
    assert compare(refused).not_closed == 1
    for right in ({("one", "AAPL"): [(3, 0), (3, 1)]}, {("one", "AAPL"): [(4, 0)]}, {}):
        assert compare(replace(refused, guards=right)).problems == ()
    reopened = replace(refused, positions={("one", "AAPL"): (4, D(10))}, guards={("one", "AAPL"): [(4, 0)]})
    assert compare(reopened).problems == ()


def test_nobody_knows_what_another_broker_has() -> None:
    """Against Alpaca itself the ledger is not doubted for orders that no journal holds."""
    assert compare(replace(WHOLE, placed=None)).problems == ()
