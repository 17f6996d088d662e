"""What a position costs by Alpaca's rule, which is not ours: average within a day, FIFO overnight. Pure.

Alpaca's documentation ("Position Average Entry Price Calculation"): while a day lasts, a sale takes the
average of all that is held. When the next one begins, the cost is made anew by "compressed FIFO": all that
was bought in one day is one lot at its average price, and what was sold takes from the oldest lot first. Days
are New York's. A short position is the same with the signs turned. One that was closed begins anew: its lots
are gone. Quotients are rounded at 18 decimals (exact.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

from processors.portfolio.exact import ZERO, quotient

Lot = tuple[Decimal, Decimal]
"""Quantity and cost in USD, both signed like the position."""


@dataclass(frozen=True, slots=True)
class Lots:
    """A position on one day. `older` are the lots of former days, the oldest first; `opened` what this day
    has added, `closed` what it took away (signed like the position). `quantity` and `cost` are as of now.
    """

    day: int = 0
    older: tuple[Lot, ...] = ()
    opened: Lot = (ZERO, ZERO)
    closed: Decimal = ZERO
    quantity: Decimal = ZERO
    cost: Decimal = ZERO


EMPTY = Lots()


def held(quantity: Decimal, cost: Decimal) -> Lots:
    """A position of which no more is known than what it costs: one old lot."""
    return Lots(older=((quantity, cost),), quantity=quantity, cost=cost) if quantity else EMPTY


def on(lots: Lots, day: int) -> Lots:
    """The same position on a later day (a number of `schemas.activities.day_of`); an earlier one changes
    nothing.
    """
    if day <= lots.day:
        return lots
    own = (lots.opened,) if lots.opened[0] else ()
    older = _without((*lots.older, *own), lots.closed)
    return Lots(day, older, quantity=lots.quantity, cost=sum((cost for _, cost in older), ZERO))


def take(lots: Lots, signed: Decimal, cost: Decimal, day: int) -> Lots:
    """After `signed` more or fewer (negative: sold). `cost` is what it cost if it opens something, signed."""
    now = on(lots, day)
    if not signed:
        return now
    if not now.quantity:
        return Lots(now.day, opened=(signed, cost), quantity=signed, cost=cost)
    if (now.quantity > 0) == (signed > 0):
        opened = now.opened[0] + signed, now.opened[1] + cost
        return replace(now, opened=opened, quantity=now.quantity + signed, cost=now.cost + cost)
    left = now.quantity + signed
    if not left:
        return Lots(now.day)
    if (left > 0) != (now.quantity > 0):
        cost = quotient(cost * left, signed)
        return Lots(now.day, opened=(left, cost), quantity=left, cost=cost)
    removed = quotient(now.cost * -signed, now.quantity)
    return replace(now, closed=now.closed - signed, quantity=left, cost=now.cost - removed)


def rescaled(lots: Lots, signed: Decimal, day: int) -> Lots:
    """After a split: more or fewer of each lot, what they cost stays."""
    now = on(lots, day)
    left = now.quantity + signed
    if not now.quantity or not left or (left > 0) != (now.quantity > 0):
        return take(now, signed, ZERO, day)

    def scaled(quantity: Decimal) -> Decimal:
        return quotient(quantity * left, now.quantity)

    older = [(scaled(quantity), cost) for quantity, cost in now.older]
    opened, closed = (scaled(now.opened[0]), now.opened[1]), scaled(now.closed)
    rest = left + closed - opened[0] - sum((quantity for quantity, _ in older), ZERO)
    if opened[0] or not older:  # what rounding has left over goes to the newest
        opened = opened[0] + rest, opened[1]
    else:
        older[-1] = older[-1][0] + rest, older[-1][1]
    return Lots(now.day, tuple(older), opened, closed, left, now.cost)


def to_row(lots: Lots) -> list[Any]:
    """The lots as JSON can hold them."""
    older = [[str(quantity), str(cost)] for quantity, cost in lots.older]
    return [lots.day, older, [*map(str, lots.opened)], *map(str, (lots.closed, lots.quantity, lots.cost))]


def from_row(row: Sequence[Any]) -> Lots:
    """The lots of `to_row`."""
    day, older, opened, closed, quantity, cost = row
    return Lots(day, tuple(map(_lot, older)), _lot(opened), Decimal(closed), Decimal(quantity), Decimal(cost))


def _lot(row: Sequence[str]) -> Lot:
    return Decimal(row[0]), Decimal(row[1])


def _without(lots: Sequence[Lot], closed: Decimal) -> tuple[Lot, ...]:
    """What is left of lots when so much was sold, from the first one on."""
    left = []
    for quantity, cost in lots:
        if abs(closed) >= abs(quantity):
            closed -= quantity
        elif closed:
            left.append((quantity - closed, cost - quotient(cost * closed, quantity)))
            closed = ZERO
        else:
            left.append((quantity, cost))
    return tuple(left)
