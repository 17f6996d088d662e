"""What has happened to one symbol of one account: executions and activities, and where they leave it. Pure.

Both are kept as sets, each of its own topic; the standing is a function of the base and the two, so it does
not matter in which order they came. Once ABSORB_AT are kept, the oldest go into the base until KEEP are left.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from heapq import merge
from typing import NamedTuple

from processors.portfolio import actions as activities
from processors.portfolio import broker_cost
from processors.portfolio.actions import Action, Change
from processors.portfolio.broker_cost import Lots
from processors.portfolio.cost import NOTHING, Standing, trade
from processors.portfolio.exact import ZERO, quotient
from processors.portfolio.executions import Deal, Execution, Key, deals
from schemas.activities import day_of

KEEP = 500
ABSORB_AT = 1_000

Kept = Execution | Action


class Scale(NamedTuple):
    """At `ts` (ns) a split made `ratio` shares of one."""

    ts: int
    ratio: Decimal


@dataclass(slots=True)
class History:
    """`base` is what all that is no longer kept has left, `base_lots` the same by the broker's rule.
    `absorbed` is the key of the newest that went into it. `now` and `lots` are where everything leaves it.

    `carried` is the cost that a group of activities brings from another symbol (USD), `moved` what one takes
    away from this one. `scales` are the splits of what is kept.
    """

    multiplier: Decimal
    base: Standing = NOTHING
    base_lots: Lots = broker_cost.EMPTY
    absorbed: Key | None = None
    kept: list[Execution] = field(default_factory=list)
    actions: dict[str, Action] = field(default_factory=dict)
    carried: dict[str, Decimal] = field(default_factory=dict)
    moved: dict[str, Decimal] = field(default_factory=dict)
    scales: list[Scale] = field(default_factory=list)
    now: Standing = NOTHING
    lots: Lots = broker_cost.EMPTY
    last: Key | None = None
    _ids: dict[str, Execution] = field(default_factory=dict)
    _revised: int = 0

    # ---------------------------------------------------------------- what is kept

    def known(self, id: str) -> Execution | None:
        """The kept execution with this id."""
        return self._ids.get(id)

    def may_be_absorbed(self, one: Kept) -> bool:
        """Whether it is as old as what the base has absorbed."""
        return self.absorbed is not None and one.key <= self.absorbed

    def keep(self, execution: Execution) -> None:
        """Take an execution without folding it."""
        insort(self.kept, execution, key=lambda e: e.key)
        self._ids[execution.id] = execution
        self._revised += execution.kind != "fill"

    def remove(self, one: Kept) -> None:
        """Take out what the opening balance contains; `recompute` must follow."""
        if isinstance(one, Action):
            del self.actions[one.id]
            return
        self.kept.remove(one)
        del self._ids[one.id]
        self._revised -= one.kind != "fill"

    @property
    def everything(self) -> Iterator[Kept]:
        """All that is kept."""
        yield from self.kept
        yield from self.actions.values()

    # ---------------------------------------------------------------- the fold

    def add(self, execution: Execution) -> tuple[Standing, ...] | None:
        """Keep one more and fold it; None if it is late or revises another: then `recompute` must follow."""
        in_order = (
            (self.last is None or execution.key > self.last)
            and execution.kind == "fill"
            and not self._revised
        )
        self.keep(execution)
        return (
            self._step(Deal(execution.key, execution.signed, execution.price, (execution,)))
            if in_order
            else None
        )

    def recompute(self) -> list[Standing]:
        """Fold the base and everything kept anew; returns how each epoch before the newest ended."""
        self.now, self.lots, self.last = self.base, self.base_lots, self.absorbed
        self.moved, self.scales = {}, []
        ended: list[Standing] = []
        before = self.now
        for part in self.parts():
            for step in self._step(part):
                if 0 < before.epoch < step.epoch:
                    ended.append(before)
                before = step
        return ended

    def parts(self) -> Iterator[Deal | Change]:
        """The deals and changes that all that is kept amounts to, in their order."""
        if not self.actions:
            return iter(deals(self.kept))
        return merge(deals(self.kept), activities.changes(self.actions.values()), key=lambda part: part.key)

    def _step(self, part: Deal | Change) -> tuple[Standing, ...]:
        before = self.now
        steps = self._apply(before, part)
        self.now = now = steps[-1]
        self.lots = self._lots(before, part)
        self.last = part.key
        if isinstance(part, Change):
            self._note(before, now, part)
        return steps

    def _apply(self, before: Standing, part: Deal | Change) -> tuple[Standing, ...]:
        if isinstance(part, Deal):
            return trade(before, part.signed, part.price, part.key[0], self.multiplier)
        return activities.apply(before, part, self.multiplier, self.carried.get(part.group))

    def _lots(self, before: Standing, part: Deal | Change) -> Lots:
        day = day_of(part.key[0])
        if isinstance(part, Change) and part.kind == "rescale":
            return broker_cost.rescaled(self.lots, part.signed, day)
        cost = part.signed * part.price * self.multiplier
        if isinstance(part, Change) and part.kind == "transfer":
            cost = self.carried.get(part.group, cost)
        return broker_cost.take(self.lots, part.signed, cost, day)

    def _note(self, before: Standing, now: Standing, change: Change) -> None:
        if change.kind == "rescale" and before.quantity and now.quantity and now.epoch == before.epoch:
            self.scales.append(Scale(change.key[0], quotient(now.quantity, before.quantity)))
        if change.kind == "transfer" and change.group and (before.quantity > 0) != (change.signed > 0):
            gone = before.cost - now.cost if now.epoch == before.epoch else before.cost
            self.moved[change.group] = self.moved.get(change.group, ZERO) + gone

    def absorb(self) -> tuple[list[Kept], list[Scale]]:
        """Move the oldest into the base, if there are too many; returns those moved, and the splits among
        them.
        """
        count = len(self.kept) + len(self.actions)
        if count < ABSORB_AT:
            return [], []
        old = History(self.multiplier, self.base, self.base_lots, self.absorbed, carried=self.carried)
        old.now, old.lots = self.base, self.base_lots
        moved: list[Kept] = []
        for part in self.parts():
            if count - len(moved) <= KEEP:
                break
            old._step(part)
            moved += part.of
        self._leave(moved)
        self.base, self.base_lots = old.now, old.lots
        self.absorbed = (
            old.last if self.absorbed is None or old.last is None else max(self.absorbed, old.last)
        )
        self.scales = self.scales[len(old.scales) :]
        return moved, old.scales

    def _leave(self, moved: Iterable[Kept]) -> None:
        gone = {one.id for one in moved}
        self.kept = [e for e in self.kept if e.id not in gone]
        self.actions = {id: a for id, a in self.actions.items() if id not in gone}
        self._ids = {e.id: e for e in self.kept}
        self._revised = sum(e.kind != "fill" for e in self.kept)
