"""The verdict over a run of orders, on doctored journals: one that cannot fail would let losses pass."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from schemas.order_ids import client_order_id, trigger_name
from sinks.executor import failpoints
from tests.chaos import orders_run
from tests.chaos.orders_records import Attempt, Evidence, Happened, Kept
from tests.chaos.orders_scenario import Outcome, Part
from tests.chaos.orders_verdict import SLACK_NS, judge
from tests.chaos.run_state import RunState
from tidewire.errors import ConfigError

SECOND = 10**9
T0 = 1_000 * SECOND
EXIT = trigger_name("a1", "T0", 0, 0)
ID = client_order_id(EXIT, 0)


def line(
    event: str, status: str, order: str, side: str, quantity: str, filled: str = "0", **more: Any
) -> Any:
    own = {"account": "a1", "client_order_id": order, "symbol": "T0"} | more
    name = own.pop("name", order)
    return Happened(
        event=event, status=status, order_id=name, side=side, quantity=Decimal(quantity),
        filled=Decimal(filled), **own,
    )  # fmt: skip


def placed(order: str, side: str, quantity: str, *fills: str, end: str = "filled", **more: Any) -> list[Any]:
    """An order's lines, from its beginning to its end."""
    lines = [line("pending_new", "pending_new", order, side, quantity, **more)]
    lines += [line("new", "new", order, side, quantity, **more)]
    for filled in fills[:-1] if end == "filled" else fills:
        lines.append(line("partial_fill", "partially_filled", order, side, quantity, filled, **more))
    if end == "filled":
        lines.append(line("fill", "filled", order, side, quantity, fills[-1], **more))
    else:
        lines.append(line(end, end, order, side, quantity, **more))
    return lines


def intent(name: str = EXIT, **more: Any) -> dict[str, Any]:
    return {
        "intent_id": name, "kind": "exit", "account": "a1", "symbol": "T0", "position_epoch": 0,
        "trigger_id": name, "received_ts": T0, **more,
    }  # fmt: skip


def result(name: str = EXIT, outcome: str = "filled", **more: Any) -> dict[str, Any]:
    return {
        "intent_id": name, "final": True, "outcome": outcome, "reason": "", "remaining": Decimal(0), **more,
    }  # fmt: skip


def sound() -> Evidence:
    """Somebody buys 5, and an exit sells them in two pieces."""
    return Evidence(
        journal=[*placed("user", "buy", "5", "5"), *placed(ID, "sell", "5", "2", "3")],
        accepted={ID: T0 + 2 * SECOND},
        intents={EXIT: intent()},
        kept=[Kept(EXIT, "done", "filled", T0)],
        attempts=[Attempt(EXIT, 0, ID, ID, Decimal(5), T0 + SECOND)],
        outbox=[(b"1", b"accepted"), (b"2", b"filled")],
        published=[(b"1", b"accepted"), (b"1", b"accepted"), (b"2", b"filled")],
        results=[result(final=False, outcome="accepted"), result()],
        max_age={"a1": 10 * SECOND},
    )


def two_attempts(before: list[Any], after: list[Any]) -> Evidence:
    """The first sells 2 of 5 and is canceled, the second sells the rest."""
    evidence, second = sound(), client_order_id(EXIT, 1)
    evidence.journal = [*placed("user", "buy", "5", "5"), *before, *after]
    evidence.accepted[second] = T0 + 4 * SECOND
    evidence.attempts = [
        Attempt(EXIT, 0, ID, ID, Decimal(2), T0 + SECOND),
        Attempt(EXIT, 1, second, second, Decimal(3), T0 + 3 * SECOND),
    ]
    return evidence


def test_a_sound_run_has_no_complaints() -> None:
    """Otherwise every run of faults fails, and nobody reads it any more."""
    found = judge(sound())
    assert found.complaints == []
    assert found.seen["orders"] == 1
    assert found.seen["repeated_results"] == 1
    assert found.seen["exits that closed their position"] == 1
    second = client_order_id(EXIT, 1)
    first = placed(ID, "sell", "5", "2", end="canceled")
    assert judge(two_attempts(first, placed(second, "sell", "3", "3"))).complaints == []


def ordered_again(e: Evidence) -> None:
    e.journal = [*e.journal, *placed("user2", "buy", "5", "5"), *placed(ID, "sell", "5", "5", name="other")]


def nobody_asked(e: Evidence) -> None:
    e.journal = [*e.journal, *placed("user2", "buy", "1", "1"), *placed("tw-unknown-0", "sell", "1", "1")]


def too_much(e: Evidence) -> None:
    e.journal = [*placed("user", "buy", "4", "4"), *placed(ID, "sell", "5", "4", end="canceled")]


def through_zero(e: Evidence) -> None:
    e.journal = [*placed("user", "buy", "4", "4"), *placed(ID, "sell", "5", "5")]


def enlarged(e: Evidence) -> None:
    e.journal = [*placed("user", "sell", "5", "5"), *placed(ID, "sell", "5", "5")]


def late(e: Evidence) -> None:
    e.accepted[ID] = T0 + 10 * SECOND + SLACK_NS + 1


def old_and_ordered(e: Evidence) -> None:
    e.old = frozenset({EXIT})


def under_the_switch(e: Evidence) -> None:
    e.switched = [(3, 5)]


def no_row(e: Evidence) -> None:
    e.attempts = []


def row_afterwards(e: Evidence) -> None:
    e.attempts = [replace(e.attempts[0], sent=e.accepted[ID] + 1)]


def taken_afterwards(e: Evidence) -> None:
    e.kept = [replace(e.kept[0], taken=e.accepted[ID] + 1)]


def other_fills(e: Evidence) -> None:
    e.attempts = [replace(e.attempts[0], filled=Decimal(4))]


def unpublished(e: Evidence) -> None:
    e.published = e.published[:2]


def published_only(e: Evidence) -> None:
    e.published = [*e.published, (b"3", b"filled")]


def published_otherwise(e: Evidence) -> None:
    e.published = [*e.published, (b"2", b"canceled")]


def told_twice(e: Evidence) -> None:
    e.outbox = [*e.outbox, (b"2", b"filled")]


def still_waiting(e: Evidence) -> None:
    e.waiting = 1


def ended_twice(e: Evidence) -> None:
    e.results = [*e.results, result(outcome="canceled")]


def never_taken(e: Evidence) -> None:
    e.kept = []


def never_ended(e: Evidence) -> None:
    e.kept = [replace(e.kept[0], phase="open", outcome=None)]


def no_final_result(e: Evidence) -> None:
    e.results = e.results[:1]


def ended_without_a_reason(e: Evidence) -> None:
    e.kept, e.results = [replace(e.kept[0], outcome="refused")], [result(outcome="refused")]


def left_open(e: Evidence) -> None:
    e.journal = [*e.journal[:-1], line("fill", "filled", ID, "sell", "5", "1")]


@pytest.mark.parametrize(
    ("doctor", "kind"),
    [
        (ordered_again, "duplicated"), (nobody_asked, "duplicated"),
        (too_much, "above_held"), (through_zero, "flipped"), (enlarged, "flipped"),
        (late, "stale"), (old_and_ordered, "stale"), (under_the_switch, "after_switch"),
        (no_row, "not_durable"), (row_afterwards, "not_durable"), (taken_afterwards, "not_durable"),
        (other_fills, "results_wrong"), (unpublished, "results_wrong"), (published_only, "results_wrong"),
        (published_otherwise, "results_wrong"), (told_twice, "results_wrong"),
        (still_waiting, "results_wrong"), (ended_twice, "results_wrong"),
        (never_taken, "lost"), (never_ended, "lost"), (no_final_result, "lost"),
        (ended_without_a_reason, "lost"), (left_open, "lost"),
    ],
)  # fmt: skip
def test_each_way_to_lose_money_is_named(doctor: Callable[[Evidence], None], kind: str) -> None:
    """A verdict that does not see it says that all is well while a user loses money."""
    evidence = sound()
    doctor(evidence)
    found = judge(evidence)
    assert getattr(found, kind), found.complaints


def test_attempts_follow_each_other() -> None:
    """Two orders of one exit at a time may both fill: more is sold than was to be."""
    second = client_order_id(EXIT, 1)
    *begun, last = placed(ID, "sell", "5", "2", end="canceled")
    found = judge(two_attempts([*begun, *placed(second, "sell", "3", "3")], [last]))
    assert any("before attempt 0 was over" in text for text in found.duplicated)
    assert found.above_held, "and both together ask for more than is held"


def test_one_order_of_a_strategys_intent() -> None:
    """A strategy's intent has no second attempt: its quantity would be bought again."""
    evidence, name = Evidence(max_age={"a1": SECOND}), "s-1"
    evidence.intents = {name: intent(name, kind="order", trigger_id=None)}
    for number in range(2):
        evidence.journal = [*evidence.journal, *placed(client_order_id(name, number), "buy", "1", "1")]
    assert any("2 orders of one strategy" in text for text in judge(evidence).duplicated)


def test_an_exit_that_ended_with_a_reason_may_leave_its_position_open() -> None:
    """What was refused is told, and not lost: whoever reads orders.results can act on it."""
    evidence = sound()
    evidence.journal, evidence.attempts, evidence.accepted = placed("user", "buy", "5", "5"), [], {}
    evidence.kept = [replace(evidence.kept[0], outcome="refused")]
    evidence.results = [result(outcome="refused", reason="kill_switch: on", remaining=Decimal(5))]
    assert judge(evidence).complaints == []
    evidence.results = [result(outcome="refused", reason="")]
    assert judge(evidence).lost


def test_what_a_part_found_is_told_and_goes_on_where_it_was(tmp_path: Path) -> None:
    """Otherwise hours of faults end in an error, or in a result that is green whatever was found."""
    evidence = sound()
    ordered_again(evidence)
    outcome = Outcome(verdict=judge(evidence))
    outcome.ran.update({"kill at post.after": 7, "zombies": 1, "bad answers": 3, "switches": 1})
    path = tmp_path / "state.json"
    RunState(7, True, [outcome.numbers()]).save(path)
    state = RunState.load(path, 1, True)
    found = orders_run.results(state, (Part(kills=7, zombies=2, submits=3, switches=1),), None)
    assert not found["orders.duplicated"]["ok"]
    assert found["orders.lost"]["ok"]
    assert (found["orders.kills"]["value"], found["orders.kills"]["ok"]) == (7, True)
    assert not found["orders.zombies"]["ok"], "a full run makes all of them"
    assert found["orders.seen"]["value"] == 1
    broken = orders_run.results(RunState(7, False), (Part(kills=1),), "no Kafka")
    assert not broken["orders.run"]["ok"]
    assert not broken["orders.kills"]["ok"], "nothing done is nothing shown"
    assert not broken["orders.seen"]["ok"]


def test_a_full_run_is_as_much_as_was_asked_for() -> None:
    """1,000 kills, 200 zombies, 10,000 bad answers, 50 duplicates of 1,000 exits."""
    parts = orders_run.FULL
    totals = [sum(getattr(part, name) for part in parts) for name in ("kills", "zombies", "submits")]
    assert totals == [1_000, 200, 10_000]
    assert (50, 1_000) in [part.duplicates for part in parts]


@pytest.mark.parametrize("wanted", ["post.before:2:stop", "intent.after", "commit.before:3"])
def test_failpoints_are_read(wanted: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run of faults whose failpoint is misread kills nothing."""
    monkeypatch.setenv(failpoints.VARIABLE, wanted)
    assert failpoints.from_environment() is not failpoints.none


@pytest.mark.parametrize("wanted", ["post.before:2:wait", "post.never", "post.before:x"])
def test_failpoints_that_do_not_exist_are_refused(wanted: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise nothing happens, and a test says that nothing was lost."""
    monkeypatch.setenv(failpoints.VARIABLE, wanted)
    with pytest.raises(ConfigError):
        failpoints.from_environment()
