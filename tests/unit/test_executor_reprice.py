"""An exit's limit order that does not fill is ended and priced anew; one order at a time, and within bounds.

If these fail, a stop in the evening hangs at a price that nobody pays, or two of its orders work at once.
"""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from sinks.executor import machine, state_json
from sinks.executor.broker_types import BrokerQuote
from sinks.executor.facts import Facts
from sinks.executor.moves import Overdue, Post, Resumed, Shown, State, Survey, Surveyed, Watch, Withdraw
from sinks.executor.rulebook import rules_of
from tests.unit.executor_model import NOW, QUOTE, SECOND, broker_order, exit_intent, facts, own_id, position
from tests.unit.test_executor_machine import Executor
from tidewire.risk_limits import RiskLimits

RULES = rules_of(RiskLimits())
LIMITED = exit_intent(order_type="limit", limit_price=Decimal("98"))
LATER = NOW + 31 * SECOND


def working() -> State:
    """Its first order works."""
    found = machine.step(LIMITED, State(), Surveyed(facts(position=position(10))), RULES)
    assert isinstance(found.action, Post)
    assert found.action.order.limit_price == Decimal("98")
    return machine.step(LIMITED, found.state, Shown(broker_order(found.action.order, 1), NOW), RULES).state


def ended(state: State, filled: int = 0) -> Shown:
    """The broker shows it canceled."""
    assert state.order is not None
    order = replace(broker_order(state.order, 1), status="canceled", filled_quantity=Decimal(filled))
    return Shown(order, LATER)


def test_a_limit_that_the_market_has_left_behind_follows_it() -> None:
    """At 98 nobody buys any more; the next order goes through the quote of now, though the trigger is old."""
    overdue = machine.step(LIMITED, working(), Overdue(LATER), RULES)
    assert overdue.action == Withdraw("o1")
    state = state_json.load(state_json.dump(overdue.state))
    settling = machine.step(LIMITED, state, ended(state, filled=3), RULES)
    low = replace(QUOTE, bid=Decimal("90"), ask=Decimal("91"))
    look = facts(now=LATER, position=position(7), quote=low)
    following = machine.step(LIMITED, settling.state, Surveyed(look), RULES)
    assert isinstance(following.action, Survey)
    assert [(r.outcome, r.final) for r in following.results] == [("canceled", False)]
    kept = state_json.load(state_json.dump(following.state))
    sent = machine.step(LIMITED, kept, Surveyed(look), RULES)
    assert isinstance(sent.action, Post)
    order = sent.action.order
    assert (order.client_order_id, order.quantity) == (own_id(1), Decimal(7))
    assert order.limit_price == Decimal("89.55")


def test_what_goes_on_is_no_older_than_the_end_of_its_last_order() -> None:
    """A process that dies between two orders must not send the second an hour later."""
    state = machine.step(LIMITED, working(), Overdue(LATER), RULES).state
    settling = machine.step(LIMITED, state, ended(state), RULES).state
    again = machine.step(LIMITED, settling, Surveyed(facts(now=LATER, position=position(10))), RULES).state
    edge = LATER + 10 * SECOND
    assert not machine.step(LIMITED, again, Resumed(edge), RULES).state.done
    assert machine.step(LIMITED, again, Resumed(edge + 1), RULES).state.outcome == "stale"


def test_a_user_who_cancels_it_is_not_followed_and_a_market_order_is_left_alone() -> None:
    """Another market order would fare no better, and a hand that cancels means it."""
    state = working()
    settling = machine.step(LIMITED, state, ended(state), RULES).state
    done = machine.step(LIMITED, settling, Surveyed(facts(now=LATER, position=position(10))), RULES).state
    assert (done.outcome, done.remaining) == ("canceled", Decimal(10))
    at_market = exit_intent()
    sending = machine.step(at_market, State(), Surveyed(facts(position=position(10))), RULES)
    assert isinstance(sending.action, Post)
    shown = Shown(broker_order(sending.action.order, 1), NOW)
    opened = machine.step(at_market, sending.state, shown, RULES).state
    assert machine.step(at_market, opened, Overdue(LATER), RULES).action == Watch("o1")


class Limits(Executor):
    """The model of the machine with an exit by limit orders, which a moving market leaves behind."""

    def __init__(self) -> None:
        super().__init__()
        self.intent = exit_intent(order_type="limit", limit_price=Decimal("98"))
        self.bid = Decimal(99)

    def look(self) -> Facts:
        """With the quote of now."""
        quote = BrokerQuote("AAPL", self.bid, self.bid + 2, self.now)
        return replace(super().look(), quote=quote)

    @rule(bid=st.integers(80, 120))
    def market_moves(self, bid: int) -> None:
        """Up or down."""
        self.bid = Decimal(bid)

    @precondition(lambda self: isinstance(self.action, Watch))
    @rule()
    def time_is_up(self) -> None:
        """30 s without a fill."""
        self.now += 30 * SECOND
        self.learn(Overdue(self.now))

    @precondition(lambda self: isinstance(self.action, Withdraw))
    @rule(arrives=st.booleans())
    def withdraw(self, arrives: bool) -> None:
        """The request arrives, or nobody knows; then the order is looked at."""
        self._withdraw(arrives)

    @precondition(lambda self: not self.kept.done and not isinstance(self.action, Withdraw))
    @rule()
    def go_on(self) -> None:
        """As in the model of market orders."""
        if isinstance(self.action, Post) and self.kept.attempt:
            assert self.action.order.limit_price is not None
        super().go_on()

    def _withdraw(self, arrives: bool) -> None:
        assert isinstance(self.action, Withdraw)
        order = self.broker.orders[self.action.order_id]
        if arrives and not order.terminal:
            self.broker.end(order, "canceled")
        self.learn(Shown(self.broker.orders[order.id], self.now))

    def teardown(self) -> None:
        """As there; a withdrawal that is under way is carried out first."""
        if hasattr(self, "broker") and isinstance(self.action, Withdraw):
            self._withdraw(True)
        super().teardown()


Limits.TestCase.settings = settings(
    max_examples=20, stateful_step_count=25, suppress_health_check=list(HealthCheck), deadline=None
)
TestLimits = Limits.TestCase
