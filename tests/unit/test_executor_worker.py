"""A new intent is looked at while it becomes durable, and nothing is decided or sent before it is."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import Any, cast

import pytest

from sinks.executor import failpoints
from sinks.executor.actions import Actions
from sinks.executor.intents import Intent
from sinks.executor.ledger import Claim, FencedError, Ledger
from sinks.executor.moves import Action, Event, Post, Shown, State, Surveyed
from sinks.executor.rulebook import rules_of
from sinks.executor.worker import Ground, Worker
from tests.unit.executor_model import NOW, ModelBroker, exit_intent, facts, position
from tidewire.risk_limits import RiskLimits


class SlowLedger:
    """Answers when it is told to. `held`: intents that it knows already; `fenced`: it is another's."""

    def __init__(self) -> None:
        self.answers = asyncio.Event()
        self.held: set[str] = set()
        self.fenced = False
        self.steps: list[str] = []

    async def take(self, _: Claim, taken: list[tuple[Intent, bytes]]) -> tuple[list[Intent], list[Intent]]:
        await self.answers.wait()
        if self.fenced:
            raise FencedError("one")
        intents = [intent for intent, _ in taken]
        new = [intent for intent in intents if intent.intent_id not in self.held]
        return new, [intent for intent in intents if intent not in new]

    async def move(self, _: Claim, __: Intent, ___: int, state: State, *____: Any) -> None:
        assert self.answers.is_set(), "a step before the intent is durable"
        self.steps.append(state.phase)

    async def unfinished(self, _: Claim) -> list[Any]:
        return []

    async def records(self, _: list[str]) -> dict[str, bytes]:
        return {}


class Hands:
    """Looks at a model of the broker, and posts to it."""

    def __init__(self, ledger: SlowLedger) -> None:
        self.broker, self._ledger = ModelBroker(Decimal(10)), ledger
        self.looked = asyncio.Event()
        self.looks = 0

    async def act(self, _: Intent, __: State, action: Action) -> Event:
        if isinstance(action, Post):
            assert self._ledger.steps == ["sending"], "an order that was not written down before"
            order = self.broker.place(action.order)
            assert not isinstance(order, str)
            return Shown(order, NOW)
        self.looks += 1
        self.looked.set()
        return Surveyed(facts(position=position(self.broker.held)))

    async def watch(self, _: Intent, __: State, order_id: str) -> Event:
        order = self.broker.orders[order_id]
        await asyncio.sleep(0)
        if not order.terminal:
            self.broker.fill(order, order.remaining or Decimal(0))
        return Shown(self.broker.orders[order_id], NOW)


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> int:
        return self.now


def a_worker(ledger: SlowLedger, hands: Hands, clock: Clock) -> Worker:
    ground = Ground(cast(Ledger, ledger), lambda _: b"", lambda _: {}, clock, failpoints.none, lambda: None)
    return Worker(Claim("one", 1), ground, rules_of(RiskLimits()), cast(Actions, hands), lambda: None)


async def ended(worker: Worker) -> None:
    while worker.working:
        await asyncio.sleep(0)
    assert not worker.broken


async def test_the_first_look_does_not_wait_for_the_disk() -> None:
    """Every stop would wait for PostgreSQL before it asks the broker, and for the broker after that."""
    ledger = SlowLedger()
    hands = Hands(ledger)
    worker = a_worker(ledger, hands, Clock())
    taking = asyncio.create_task(worker.take([(exit_intent(), b"")]))
    await asyncio.wait_for(hands.looked.wait(), 5)
    assert not hands.broker.taken
    ledger.answers.set()
    assert (await taking).known == 0
    await ended(worker)
    assert len(hands.broker.taken) == 1
    assert hands.broker.held == 0
    assert ledger.steps[0] == "sending"


@pytest.mark.parametrize("fenced", [False, True])
async def test_what_is_known_or_is_not_ours_is_forgotten(*, fenced: bool) -> None:
    """Read twice, or by a process that was taken over, an exit would be sold twice."""
    ledger = SlowLedger()
    hands = Hands(ledger)
    worker = a_worker(ledger, hands, Clock())
    intent = exit_intent()
    ledger.held, ledger.fenced = {intent.intent_id}, fenced
    taking = asyncio.create_task(worker.take([(intent, b"")]))
    await asyncio.wait_for(hands.looked.wait(), 5)
    ledger.answers.set()
    if fenced:
        with pytest.raises(FencedError):
            await taking
    else:
        assert (await taking).known == 1
    await ended(worker)
    assert (hands.broker.taken, ledger.steps) == ([], [])


async def test_a_look_from_before_postgresql_was_away_counts_no_more() -> None:
    """What was held ten seconds ago may have been sold since by somebody else."""
    ledger, clock = SlowLedger(), Clock()
    hands = Hands(ledger)
    worker = a_worker(ledger, hands, clock)
    taking = asyncio.create_task(worker.take([(exit_intent(), b"")]))
    await asyncio.wait_for(hands.looked.wait(), 5)
    await asyncio.sleep(0)
    clock.now += 2 * 10**9
    hands.broker.held = Decimal(4)
    ledger.answers.set()
    await taking
    await asyncio.sleep(0)
    while not hands.broker.taken:
        await asyncio.sleep(0)
    assert [order.quantity for order in hands.broker.orders.values()] == [4]
    await worker.stop()
