"""What a deal makes of a position, by average cost. Pure and exact.

Cost is signed like the quantity: negative for a short position. A deal that reduces takes
`cost * reduced / held` with it, rounded at 18 decimals (exact.py), and one that closes takes all: so cost and
realized P&L move by opposite parts of one amount, and `flow + cost - realized` never changes.
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
