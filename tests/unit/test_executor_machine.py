"""The way of one intent to one order, against a broker that loses answers and a process that dies anywhere.

Named here are the invariants 2 (one order at a time, never more than held, sides never flip), 3 (every POST
follows a durable intent, every intent ends), 4 (attempt n+1 only after n is terminal) and 9 (nothing stale).
"""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from schemas.exit_rules import PERMANENT
from sinks.executor import machine, state_json
from sinks.executor.broker_types import NewOrder
from sinks.executor.facts import Facts
from sinks.executor.intents import Intent
from sinks.executor.machine import SETTLE_NS
from sinks.executor.moves import (
    Action,
    Clear,
    Denied,
    Doubtful,
    Event,
    LookUp,
    Missing,
    Post,
    Resumed,
    Rules,
    Shown,
    State,
    Step,
    Survey,
    Surveyed,
    Watch,
)
from sinks.executor.refusals import Verdict
from sinks.executor.rulebook import rules_of
from tests.unit.executor_model import (
    NOW,
    SECOND,
    ModelBroker,
    broker_order,
    exit_intent,
    facts,
    own_id,
    position,
)
from tidewire.risk_limits import RiskLimits

RULES = rules_of(RiskLimits())
REUSED, HELD = Verdict("reused", "look_up"), Verdict("held", "clear")


def step(state: State, event: Event, intent: Intent | None = None, rules: Rules = RULES) -> Step:
    return machine.step(intent or exit_intent(), state, event, rules)


def sending(quantity: int = 10) -> State:
    return step(State(), Surveyed(facts(position=position(quantity)))).state


def order_of(state: State) -> NewOrder:
    assert state.order is not None
    return state.order


def test_an_exit_sends_what_the_broker_holds_and_never_its_own_side() -> None:
    """Invariant 2: a trigger of yesterday's position must not open a short one of today."""
    found = step(State(), Surveyed(facts(position=position(7))))
    assert isinstance(found.action, Post)
    assert (found.action.order.side, found.action.order.quantity) == ("sell", Decimal(7))
    assert found.action.order.position_intent == "sell_to_close"
    flipped = step(State(), Surveyed(facts(position=position(-7))))
    assert (flipped.state.outcome, flipped.state.remaining) == ("refused", Decimal(7))
    assert flipped.state.reason.startswith(PERMANENT)
    cover = step(State(), Surveyed(facts(position=position(-7))), exit_intent(side="buy"))
    assert isinstance(cover.action, Post)
    assert cover.action.order.side == "buy"
    assert step(State(), Surveyed(facts())).state.outcome == "closed"


def test_an_unknown_outcome_is_looked_up_and_the_same_id_sent_again() -> None:
    """A second id for an order that may be there is a second order."""
    doubtful = step(sending(), Doubtful("timeout", NOW))
    assert isinstance(doubtful.action, LookUp)
    assert [result.outcome for result in doubtful.results] == ["unknown"]
    again = step(doubtful.state, Missing(NOW))
    assert isinstance(again.action, Survey)
    sent = step(again.state, Surveyed(facts(position=position(10))))
    assert isinstance(sent.action, Post)
    assert sent.action.order.client_order_id == own_id(0)
    reused = step(sent.state, Denied("client_order_id must be unique", NOW, REUSED))
    assert isinstance(reused.action, LookUp)
    adopted = step(reused.state, Shown(broker_order(order_of(sent.state), 1), NOW))
    assert adopted.state.phase == "open"


def test_a_doubtful_order_is_not_given_up_before_it_can_no_longer_turn_up() -> None:
    """A refusal that is told while the order is still on its way makes the next exit epoch sell again."""
    doubtful = step(sending(), Doubtful("timeout", NOW)).state
    again = step(doubtful, Missing(NOW)).state
    late = facts(position=position(10), now=NOW + 11 * SECOND)
    waiting = step(again, Surveyed(late))
    assert not waiting.state.done
    assert isinstance(waiting.action, LookUp)
    still = step(waiting.state, Missing(NOW + SETTLE_NS - 1))
    assert not still.state.done
    assert step(still.state, Missing(NOW + SETTLE_NS)).state.outcome == "stale"
    turned_up = step(still.state, Shown(broker_order(order_of(doubtful), 1), NOW + 12 * SECOND))
    assert turned_up.state.phase == "open"


def test_what_holds_the_shares_is_ended_first() -> None:
    """Alpaca refuses an exit (40310000) while a resting order holds the shares: the stop would never work."""
    resting = broker_order(NewOrder("mine", "AAPL", "sell", "limit", "day", quantity=Decimal(10)), 5)
    look = facts(position=position(10, 0), open_orders=(resting,))
    assert step(State(), Surveyed(look)).action == Clear(("o5",))
    assert isinstance(step(State(), Surveyed(look), exit_intent(foreign_orders="adopt")).action, Survey)
    respected = step(State(), Surveyed(look), exit_intent(foreign_orders="respect"))
    assert respected.state.outcome == "refused"
    clearing = step(State(), Surveyed(look)).state
    freed = step(clearing, Surveyed(facts(position=position(10))))
    assert isinstance(freed.action, Post)
    denied = step(freed.state, Denied("insufficient qty available", NOW, HELD))
    assert isinstance(denied.action, Survey)
    assert denied.state.attempt == 0


def test_a_position_that_lags_behind_our_fill_is_not_sold_twice() -> None:
    """REST may still show what an order has just sold."""
    state = sending(10)
    filled = broker_order(order_of(state), 1)
    ended = Shown(replace(filled, status="filled", filled_quantity=Decimal(10)), NOW)
    settling = step(state, ended)
    for _ in range(machine.MOST_LOOKS):
        settling = step(settling.state, Surveyed(facts(position=position(10))))
        assert isinstance(settling.action, Survey)
    done = step(settling.state, Surveyed(facts(position=position(10))))
    assert (done.state.outcome, done.state.remaining) == ("filled", Decimal(10))


def test_nothing_stale_is_sent() -> None:
    """Invariant 9: at the limit it may be sent, beyond not; without an answer of the broker too."""
    edge = NOW + 10 * SECOND
    at_limit = step(State(), Surveyed(facts(position=position(1), now=edge)))
    assert isinstance(at_limit.action, Post)
    assert step(State(), Surveyed(facts(position=position(1), now=edge + 1))).state.outcome == "stale"
    assert step(State(), Resumed(edge + 1)).state.outcome == "stale"
    expiring = exit_intent(expires_ts=NOW + 1)
    assert (
        step(State(), Surveyed(facts(position=position(1), now=NOW + 2)), expiring).state.outcome == "stale"
    )


def test_a_state_comes_back_from_the_ledger_as_it_was() -> None:
    """Whoever takes over must know exactly what may have been sent."""
    state = step(sending(), Doubtful("timeout", NOW)).state
    assert state_json.load(state_json.dump(state)) == state


class Executor(RuleBasedStateMachine):
    """One exit, a broker whose answers get lost, and executors that crash and are taken over."""

    def __init__(self) -> None:
        super().__init__()
        self.now = NOW
        self.intent = exit_intent()
        self.kept = State()
        self.action: Action = None
        self.lost: tuple[NewOrder, int] | None = None  # a POST that is on its way, and when it was sent
        self.finals: list[str] = []

    @initialize(held=st.integers(1, 20), foreign=st.booleans())
    def start(self, held: int, foreign: bool) -> None:
        self.broker = ModelBroker(Decimal(held))
        self.held = Decimal(held)
        if foreign:
            self.broker.place(NewOrder("foreign", "AAPL", "sell", "limit", "day", quantity=Decimal(1)))
        self.learn(Resumed(self.now))

    def learn(self, event: Event) -> None:
        before = self.kept
        found = machine.step(self.intent, before, event, RULES)
        if found.state.attempt > before.attempt:  # invariant 4
            last = self.broker.find(own_id(before.attempt))
            assert last is not None
            assert last.terminal
        # The state goes through the ledger, then the action is carried out: invariant 3.
        self.kept = state_json.load(state_json.dump(found.state))
        self.action = found.action
        if isinstance(found.action, Post):
            assert self.kept.phase == "sending"
            assert self.kept.order == found.action.order
        self.finals += [result.outcome for result in found.results if result.final]

    def look(self) -> Facts:
        held = self.broker.held
        return facts(
            now=self.now,
            position=position(held, self.broker.free()),
            open_orders=tuple(self.broker.open()),
        )

    def arrive(self, order: NewOrder) -> None:
        """A POST reaches the broker: invariant 2 is what it may find there."""
        assert order.quantity is not None
        assert order.side == "sell"
        assert order.quantity <= self.held
        answer = self.broker.place(order)
        self.last_answer = answer

    @precondition(lambda self: not self.kept.done)
    @rule()
    def go_on(self) -> None:
        """Carry out the action and learn its answer."""
        match self.action:
            case Survey():
                self.learn(Surveyed(self.look()))
            case Clear(ids):
                for each in ids:
                    if not self.broker.orders[each].terminal:
                        self.broker.end(self.broker.orders[each], "canceled")
                self.learn(Surveyed(self.look()))
            case Post(order):
                self.arrive(order)
                self._answered()
            case LookUp(client_id):
                found = self.broker.find(client_id)
                self.learn(Missing(self.now) if found is None else Shown(found, self.now))
            case Watch(order_id):
                self.learn(Shown(self.broker.orders[order_id], self.now))
            case None:
                raise AssertionError("an intent that has not ended waits for nothing")

    def _answered(self) -> None:
        answer = self.last_answer
        if answer == "reused":
            self.learn(Denied("client_order_id must be unique", self.now, REUSED))
        elif answer == "held":
            self.learn(Denied("insufficient qty available", self.now, HELD))
        else:
            assert not isinstance(answer, str)
            self.learn(Shown(answer, self.now))

    @precondition(lambda self: isinstance(self.action, Post))
    @rule(fate=st.sampled_from(["arrives", "late", "never"]))
    def answer_is_lost(self, fate: str) -> None:
        """Timeout, 504, reset after accept."""
        assert isinstance(self.action, Post)
        if fate == "arrives":
            self.arrive(self.action.order)
        elif fate == "late":
            self.lost = (self.action.order, self.now)
        self.learn(Doubtful("timeout", self.now))

    @precondition(lambda self: self.lost is not None)
    @rule()
    def late_order_arrives(self) -> None:
        """What was on its way gets there, whatever happened meanwhile; a request lasts 10 s at most."""
        assert self.lost is not None
        order, sent = self.lost
        if self.now - sent <= 10 * SECOND:
            before = len(self.broker.taken)
            self.arrive(order)
            assert not self.kept.done or len(self.broker.taken) == before, "an order after the end was told"
        self.lost = None

    @rule(sent=st.booleans())
    def crash(self, sent: bool) -> None:
        """kill -9, before or after the POST; another executor goes on from the ledger."""
        if isinstance(self.action, Post) and sent:
            self.arrive(self.action.order)
        self.learn(Resumed(self.now))

    @precondition(lambda self: not self.kept.done)
    @rule()
    def repeated(self) -> None:
        """News that come twice or too late change nothing for the worse."""
        if (found := self.broker.find(own_id(self.kept.attempt))) is not None:
            self.learn_quietly(Shown(found, self.now))

    def learn_quietly(self, event: Event) -> None:
        if isinstance(self.action, Watch):
            self.learn(event)

    @rule(data=st.data())
    def trade(self, data: st.DataObject) -> None:
        """Orders fill in part or whole, expire, or are cancelled by somebody."""
        working = self.broker.open()
        if not working:
            return
        order = data.draw(st.sampled_from(working))
        if data.draw(st.booleans()):
            left = int(order.remaining or 0)
            self.broker.fill(order, Decimal(data.draw(st.integers(1, left))))
        else:
            self.broker.end(order, data.draw(st.sampled_from(["canceled", "expired", "rejected"])))

    @rule(seconds=st.sampled_from([0.1, 1, 6]))
    def time_passes(self, seconds: float) -> None:
        self.now += int(seconds * SECOND)

    @invariant()
    def never_two_orders(self) -> None:
        """Invariant 2: one working order of ours at most, and the position never turns short."""
        if not hasattr(self, "broker"):
            return
        ours = [order for order in self.broker.open() if order.client_order_id.startswith("tw-")]
        assert len(ours) <= 1
        assert self.broker.held >= 0
        assert len(self.finals) <= 1

    def teardown(self) -> None:
        """Invariant 3: left alone, it ends; and then none of its orders works any more."""
        if not hasattr(self, "broker"):
            return
        self.lost = None
        for _ in range(200):
            if self.kept.done:
                break
            for order in self.broker.open():
                self.broker.fill(order, order.remaining or Decimal(0))
            self.now += SECOND
            self.go_on()
        assert self.kept.done
        assert len(self.finals) == 1
        ours = [order for order in self.broker.open() if order.client_order_id.startswith("tw-")]
        assert not ours


Executor.TestCase.settings = settings(
    max_examples=20, stateful_step_count=25, suppress_health_check=list(HealthCheck), deadline=None
)
TestExecutor = Executor.TestCase
