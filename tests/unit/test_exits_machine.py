"""The exits of a partition against a naive loop, through crashes, repeats and restarts.

If these fail, an exit is lost or doubled when a process dies, or fires at another tick than a plain loop over
the ticks names.
"""

from __future__ import annotations

import json
from decimal import Decimal
from fractions import Fraction
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from processors.exits.explain import explain
from tests.exits_market import Market, a_watch

PRICES = st.integers(9000, 11000).map(lambda cents: cents / 100)
SPREADS = st.sampled_from([0.1, 0.02, 0.02, 0.01, 0.0, -0.05])


class Naive:
    """A stop at 95 and a trail of 5 on one long position, in plain words: no bounds, no rows, no floats."""

    def __init__(self) -> None:
        self.epochs = (1, 0)
        self.active, self.held, self.halted = True, False, False
        self.best: Fraction | None = None
        self.fired: list[str] = []

    def watch(self, epochs: tuple[int, int], active: bool, held: bool) -> None:
        """What the account side says now; both rules alike."""
        if epochs[0] != self.epochs[0]:
            self.best = None
        self.epochs, self.active, self.held = epochs, active, held

    def quote(self, bid: float, ask: float) -> None:
        """Every quote, in order."""
        name = f"a:AAPL:{self.epochs[0]}:{self.epochs[1]}"
        gates_closed = self.halted or self.held or not 0 < bid < ask
        if gates_closed or not self.active or name in self.fired:
            return
        price = Fraction(repr(bid))
        if self.best is None or price > self.best:
            self.best = price
        if price <= max(self.best - 5, Fraction(95)):
            self.fired.append(name)


class Exits(RuleBasedStateMachine):
    """Invariants 2, 5 and 9 hold after every step, whatever has crashed or been repeated."""

    def __init__(self) -> None:
        super().__init__()
        self.market, self.naive = Market(), Naive()
        self.said: list[dict[str, Any]] = []

    @initialize()
    def begin(self) -> None:
        """Two rules on one position."""
        self._say((1, 0), True, None)

    @rule(bid=PRICES, spread=SPREADS)
    def quote(self, bid: float, spread: float) -> None:
        """A quote, at times locked or crossed."""
        ask = round(bid + spread, 2)
        self.market.quote(bid, ask)
        self.naive.quote(bid, ask)

    @rule(price=PRICES)
    def trade(self, price: float) -> None:
        """A trade changes nothing for rules on quotes."""
        self.market.trade(price)

    @rule(epoch=st.booleans())
    def again(self, epoch: bool) -> None:
        """The next exit epoch, or after a flip the next position epoch."""
        position, attempt = self.naive.epochs
        self._say((position + 1, 0) if epoch else (position, attempt + 1), True, None)

    @rule(held=st.sampled_from([None, "unreconciled", "unexplained"]))
    def hold(self, held: str | None) -> None:
        """The account side forbids exits, or does not any more."""
        self._say(self.naive.epochs, True, held)

    @precondition(lambda self: self.naive.active)
    @rule()
    def release(self) -> None:
        """The position is closed; the next watch is of another epoch."""
        self._say(self.naive.epochs, False, None)

    @rule(halted=st.booleans())
    def halt(self, halted: bool) -> None:
        """Trading stops or goes on."""
        code = "H" if halted else "T"
        words = {"status_code": code, "status_message": "", "reason_message": ""}
        self.market.other("status", words)
        self.naive.halted = halted

    @rule(data=st.data())
    def repeat(self, data: st.DataObject) -> None:
        """Old inputs come again with their old coordinates, out of order."""
        for method, arguments in data.draw(st.permutations(self.market.log[-4:])):
            if method != "result_published":
                self.market._fold(method, arguments)

    @rule(data=st.data())
    def stale_watch(self, data: st.DataObject) -> None:
        """A watch of a former epoch is written again, after newer ones."""
        older = [r for r in self.said if (r["position_epoch"], r["exit_epoch"]) < self.naive.epochs]
        if older:
            self.market.watch(data.draw(st.sampled_from(older)))

    @rule()
    def publish(self) -> None:
        """Every pending intent is in the log."""
        for trigger in self.market.exits.pending():
            self.market.put("result_published", trigger["trigger_id"])

    @rule()
    def commit(self) -> None:
        """Rows and offsets are written."""
        self.market.commit()

    @rule(rows=st.integers(0, 8))
    def crash(self, rows: int) -> None:
        """The process dies amid a commit, and another takes over."""
        self.market.commit(rows)
        self.market.crash()

    @invariant()
    def fires_as_the_naive_loop_does_and_once(self) -> None:
        """Invariant 2: no trigger is lost or doubled; 9: none on a closed gate."""
        assert self.market.fired() == self.naive.fired

    @invariant()
    def nothing_pending_is_lost(self) -> None:
        """What is not published is pending."""
        sent = {t["trigger_id"] for t in self.market.triggers if t["state"] == "sent"}
        pending = {t["trigger_id"] for t in self.market.exits.pending()}
        assert set(self.market.fired()) <= sent | pending

    def teardown(self) -> None:
        """Invariant 5: every trigger, judged again from its record, gives itself."""
        for trigger in self.market.triggers:
            assert explain(trigger).fires

    def _say(self, epochs: tuple[int, int], active: bool, held: str | None) -> None:
        shared: dict[str, Any] = {
            "position_epoch": epochs[0],
            "exit_epoch": epochs[1],
            "active": active,
            "held": held,
        }
        shared["received_ts"] = self.market.now + 8  # after the newest price: those of before do not count
        for record in (
            a_watch(rule="stop", **shared),
            a_watch("trailing_stop", rule="trail", trail_price="5", **shared),
        ):
            self.market.watch(record)
            self.said.append(record)
        self.naive.watch(epochs, active, held is not None)


TestExits = Exits.TestCase
TestExits.settings = settings(max_examples=15, stateful_step_count=20, deadline=None)


TICKS = st.lists(
    st.tuples(st.sampled_from(["quote", "trade"]), st.integers(-60, 60), SPREADS), min_size=5, max_size=60
)
TRAILS = st.sampled_from([("trail_price", "1.5"), ("trail_percent", "2"), ("trail_percent", "0.75")])


class Trail:
    """A trailing stop in fractions. A print outside the NBBO that reached it is judged with each quote."""

    def __init__(self, trail: tuple[str, str], reference: str, sign: int) -> None:
        self.trail, self.reference, self.sign = trail, reference, sign
        self.best: Fraction | None = None
        self.nbbo: tuple[Fraction, Fraction] | None = None
        self.print: Fraction | None = None
        self.waits = False

    def trade(self, price: Fraction) -> bool:
        """Whether a trade fires it."""
        self.print = price
        return self.reference == "last" and self._print()

    def quote(self, bid: Fraction, ask: Fraction) -> bool:
        """Whether a quote fires it."""
        if bid < ask:
            self.nbbo = bid, ask
        if self.reference == "last":
            return self.waits and self._print()
        price = {"bid": bid, "ask": ask, "mid": (bid + ask) / 2}[self.reference]
        return bid < ask and self._good(price)

    def _print(self) -> bool:
        assert self.print is not None
        if self.nbbo is not None:
            bid, ask = self.nbbo
            margin = max(ask - bid, (bid + ask) / 200)
            if not bid - margin <= self.print <= ask + margin:
                self.waits = self.waits or self._reached(self.print)
                return False
        self.waits = False
        return self._good(self.print)

    def _good(self, price: Fraction) -> bool:
        if self.best is None or (price - self.best) * self.sign > 0:
            self.best = price
        return self._reached(price)

    def _reached(self, price: Fraction) -> bool:
        if self.best is None:
            return False
        behind = Fraction(self.trail[1])
        if self.trail[0] == "trail_percent":
            behind *= self.best / 100
        return (self.best - price) * self.sign >= behind


@settings(max_examples=15, deadline=None)
@given(TICKS, TRAILS, st.sampled_from(["bid", "ask", "mid", "last"]), st.booleans())
def test_a_trailing_stop_fires_at_the_tick_that_a_plain_loop_names(
    ticks: list[tuple[str, int, float]], trail: tuple[str, str], reference: str, short: bool
) -> None:
    """The same gates, no bounds and no floats: a stop that fires a tick away loses money by chance."""
    market, cents, sign = Market(), 10_000, -1 if short else 1
    naive, expected, fired = Trail(trail, reference, sign), [], []
    quantity = Decimal(100 * sign)
    market.watch(a_watch("trailing_stop", reference=reference, quantity=quantity, **{trail[0]: trail[1]}))
    for number, (method, step, spread) in enumerate(ticks):
        cents += step
        if method == "trade":
            market.trade(cents / 100)
            fires = naive.trade(Fraction(cents, 100))
        else:
            bid, ask = cents / 100, round(cents / 100 + spread, 2)
            market.quote(bid, ask)
            fires = naive.quote(Fraction(repr(bid)), Fraction(repr(ask)))
        if fires:
            expected.append(number)
        if market.triggers:
            fired.append(number)
    assert fired[:1] == expected[:1]


STEPS = st.lists(st.tuples(st.sampled_from("qqqqth"), PRICES, SPREADS), min_size=1, max_size=40)


@settings(max_examples=15, deadline=None)
@given(STEPS, st.sets(st.integers(0, 39)))
def test_two_replays_of_a_log_are_byte_identical_whatever_their_batches(
    steps: list[tuple[str, float, float]], cuts: set[int]
) -> None:
    """Invariant 5: triggers and events depend on the log, not on where commits or restarts fell."""
    outputs = []
    for restarts in (set[int](), cuts):
        market = Market()
        market.watch(a_watch())
        market.watch(a_watch("trailing_stop", account="b", trail_percent="3", reference="last"))
        for number, (kind, price, spread) in enumerate(steps):
            if kind == "q":
                market.quote(price, round(price + spread, 2))
            elif kind == "t":
                market.trade(price)
            else:
                words = {
                    "status_code": "H" if price < 100 else "T",
                    "reason_message": "",
                    "status_message": "",
                }
                market.other("status", words)
            if number in restarts:
                market.commit()
                market.crash()
        again = {json.dumps(e, default=str, sort_keys=True): None for e in market.events}
        told = [text for text in again if "found again" not in text]
        outputs.append((json.dumps(market.triggers, default=str, sort_keys=True), told))
    assert outputs[0] == outputs[1]
