"""The intents of one account that is ours: each is driven through the machine, step by step, by the ledger.

A step is kept before its action is carried out. Of one symbol one intent at a time looks, clears and sends;
an order that works is watched beside the others.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from sinks.executor import machine, results
from sinks.executor.actions import Actions
from sinks.executor.failpoints import Failpoint
from sinks.executor.intents import Intent
from sinks.executor.intents import read as read_intent
from sinks.executor.last_look import PostTimer
from sinks.executor.ledger import Claim, FencedError, Ledger
from sinks.executor.moves import Action, Event, Post, Resumed, Rules, State, Step, Survey, Surveyed, Watch
from sinks.executor.symbol_turn import SymbolTurn
from tidewire import log
from tidewire.clock import NS_PER_MS, Clock
from tidewire.endings import end
from tidewire.errors import RecordError
from tidewire.metrics import EXECUTOR_ALERTS, EXECUTOR_ENDED, EXECUTOR_SECONDS

_log = log.get("executor")

Encode = Callable[[Mapping[str, Any]], bytes]
Decode = Callable[[bytes], Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Ground:
    """What all workers share. `told` is called when results wait in the outbox."""

    ledger: Ledger
    encode: Encode
    decode: Decode
    now: Clock
    failpoint: Failpoint
    told: Callable[[], None]
    timer: PostTimer = field(default_factory=PostTimer)


class Held(NamedTuple):
    """Intents that were held already: how many, and those of them that contradict what is held."""

    known: int
    contradicting: list[Intent]


class Worker:
    """One account under one claim. After `fenced` is set it does nothing more."""

    def __init__(
        self, claim: Claim, ground: Ground, rules: Rules, actions: Actions, on_fenced: Callable[[], None]
    ) -> None:
        self.claim, self._ground, self._rules, self._actions = claim, ground, rules, actions
        self._on_fenced = on_fenced
        self._running: dict[str, asyncio.Task[None]] = {}
        # What was begun is never begun again: the ledger may have been read before its last step was written.
        self._begun: set[str] = set()
        self._symbols: dict[str, SymbolTurn] = {}
        self.fenced = asyncio.Event()
        self.broken: dict[str, str] = {}
        """Intents that an error of ours has stopped, with what it was; a restart goes on with them."""

    @property
    def working(self) -> int:
        """Intents that have not ended."""
        return len(self._running)

    async def start(self) -> None:
        """Go on with every intent that has not ended: what may have been sent is looked up first.

        Raises:
            FencedError: the account is another's.
        """
        for entry in await self._ground.ledger.unfinished(self.claim):
            try:
                intent = read_intent(self._ground.decode(entry.record))
            except RecordError as error:
                _log.error("an intent of the ledger cannot be read", reason=error.reason)
                EXECUTOR_ALERTS.labels("unreadable").inc()
                continue
            if intent.intent_id not in self._begun:
                self._start(intent, entry.state, entry.version)

    async def take(self, taken: list[tuple[Intent, bytes]]) -> Held:
        """Make intents durable and begin with them; returns those that were held already.

        Raises:
            FencedError: the account is another's.
        """
        self._ground.failpoint("intent.before")
        early = self._look_early([intent for intent, _ in taken])
        try:
            new, known = await self._ground.ledger.take(self.claim, taken)
            self._ground.failpoint("intent.after")
            for intent in new:
                if intent.intent_id in early:
                    early.pop(intent.intent_id).set()
                else:
                    self._start(intent, State(), 0)
        finally:
            await self._forget(early)
        if known:  # one whose insert was answered with a lost connection is known, and not begun
            await self.start()
        return Held(len(known), await self._contradicting(known))

    def _look_early(self, intents: list[Intent]) -> dict[str, asyncio.Event]:
        """Have the first looks at the broker run beside the transaction; by intent, what says it is durable.

        Nothing is decided or written before. Many at once would use up the requests of a minute for what may
        well be known: these are looked at one by one, when they are durable.
        """
        early: dict[str, asyncio.Event] = {}
        if len(intents) > _MOST_EARLY:
            return early
        for intent in intents:
            if intent.intent_id not in self._begun:
                early[intent.intent_id] = durable = asyncio.Event()
                self._start(intent, State(), 0, durable)
        return early

    async def _forget(self, early: Mapping[str, asyncio.Event]) -> None:
        """What never became durable here was never begun."""
        tasks = [task for name in early if (task := self._running.get(name)) is not None]
        await end(*tasks)
        self._begun.difference_update(early)

    async def _contradicting(self, known: list[Intent]) -> list[Intent]:
        """Those that say something else than the intent that is held under their id: it was used twice."""
        records = await self._ground.ledger.records([i.intent_id for i in known]) if known else {}
        held: dict[str, Intent] = {}
        for name, record in records.items():
            with suppress(RecordError):
                held[name] = read_intent(self._ground.decode(record))
        return [i for i in known if i.intent_id in held and not i.says_as(held[i.intent_id])]

    async def stop(self) -> None:
        """Leave everything where it is; whoever owns the account next goes on."""
        await end(*self._running.values())

    def nudge(self, order_id: str) -> None:
        """There is news of an order."""
        self._actions.nudge(order_id)

    def _start(
        self, intent: Intent, state: State, version: int, durable: asyncio.Event | None = None
    ) -> None:
        if len(self._begun) >= _MOST_BEGUN:
            self._begun = set(self._running)
        self._begun.add(intent.intent_id)
        task = asyncio.create_task(self._drive(intent, state, version, durable))
        self._running[intent.intent_id] = task
        task.add_done_callback(lambda _: self._running.pop(intent.intent_id, None))

    async def _drive(self, intent: Intent, state: State, version: int, durable: asyncio.Event | None) -> None:
        try:
            await self._through(intent, state, version, durable)
        except FencedError:
            if not self.fenced.is_set():
                _log.warning("another executor has the account: nothing more is done here")
                self.fenced.set()
                self._on_fenced()
        except Exception as error:  # one intent's failure must not stop the others; it stays in the ledger
            _log.exception("an intent has stopped")
            EXECUTOR_ALERTS.labels("broken").inc()
            self.broken[intent.intent_id] = repr(error)[:200]

    async def _through(
        self, intent: Intent, state: State, version: int, durable: asyncio.Event | None
    ) -> None:
        event: Event = Resumed(self._ground.now())
        turn = self._symbols.setdefault(intent.symbol, SymbolTurn())
        while not state.done:
            async with turn.taken(exit=intent.exit):
                if durable is not None:
                    event, durable = await self._first_look(intent, state, durable, turn), None
                while True:
                    step = self._step(intent, state, event)
                    before = self._ground.now()  # the ledger writes under our fence, or not at all
                    version = await self._keep(intent, state, version, step)
                    state, action = step.state, step.action
                    if isinstance(action, Post):
                        action = replace(action, since=before)
                    if state.done or isinstance(action, Watch):
                        break
                    if not intent.exit and state.phase == "received" and state.doubt_ns is None:
                        # Nothing is under way: a look that takes long does not keep an exit waiting.
                        looked = await turn.unless_exit(self._act(intent, state, action))
                        event = looked or Resumed(self._ground.now())
                        if looked is None:
                            break
                    else:
                        event = await self._act(intent, state, action)
            if isinstance(action, Watch):
                event = await self._actions.watch(intent, state, action.order_id)

    async def _first_look(
        self, intent: Intent, state: State, durable: asyncio.Event, turn: SymbolTurn
    ) -> Event:
        """What the machine does first with a new intent, while it becomes durable."""
        ground = self._ground
        event: Event = Resumed(ground.now())
        first = machine.step(intent, state, event, self._rules)
        if isinstance(first.action, Survey) and first == Step(state, first.action):
            if intent.exit:
                event = await self._act(intent, state, first.action)
            else:  # an exit of this symbol goes first
                event = await turn.unless_exit(self._act(intent, state, first.action)) or event
        looked = ground.now()
        await durable.wait()
        if isinstance(event, Surveyed) and ground.now() - looked > _FRESH_NS:  # PostgreSQL was slow
            event = Resumed(ground.now())
        return event

    def _step(self, intent: Intent, state: State, event: Event) -> Step:
        if not isinstance(event, Surveyed):
            return machine.step(intent, state, event, self._rules)
        self._ground.failpoint("risk.before")
        step = machine.step(intent, state, event, self._rules)
        self._ground.failpoint("risk.after")
        return step

    async def _keep(self, intent: Intent, before: State, version: int, step: Step) -> int:
        """Write the step down; returns the new version."""
        if step.state == before and not step.results:
            return version
        ground, now = self._ground, self._ground.now()
        sending = step.action.order if isinstance(step.action, Post) else None
        if sending is not None:
            ground.failpoint("sending.before")
        # What follows on an attempt is told with what that attempt has filled.
        told = before if step.state.attempt != before.attempt else step.state
        records = [results.record(intent, told, before.attempt, each, now) for each in step.results]
        outgoing = [(bytes(each["event_id"]), ground.encode(each)) for each in records]
        await ground.ledger.move(self.claim, intent, version, step.state, outgoing, before.attempt, sending)
        if before.phase in ("sending", "unknown") and step.state.phase in ("open", "settling", "done"):
            ground.failpoint("answer.after")
        if outgoing:
            ground.told()
        if step.state.done:
            self._ended(intent, step.state, now)
        return version + 1

    def _ended(self, intent: Intent, state: State, now: int) -> None:
        outcome = state.outcome if state.outcome in _OUTCOMES else "other"
        EXECUTOR_ENDED.labels(intent.kind, outcome).inc()
        EXECUTOR_SECONDS.observe(max(now - intent.received_ts, 0) / 1e9)
        if intent.exit and outcome in _ALERTING:
            EXECUTOR_ALERTS.labels(outcome).inc()
            _log.error("an exit was not executed", outcome=state.outcome, reason=state.reason)

    def _act(self, intent: Intent, state: State, action: Action) -> Awaitable[Event]:
        return self._actions.act(intent, state, action)


_MOST_BEGUN = 100_000
_MOST_EARLY = 8
_FRESH_NS = 250 * NS_PER_MS
"""So long a look at the broker may have waited for the intent to be durable, else there is another."""
_OUTCOMES = frozenset(
    {"filled", "canceled", "expired", "rejected", "done_for_day", "replaced", "closed", "refused", "stale"}
    | {"dry_run"}
)
_ALERTING = frozenset({"rejected", "refused", "other"})
