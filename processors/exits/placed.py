"""Watches as they come: rules are armed, restated and released, beside the prices that they watch. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from processors.exits import gates
from processors.exits.decision import Marks
from processors.exits.evaluation import Evaluation
from processors.exits.feeds import Feeds
from processors.exits.gates import Gate
from processors.exits.outcome import APPLIED, DUPLICATE, STALE
from processors.exits.prices import Trade
from processors.exits.rescale import unclear
from processors.exits.rules import LAST
from processors.exits.shelf import Shelf
from processors.exits.state import ARMED, DISARMED, HELD, PENDING, SENT, Guard
from processors.exits.watching import Watching
from schemas.exit_rules import watch_key
from schemas.order_ids import trigger_name

Record = Mapping[str, Any]


class Placed:
    """The watches of a partition. `watched`: reference symbols with an active watch."""

    def __init__(self, shelf: Shelf, evaluation: Evaluation, feeds: Feeds) -> None:
        self._shelf, self._evaluation, self._feeds = shelf, evaluation, feeds
        self.watched: dict[str, Watching] = {}
        for guard in shelf.guards.values():
            self._settle(guard)
            self._index(guard)
        for watching in shelf.symbols.values():
            watching.look_ahead(shelf.clock.now)
            self._regard(watching)
        evaluation.schedule.plan(shelf.guards.values(), shelf.clock.now)
        self._tell_pending()

    def symbol(self, symbol: str) -> Watching:
        """A reference symbol, watched or not."""
        watching = self._shelf.symbols.get(symbol)
        if watching is None:
            watching = self._shelf.symbols[symbol] = Watching(symbol)
            watching.feed_closed = self._feeds.closed(watching.prices.asset_class, symbol)
            watching.close()
        return watching

    def watch(self, record: Record, offset: int) -> str:
        """A watch: new, restated or released."""
        key = watch_key(dict(record)).decode()
        guard = self._shelf.guards.get(key)
        if offset <= (self._shelf.gone.get(key, -1) if guard is None else guard.offset):
            return DUPLICATE
        if guard is None:
            self._shelf.welcome(key)
            guard = self._shelf.guards[key] = Guard(key, record, offset)
            self._index(guard)
            if record["active"]:
                self._arm(guard)
        elif (record["position_epoch"], record["exit_epoch"]) < guard.epochs:
            guard.offset = offset
            self._shelf.touch(guard)
            return STALE
        else:
            self._restate(guard, record, offset)
        self._shelf.touch(guard)
        self._regard(self.symbol(guard.watch["symbol"]))
        return APPLIED

    def tombstone(self, key: str, offset: int) -> str:
        """A watch is gone for good."""
        guard = self._shelf.guards.get(key)
        if guard is None or offset <= guard.offset:
            return DUPLICATE
        if guard.state != DISARMED:
            self._disarm(guard)
        watching = self.symbol(guard.watch["symbol"])
        watching.guards.pop(key, None)
        self._evaluation.positions.get(guard.position, {}).pop(key, None)
        self._shelf.forget(key, offset)
        self._regard(watching)
        return APPLIED

    def signal(self, watching: Watching, record: Record) -> None:
        """A signal of this symbol."""
        for guard in watching.live():
            wish = guard.rule and guard.rule.signal
            if not wish or wish[0] != record["kind"] or not guard.caught_up(watching.prices):
                continue
            if wish[1] == "exit":
                guard.marks = guard.marks._replace(signalled=True)
            else:
                guard.marks = guard.marks._replace(tighten=True)
            guard.bound()
            self._shelf.touch(guard)
            self._evaluation.tell(guard, "armed", f"a {wish[0]} signal: {wish[1]} at the next good price")
        watching.bound()

    def trade(self, watching: Watching, trade: Trade, concerned: Callable[[Guard], bool]) -> None:
        """A trade that matters. One that does not set the last price is judged, held, and forgotten."""
        facts = self._evaluation.facts(watching)
        if trade.sets_last:
            self._evaluation.each(watching, concerned, facts)
            return
        odd = replace(facts, trade=trade)
        by_trades = {g.key for g in watching.guards.values() if g.rule and g.rule.reference == LAST}
        self._evaluation.each(watching, lambda g: g.key in by_trades and _reached(g, trade.price), odd)
        self._evaluation.each(watching, lambda g: g.key not in by_trades and concerned(g), facts)

    def changed(self, watching: Watching) -> None:
        """Its gates or its corporate actions have changed."""
        self._shelf.dirty_symbols[watching.symbol] = watching
        self._close(watching)
        self._regard(watching)

    def look_at_feeds(self, watching: Watching) -> None:
        """What the feeds say of it now."""
        if watching.take_gates(self._feeds.closed(watching.prices.asset_class, watching.symbol)):
            self.changed(watching)

    def _restate(self, guard: Guard, record: Record, offset: int) -> None:
        before, stated, epochs = guard.watch, guard.stated, guard.epochs
        same = guard.says_the_same(record)
        applied, state = guard.applied, guard.state
        guard.restate(record, offset)
        guard.applied = [a for a in applied if guard.stated and a.ts > guard.stated.basis_ts]
        if not guard.keeps_marks(before, stated):
            guard.marks = Marks()
        if not record["active"]:
            if state != DISARMED:
                self._disarm(guard)
        elif guard.epochs != epochs or state == DISARMED:
            if state == DISARMED:  # of an exit that was in vain the signal's wish is still to be done
                guard.marks = guard.marks._replace(signalled=False)
            self._arm(guard)
        elif state in (ARMED, HELD):
            self._rearm(guard, same)

    def _arm(self, guard: Guard) -> None:
        """It begins to watch, unless its exit epoch has had its trigger."""
        guard.calm()
        guard.state = ARMED
        if guard.marks.high_water is None:
            guard.marks_basis = self._evaluation.now
        self._settle(guard)
        if guard.state != ARMED:
            guard.bound()
            return
        self._evaluation.tell(guard, "armed", _why_armed(guard.watch))
        self._pause(guard)
        self._prepare(guard)

    def _pause(self, guard: Guard) -> None:
        former = self._shelf.fired.get(guard.position, (-1, -1))
        pause = guard.rule.pause if guard.rule is not None and former[0] == guard.epochs[0] else 0
        until = self._shelf.fired_ts.get(guard.position, 0) + pause if pause else 0
        guard.marks = guard.marks._replace(not_before=until)

    def _rearm(self, guard: Guard, same: bool) -> None:
        if not same:
            self._evaluation.tell(guard, "armed", "restated")
        if guard.state == HELD and guard.gate in (gates.ACCOUNT, gates.RULE, gates.ACTION):
            guard.alerted = guard.alerted and same
        self._prepare(guard)

    def _prepare(self, guard: Guard) -> None:
        watching = self.symbol(guard.watch["symbol"])
        self._evaluation.schedule.armed(guard, self._evaluation.now)
        self._evaluation.rebase(watching, [guard])
        self._hold_back(watching, guard)
        guard.bound()

    def _hold_back(self, watching: Watching, guard: Guard) -> None:
        """Hold what a standing gate forbids, whatever the price."""
        if guard.rule is None:
            self._evaluation.hold(guard, Gate(gates.RULE, guard.problem or ""))
            self._evaluation.alert(guard)
            return
        if guard.watch["held"] is not None:
            self._evaluation.hold(guard, Gate(gates.ACCOUNT, guard.watch["held"]))
            return
        mine = gates.component(guard.rule)
        shut = next((Gate(name, why) for name, why, what in watching.closed if what in ("", mine)), None)
        why = unclear(guard.rule, watching.actions, self._evaluation.now)
        if shut is not None:
            self._evaluation.hold(guard, shut)
        elif why is not None:
            self._evaluation.hold(guard, Gate(gates.ACTION, why))
            self._evaluation.alert(guard)
        elif self._evaluation.now < guard.marks.not_before:
            self._evaluation.hold(guard, Gate(gates.PAUSE, gates.PAUSED))

    def _close(self, watching: Watching) -> None:
        for guard in watching.live():
            if guard.caught_up(watching.prices):
                self._hold_back(watching, guard)
        watching.bound()

    def _disarm(self, guard: Guard) -> None:
        self._evaluation.stop(guard, DISARMED)
        self._evaluation.tell(guard, "disarmed", "released")

    def _settle(self, guard: Guard) -> None:
        """One trigger for each exit epoch: what has fired does not watch any more."""
        if guard.live and self._shelf.has_fired(guard):
            name = trigger_name(*guard.position, *guard.epochs)
            guard.state = PENDING if name in self._shelf.triggers else SENT
            guard.calm()

    def _index(self, guard: Guard) -> None:
        """Among those of position and symbol, by key: of two that would fire, the same one always does."""
        siblings = self._evaluation.positions.setdefault(guard.position, {})
        for guards in (siblings, self.symbol(guard.watch["symbol"]).guards):
            last = next(reversed(guards), "")
            guards[guard.key] = guard
            if guard.key < last:
                ordered = sorted(guards.items())
                guards.clear()
                guards.update(ordered)
        guard.bound()

    def _regard(self, watching: Watching) -> None:
        """Whether anybody watches it; prices of before are forgotten when somebody does again."""
        if any(guard.state != DISARMED for guard in watching.guards.values()):
            self.watched[watching.symbol] = watching
        elif self.watched.pop(watching.symbol, None) is not None:
            watching.prices.clear()
            watching.band = None
            self._shelf.dirty_symbols[watching.symbol] = watching
        if not watching.guards and not watching.lasting:
            self._shelf.drop_symbol(watching.symbol)
        watching.bound()

    def _tell_pending(self) -> None:
        """A crash may have come between a trigger and the telling of it."""
        for record in self._shelf.triggers.values():
            for guard in self._evaluation.positions.get((record["account"], record["symbol"]), {}).values():
                if guard.watch["rule"] == record["rule"] and guard.state == PENDING:
                    self._evaluation.tell(guard, "triggered", "found again after a restart")


def _reached(guard: Guard, price: float) -> bool:
    return not guard.low < price < guard.high


def _why_armed(watch: Record) -> str:
    said = f"; the attempt before: {watch['result']}" if watch.get("result") else ""
    return f"exit epoch {watch['exit_epoch']} of position epoch {watch['position_epoch']}{said}"
