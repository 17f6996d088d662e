"""What a deal, a split or a transfer makes of a position, by average cost. Pure and exact.

Cost is signed like the quantity: negative for a short position. A deal that reduces takes
`cost * reduced / held` with it, rounded at 18 decimals (exact.py), and one that closes takes all: so cost and
realized P&L move by opposite parts of one amount, and `flow + cost - realized` never changes. Only a transfer
changes it, by the cost that comes or goes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import Decimal

from processors.portfolio.exact import ZERO, quotient


@dataclass(frozen=True, slots=True)
class Standing:
    """What deals have left of one symbol in one account. Amounts in USD.

    `quantity`: negative when short. `cost`: of what is held. `realized`: P&L of this epoch, `realized_before`
    of all former ones. `flow`: cash that the deals brought (negative: took). `epoch` counts positions from
    1; 0: none yet. `opened_ts` in ns.
    """

    quantity: Decimal = ZERO
    cost: Decimal = ZERO
    realized: Decimal = ZERO
    realized_before: Decimal = ZERO
    flow: Decimal = ZERO
    epoch: int = 0
    opened_ts: int = 0

    @property
    def realized_ever(self) -> Decimal:
        """P&L of all epochs."""
        return self.realized_before + self.realized


NOTHING = Standing()
ONE = Decimal(1)


def trade(
    before: Standing, signed: Decimal, price: Decimal, ts: int, multiplier: Decimal
) -> tuple[Standing, ...]:
    """The standing after a deal; two if it went through zero: flat first, then the new epoch.

    `signed` is negative when sold; it may be 0, then nothing changes.
    """
    if not signed:
        return (before,)
    held = before.quantity
    if not held:
        return (_open(before, signed, price, ts, multiplier),)
    if (held > 0) == (signed > 0):
        value = signed * price * multiplier
        return (replace(before, quantity=held + signed, cost=before.cost + value, flow=before.flow - value),)
    if abs(signed) <= abs(held):
        return (_reduce(before, signed, price, multiplier),)
    flat = _reduce(before, -held, price, multiplier)
    return flat, _open(flat, signed + held, price, ts, multiplier)


def _open(flat: Standing, signed: Decimal, price: Decimal, ts: int, multiplier: Decimal) -> Standing:
    value = signed * price * multiplier
    return Standing(signed, value, ZERO, flat.realized_ever, flat.flow - value, flat.epoch + 1, ts)


def _reduce(before: Standing, signed: Decimal, price: Decimal, multiplier: Decimal) -> Standing:
    left = before.quantity + signed
    value = -signed * price * multiplier
    removed = quotient(before.cost * -signed, before.quantity) if left else before.cost
    return replace(
        before,
        quantity=left,
        cost=before.cost - removed,
        realized=before.realized + value - removed,
        flow=before.flow + value,
    )


def rescale(before: Standing, signed: Decimal, ts: int) -> tuple[Standing, ...]:
    """The standing with more or fewer of the same, as a split makes it: cost, P&L and epoch stay.

    From nothing, to nothing or through zero there is no such thing: it is a deal at no price.
    """
    left = before.quantity + signed
    if before.quantity and left and (left > 0) == (before.quantity > 0):
        return (replace(before, quantity=left),)
    return trade(before, signed, ZERO, ts, ONE)


def receive(before: Standing, amount: Decimal) -> tuple[Standing, ...]:
    """The standing after cash (USD) for what has left it before."""
    return (replace(before, realized=before.realized + amount, flow=before.flow + amount),)


def transfer(before: Standing, signed: Decimal, cost: Decimal, ts: int) -> tuple[Standing, ...]:
    """The standing after something came with a cost (USD, signed like it) or left with its own.

    No cash moves, and nothing is realized.
    """
    held = before.quantity
    if not signed:
        return (before,)
    if not held:
        return (Standing(signed, cost, ZERO, before.realized_ever, before.flow, before.epoch + 1, ts),)
    if (held > 0) == (signed > 0):
        return (replace(before, quantity=held + signed, cost=before.cost + cost),)
    left = held + signed
    if not left or (left > 0) == (held > 0):
        removed = quotient(before.cost * -signed, held) if left else before.cost
        return (replace(before, quantity=left, cost=before.cost - removed),)
    flat = replace(before, quantity=ZERO, cost=ZERO)
    return flat, *transfer(flat, left, quotient(cost * left, signed), ts)
