"""Executions as they are kept, and the deals that they amount to once busts and corrections are heard. Pure.

A bust or correction names an earlier execution. The deals are a function of the set of executions, whatever
order they came in: a busted fill counts as never made, a corrected one as made so, at its own place in time.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from typing import Any

from processors.portfolio.exact import ZERO
from schemas.fills import Fill

Key = tuple[int, str, Decimal]
"""Place among the executions of a symbol: time in ns, order id, cumulative quantity."""


@dataclass(frozen=True)
class Execution:
    """One fill, bust or correction of a symbol; `offset` is that of the record that it came with."""

    id: str
    kind: str
    order_id: str
    signed: Decimal
    price: Decimal
    cumulative: Decimal
    ts: int
    execution_id: str | None
    previous: str | None
    broker_quantity: Decimal | None
    received_ts: int
    source: str
    offset: int

    @cached_property
    def key(self) -> Key:
        """Its place among others."""
        return self.ts, self.order_id, self.cumulative


@dataclass(frozen=True, slots=True)
class Deal:
    """What counts: `signed` at `price`, 0 where nothing does. `of` are the executions that it stands for."""

    key: Key
    signed: Decimal
    price: Decimal
    of: tuple[Execution, ...]


def from_fill(fill: Fill, received_ts: int, source: str, offset: int) -> Execution:
    """A fill as it is kept."""
    return Execution(
        fill.event_id.hex(),
        fill.kind,
        fill.order_id,
        fill.signed,
        fill.price,
        fill.cumulative_quantity,
        fill.ts,
        fill.execution_id,
        fill.previous_execution_id,
        fill.position_quantity,
        received_ts,
        source,
        offset,
    )


def to_row(execution: Execution) -> dict[str, Any]:
    """The execution as JSON can hold it, without its id (that stands in the key)."""
    e = execution
    what = [e.kind, e.order_id, str(e.signed), str(e.price), str(e.cumulative), e.ts]
    names = [e.execution_id, e.previous, None if e.broker_quantity is None else str(e.broker_quantity)]
    return {"e": [*what, *names, e.received_ts, e.source, e.offset]}


def from_row(id: str, row: dict[str, Any]) -> Execution:
    """The execution of `to_row`."""
    kind, order, signed, price, cumulative, ts, execution, previous, broker, *rest = row["e"]
    quantity = None if broker is None else Decimal(broker)
    numbers = Decimal(signed), Decimal(price), Decimal(cumulative)
    return Execution(id, kind, order, *numbers, ts, execution, previous, quantity, *rest)


def deals(executions: Sequence[Execution]) -> list[Deal]:
    """The deals of these executions, in the order of their keys.

    A bust whose execution is not among them is a deal of its own: the opposite one at the same price. A
    correction whose execution is not among them changes nothing, as what it replaces is not known.
    """
    revisions = [e for e in executions if e.kind != "fill"]
    fills = [e for e in executions if e.kind == "fill"]
    if not revisions:
        return [Deal(e.key, e.signed, e.price, (e,)) for e in sorted(fills, key=_key)]
    found = [_revised(fill, chain) for fill, chain in _chains(fills, revisions)]
    heard = {e.id for deal in found for e in deal.of}
    found += [_unmatched(e) for e in revisions if e.id not in heard]
    return sorted(found, key=lambda deal: deal.key)


def _key(execution: Execution) -> Key:
    return execution.key


def _chains(
    fills: Iterable[Execution], revisions: list[Execution]
) -> Iterable[tuple[Execution, list[Execution]]]:
    """Each fill with the revisions of it and of its corrections."""
    ordered = sorted(fills, key=_key)
    waiting = sorted(revisions, key=lambda e: (e.ts, e.id))
    chains: list[list[Execution]] = [[] for _ in ordered]
    names: list[set[str]] = [{f.execution_id} if f.execution_id else set() for f in ordered]
    by_name = {name: i for i, held in enumerate(names) for name in held}
    moved = True
    while moved:  # a correction's own name may be what a later revision refers to
        moved = False
        for revision in list(waiting):
            at = by_name.get(revision.previous or "")
            if at is None:
                at = _nameless(revision, ordered, chains)
            if at is None:
                continue
            chains[at].append(revision)
            waiting.remove(revision)
            if revision.execution_id:
                by_name.setdefault(revision.execution_id, at)
            moved = True
    return zip(ordered, chains, strict=True)


def _nameless(revision: Execution, fills: list[Execution], chains: list[list[Execution]]) -> int | None:
    """A fill without an execution id (FILL activities have none) that the revision can only mean."""
    own = [
        i
        for i, f in enumerate(fills)
        if f.order_id == revision.order_id and f.execution_id is None and not chains[i]
    ]
    if revision.kind == "bust":  # equal ones are worth the same: any of them
        own = [i for i in own if (fills[i].signed, fills[i].price) == (revision.signed, revision.price)]
        return own[-1] if own else None
    return own[0] if len(own) == 1 else None


def _revised(fill: Execution, chain: list[Execution]) -> Deal:
    if not chain:
        return Deal(fill.key, fill.signed, fill.price, (fill,))
    last = max(chain, key=lambda e: (e.ts, e.id))
    signed = ZERO if last.kind == "bust" else last.signed
    return Deal(fill.key, signed, last.price, (fill, *chain))


def _unmatched(revision: Execution) -> Deal:
    signed = -revision.signed if revision.kind == "bust" else ZERO
    return Deal(revision.key, signed, revision.price, (revision,))
