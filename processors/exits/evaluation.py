"""Rules meet prices: what each verdict does to its watch, and what is told of it. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from decimal import Decimal

from processors.exits import gates
from processors.exits.decision import FIRE, HOLD, QUIET, Marks, Verdict, decide
from processors.exits.facts import Facts, look
from processors.exits.gates import Gate
from processors.exits.hours import Hours
from processors.exits.outcome import Outcome
from processors.exits.schedule import Schedule
from processors.exits.shelf import Position, Shelf
from processors.exits.state import ARMED, HELD, PENDING, Guard
from processors.exits.trigger import Cause, event_record, trigger_record
from processors.exits.watching import Watching


class Evaluation:
    """Over the shelf of a partition. `cause` is the input that is being folded."""

    def __init__(self, shelf: Shelf, hours: Hours) -> None:
        self._shelf, self._hours = shelf, hours
        self.schedule = Schedule(hours)
        self.positions: dict[Position, dict[str, Guard]] = {}
        self.outcome = Outcome()
        self.cause = Cause(0, "ws")

    @property
    def now(self) -> int:
        """Event time of the partition, ns."""
        return self._shelf.clock.now

    def facts(self, watching: Watching) -> Facts:
        """What is known of a symbol now."""
        return look(watching.prices, self.now, self._hours, watching.band, watching.closed)

    def each(
        self, watching: Watching, concerned: Callable[[Guard], bool], facts: Facts | None = None
    ) -> None:
        """Judge the rules of a symbol that are concerned."""
        guards = [g for g in watching.guards.values() if g.live and concerned(g)]
        if not guards:
            return
        facts = facts or self.facts(watching)
        for guard in guards:
            if guard.live:  # another rule of its position may have fired meanwhile
                self._one(watching, guard, facts)
        watching.bound()

    def rebase(self, watching: Watching, guards: Iterable[Guard]) -> None:
        """Bring rules to the shares of now; a rule that a split changes tells so."""
        for guard in guards:
            if not guard.live or not guard.caught_up(watching.prices):
                continue
            for action in guard.apply(watching.actions, self.now):
                why = f"{action.kind} {action.id}: {action.old.normalize():f} to {action.new.normalize():f}"
                self.tell(guard, "rescaled", why, threshold=_threshold(guard))
                self._shelf.touch(guard)
            guard.bound()
        watching.look_ahead(self.now)
        watching.bound()

    def timely(self) -> None:
        """Event time has come to where a time rule fires or a hold has lasted too long."""
        for guard in self.schedule.due(self._shelf.guards.values(), self.now):
            watching = self._shelf.symbols[guard.watch["symbol"]]
            self.each(watching, lambda other, mine=guard: other is mine)  # type: ignore[misc]
        for guard in self.schedule.overdue(self._shelf.guards.values(), self.now):
            self.alert(guard)
        self.schedule.plan(self._shelf.guards.values(), self.now)

    def alert(self, guard: Guard) -> None:
        """A gate holds for longer than the rule allows: told once a hold."""
        if guard.alerted:
            return
        guard.alerted = True
        self.tell(guard, "alert", f"held for too long: {guard.reason}", guard.gate)
        self._shelf.touch(guard)

    def hold(self, guard: Guard, gate: Gate, price: Decimal | None = None) -> None:
        """A gate holds it; told when it is another gate than before."""
        if guard.state == HELD and guard.gate == gate.name:
            return
        if guard.state != HELD:
            guard.state, guard.since, guard.alerted = HELD, self.now, False
            self.schedule.held(guard)
        guard.gate, guard.reason = gate
        guard.bound()
        self.tell(guard, "held", gate.reason, gate.name, price, _threshold(guard))
        self._shelf.touch(guard)

    def release(self, guard: Guard, price: Decimal | None = None) -> None:
        """A good price has come."""
        gate, reason = guard.gate, guard.reason
        guard.state = ARMED
        guard.calm()
        guard.bound()
        self.tell(
            guard, "released", f"a good price; held it before: {reason}", gate, price, _threshold(guard)
        )
        self._shelf.touch(guard)

    def tell(
        self,
        guard: Guard,
        event: str,
        reason: str,
        gate: str = "",
        price: Decimal | None = None,
        threshold: Decimal | None = None,
    ) -> None:
        """One turn of a rule."""
        self.outcome.events.append(
            event_record(guard, event, reason, self.now, self.cause, gate, price, threshold)
        )

    def stop(self, guard: Guard, state: str) -> None:
        """It may not fire any more."""
        guard.state = state
        guard.calm()
        guard.bound()
        self._shelf.touch(guard)

    def _one(self, watching: Watching, guard: Guard, facts: Facts) -> None:
        if not guard.caught_up(watching.prices):
            return
        if guard.rule is None:
            self.hold(guard, Gate(gates.RULE, guard.problem or ""))
            self.alert(guard)
            return
        if watching.actions or guard.rule.booked:
            self.rebase(watching, [guard])
        before = guard.marks
        verdict = decide(guard.rule, guard.watch["held"], watching.actions, before, facts)
        if verdict.marks != before:
            guard.marks, guard.marks_basis = verdict.marks, facts.now
            guard.bound()
            self._shelf.touch(guard)
        if verdict.kind == FIRE:
            self._fire(watching, guard, before, verdict, facts)
        elif verdict.kind == HOLD:
            assert verdict.gate is not None, "what holds is a gate"
            self.hold(guard, verdict.gate, verdict.price)
            if verdict.gate.name == gates.ACTION:
                self.alert(guard)
        elif verdict.kind == QUIET and guard.state == HELD:
            self.release(guard, verdict.price)

    def _fire(self, watching: Watching, guard: Guard, before: Marks, verdict: Verdict, facts: Facts) -> None:
        rule = guard.rule
        assert rule is not None, "it was judged"
        if guard.state == HELD:
            self.release(guard, verdict.price)
        record = trigger_record(guard, rule, watching.actions, before, verdict, facts, self.cause)
        key, row = self._shelf.put_trigger(record)
        self.outcome.triggers.append(record)
        self.outcome.rows[key] = row
        why = f"{verdict.what} at {verdict.price}" if verdict.price is not None else str(verdict.what)
        self.tell(guard, "triggered", why, "", verdict.price, record["threshold"])
        for other in list(self.positions.get(guard.position, {}).values()):
            if other.live and other.epochs <= guard.epochs:
                self.stop(other, PENDING)
                if other is not guard:
                    self.tell(other, "disarmed", f"rule {guard.watch['rule']} fired for this position")
                    self._shelf.symbols[other.watch["symbol"]].bound()


def _threshold(guard: Guard) -> Decimal | None:
    if guard.rule is None:
        return None
    stop = guard.rule.stop_at(guard.marks.high_water, guard.marks.tight)
    return guard.rule.target if stop is None else stop
