"""How much an exit may order, and which open orders stand in its way: by the broker's word alone. Pure.

Never more than the broker holds, nor more than it says is free, nor more than was held at the first look
less what this intent has filled since: an answer that lags behind our own fill must not sell shares twice.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

from sinks.executor.broker_types import BrokerOrder, BrokerPosition, Side
from sinks.executor.intents import Intent

ZERO = Decimal(0)


@dataclass(frozen=True, slots=True)
class Size:
    """An order's side and quantity (shares, coins, contracts)."""

    side: Side
    quantity: Decimal


@dataclass(frozen=True, slots=True)
class NoSize:
    """Nothing can be ordered. `kind`: closed (nothing is held), flipped (the position is on the other side),
    held (other orders hold all of it)."""

    kind: Literal["closed", "flipped", "held"]
    reason: str


def held(position: BrokerPosition | None) -> Decimal:
    """How much is held, never negative."""
    return ZERO if position is None else abs(position.quantity)


def exit_size(
    intent: Intent, position: BrokerPosition | None, base: Decimal | None, filled: Decimal
) -> Size | NoSize:
    """Side and quantity of an exit's next order.

    `base` is what was held at the intent's first order (None: this is it), `filled` what its orders have
    filled since.
    """
    if position is None or position.quantity == ZERO:
        return NoSize("closed", "nothing is held")
    side = position.exit_side
    if side != intent.side:
        return NoSize(
            "flipped", f"the broker holds a {position.side} position: {intent.side} would enlarge it"
        )
    bounds = [held(position), max(position.qty_available, ZERO)]
    if base is not None:
        bounds.append(max(base - filled, ZERO))
    if intent.quantity is not None:
        bounds.append(max(intent.quantity - filled, ZERO))
    quantity = min(bounds)
    if quantity <= ZERO:
        return NoSize("held", f"{held(position):f} held, {position.qty_available:f} available for orders")
    return Size(side, quantity)


def lags(position: BrokerPosition | None, base: Decimal | None, filled: Decimal) -> bool:
    """Whether the broker shows more than can be left after our own fills: it has not caught up, or somebody
    has bought meanwhile."""
    return base is not None and filled > ZERO and held(position) > max(base - filled, ZERO)


def unexplained_hold(position: BrokerPosition | None, open_orders: Sequence[BrokerOrder]) -> bool:
    """Whether shares are held by orders that are not shown: both answers are not of one moment."""
    return position is not None and not open_orders and position.qty_available < held(position)


def in_the_way(intent: Intent, open_orders: Sequence[BrokerOrder], ours: Sequence[str]) -> list[BrokerOrder]:
    """Open orders that hold what the exit wants or that it would cross, unless the rule respects them.

    `ours` are the client_order_ids of the intent itself.
    """
    if intent.foreign_orders == "respect":
        return []
    return [o for o in _flat(open_orders) if o.client_order_id not in ours and not o.terminal]


def adopted(intent: Intent, blocking: Sequence[BrokerOrder]) -> list[BrokerOrder]:
    """Those of them that close the position already and are left to do so."""
    if intent.foreign_orders != "adopt":
        return []
    return [o for o in blocking if o.side == intent.side and o.status != "pending_cancel"]


def _flat(orders: Sequence[BrokerOrder]) -> Iterator[BrokerOrder]:
    """Orders with their legs: a leg may hold shares when its entry is long filled."""
    for order in orders:
        yield order
        yield from _flat(order.legs)
