"""Account activities as they are kept, and the changes that they amount to once all of them are heard. Pure.

Like the deals of executions, the changes are a function of the set of activities, whatever order they came
in. An activity may be corrected or canceled in place (another status with the same id) or by another one that
names it. A split is told as two activities, the old shares away and the new ones in: they are one change, and
one of them alone is none.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from typing import Any

from processors.portfolio.cost import Standing, receive, rescale, trade, transfer
from processors.portfolio.exact import ZERO
from processors.portfolio.executions import Key
from schemas.activities import CANCELED, EXECUTED, Effect, Kind
from schemas.event_id import activity_id

_RANKS = {"": 0, "executed": 0, "correct": 1, CANCELED: 2}


@dataclass(frozen=True)
class Action:
    """One activity; `offset` is that of the record that it came with. Its id is the same in every status."""

    id: str
    activity: str
    status: str
    kind: Kind
    quantity: Decimal
    price: Decimal
    cash: Decimal
    ts: int
    group: str
    previous: str | None
    received_ts: int
    source: str
    event: str
    offset: int

    @cached_property
    def key(self) -> Key:
        """Its place among others and among executions."""
        return self.ts, self.activity, ZERO

    def replaces(self, known: Action) -> bool:
        """Whether it is a later word on the same activity."""
        return _rank(self) > _rank(known)

    @property
    def revises(self) -> bool:
        """Whether it says something of an activity that was told before."""
        return self.previous is not None or self.status not in EXECUTED


@dataclass(frozen=True, slots=True)
class Change:
    """What counts of one activity, or of several that belong together (`of`)."""

    key: Key
    kind: Kind
    signed: Decimal
    price: Decimal
    cash: Decimal
    group: str
    of: tuple[Action, ...]


def from_record(activity: Mapping[str, Any], effect: Effect, offset: int) -> Action:
    """An activity as it is kept."""
    return Action(
        activity_id(activity["account"], activity["activity_id"]).hex(),
        activity["activity_id"],
        activity["status"] or "",
        effect.kind,
        effect.quantity,
        effect.price,
        effect.cash,
        effect.ts,
        effect.group,
        activity["previous_id"],
        activity["received_ts"],
        activity["source"],
        activity["event_id"].hex(),
        offset,
    )


def to_row(action: Action) -> dict[str, Any]:
    """The activity as JSON can hold it, without its id (that stands in the key)."""
    a = action
    numbers = [str(a.quantity), str(a.price), str(a.cash)]
    return {
        "a": [a.activity, a.status, a.kind, *numbers, a.ts, a.group, a.previous],
        "from": [a.received_ts, a.source, a.event, a.offset],
    }


def from_row(id: str, row: dict[str, Any]) -> Action:
    """The activity of `to_row`."""
    activity, status, kind, quantity, price, cash, *rest = row["a"]
    numbers = Decimal(quantity), Decimal(price), Decimal(cash)
    return Action(id, activity, status, kind, *numbers, *rest, *row["from"])


def changes(actions: Collection[Action]) -> list[Change]:
    """What these activities amount to, in the order of their keys."""
    void = {a.id for a in actions if a.status == CANCELED} | set(_revised(actions))
    found: list[Change] = []
    groups: defaultdict[tuple[Kind, str], list[Action]] = defaultdict(list)
    for action in sorted(actions, key=lambda a: a.key):
        if action.id in void or unmatched(action, actions):
            continue
        if action.group and action.kind in ("rescale", "transfer"):
            groups[action.kind, action.group].append(action)
        else:
            found.append(_alone(action))
    for (kind, _), legs in groups.items():
        if len({leg.quantity > 0 for leg in legs}) == 2:
            found.append(_exchange(legs))
        elif kind == "transfer":
            found += map(_alone, legs)
    return sorted(found, key=lambda change: change.key)


def unmatched(action: Action, actions: Collection[Action]) -> bool:
    """Whether it corrects or cancels an activity that is not among these."""
    return action.previous is not None and not _knows(actions, action.previous)


def apply(
    before: Standing, change: Change, multiplier: Decimal, carried: Decimal | None
) -> tuple[Standing, ...]:
    """The standing after a change; two if it went through zero. `carried`: the cost that it brings, USD."""
    ts = change.key[0]
    if change.kind == "rescale":
        steps = rescale(before, change.signed, ts) if change.signed else (before,)
        return (*steps[:-1], _with_flow(steps[-1], change.cash)) if change.cash else steps
    if change.kind == "transfer":
        cost = change.signed * change.price * multiplier if carried is None else carried
        return transfer(before, change.signed, cost, ts)
    if change.kind == "trade":
        steps = trade(before, change.signed, change.price, ts, multiplier)
        # The amount that moved is told; what the price makes of it may be rounded.
        off = change.cash - (steps[-1].flow - before.flow)
        return (*steps[:-1], _with_flow(steps[-1], off)) if off else steps
    return receive(before, change.cash) if change.kind == "proceeds" else (_with_flow(before, change.cash),)


def _with_flow(standing: Standing, amount: Decimal) -> Standing:
    s = standing
    return Standing(s.quantity, s.cost, s.realized, s.realized_before, s.flow + amount, s.epoch, s.opened_ts)


def _rank(action: Action) -> int:
    return _RANKS.get(action.status, 1)


def _names(previous: str) -> Callable[[Action], bool]:
    """An activity is named by its whole id, or by what follows the time in it."""
    return lambda a: a.activity == previous or a.activity.partition("::")[2] == previous


def _knows(actions: Collection[Action], previous: str) -> bool:
    return any(map(_names(previous), actions))


def _revised(actions: Collection[Action]) -> Iterator[str]:
    for action in actions:
        if action.previous is not None:
            yield from (a.id for a in filter(_names(action.previous), actions))


def _alone(action: Action) -> Change:
    a = action
    return Change(a.key, a.kind, a.quantity, a.price, a.cash, a.group, (a,))


def _exchange(legs: Sequence[Action]) -> Change:
    """The old shares away and the new ones in."""
    signed = sum((leg.quantity for leg in legs), ZERO)
    cash = sum((leg.cash for leg in legs), ZERO)
    return Change(legs[-1].key, "rescale", signed, ZERO, cash, legs[0].group, tuple(legs))
