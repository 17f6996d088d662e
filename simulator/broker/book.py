"""One account's cash and positions: a pure fold of its executions, at average cost.

A fill in the direction of a position moves its average price; one against it leaves the average and realises
the difference; what goes beyond zero starts a new position at the fill's price. A bust or a correction folds
the symbol's executions again without it, or with its new numbers. What changes a position without an
execution (a split, a fee in kind, an option that is exercised or expires) is an adjustment, in its place.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from decimal import Decimal

from simulator.broker.amounts import ZERO, divide, down

OPTION_MULTIPLIER = Decimal(100)
ONE = Decimal(1)


@dataclass(slots=True)
class Execution:
    """One fill. `qty` is positive; `cum` and `leaves` are the order's after it; `at` in ns."""

    id: str
    order_id: str
    symbol: str
    asset_class: str
    side: str
    qty: Decimal
    price: Decimal
    at: int
    cum: Decimal
    leaves: Decimal
    activity: str
    """Id of its activity: yyyymmddHHMMSSmmm::uuid."""
    state: str = "executed"
    """executed, canceled (busted) or corrected: `qty` and `price` are then the corrected ones."""
    first_qty: Decimal | None = None
    first_price: Decimal | None = None
    """What was executed, before a correction."""
    revised: int = 0
    """When it was busted or corrected last, ns."""
    revision: str = ""
    """Id of the activity of that."""

    @property
    def signed(self) -> Decimal:
        """Quantity as the position changes."""
        return self.qty if self.side == "buy" else -self.qty


@dataclass(frozen=True, slots=True)
class Adjustment:
    """A change of a position that is no execution; its cash is its activity's. `at` in ns.

    `kind`: split (`amount` new shares for each `base` old ones), fee (`amount` signed, taken at average cost)
    or trade (`amount` signed, at `base` USD each).
    """

    activity: str
    symbol: str
    asset_class: str
    kind: str
    amount: Decimal
    base: Decimal
    at: int


Event = Execution | Adjustment


@dataclass(slots=True)
class Position:
    """Quantity (negative: short), average price in USD, realised profit in USD since the account began."""

    symbol: str
    asset_class: str
    qty: Decimal = ZERO
    average: Decimal = ZERO
    realized: Decimal = ZERO
    opened: int = 0
    """When it last left zero, ns."""

    @property
    def multiplier(self) -> Decimal:
        """Units that one of quantity stands for."""
        return OPTION_MULTIPLIER if self.asset_class == "us_option" else ONE

    @property
    def cost(self) -> Decimal:
        """Cost basis in USD, negative for a short position."""
        return self.qty * self.average * self.multiplier

    def apply(self, signed: Decimal, price: Decimal, at: int) -> None:
        """Take one fill."""
        before, after = self.qty, self.qty + signed
        if before == ZERO or (before > ZERO) == (signed > ZERO):
            self.average = divide(before * self.average + signed * price, after)
            self.opened = at if before == ZERO else self.opened
        else:
            closed = min(abs(before), abs(signed)) * (ONE if before > ZERO else -ONE)
            self.realized += closed * (price - self.average) * self.multiplier
            if after == ZERO:
                self.average = ZERO
            elif (after > ZERO) != (before > ZERO):
                self.average, self.opened = price, at
        self.qty = after

    def rescale(self, new: Decimal, old: Decimal) -> None:
        """`new` for each `old`, cut to nine decimals; what was paid for them stays."""
        cost = self.qty * self.average
        self.qty = down(divide(self.qty * new, old))
        self.average = divide(cost, self.qty) if self.qty else ZERO

    def give(self, signed: Decimal) -> None:
        """A fee in kind: the rest keeps its average price."""
        self.qty += signed
        self.realized += signed * self.average
        if self.qty == ZERO:
            self.average = ZERO

    def adjust(self, adjustment: Adjustment) -> None:
        """Take what is no execution."""
        if adjustment.kind == "split":
            self.rescale(adjustment.amount, adjustment.base)
        elif adjustment.kind == "fee":
            self.give(adjustment.amount)
        else:
            self.apply(adjustment.amount, adjustment.base, adjustment.at)


@dataclass(slots=True)
class Book:
    """Cash in USD and positions by symbol."""

    cash: Decimal
    positions: dict[str, Position] = field(default_factory=dict)
    executions: dict[str, Execution] = field(default_factory=dict)
    _by_symbol: dict[str, list[Event]] = field(default_factory=dict)

    def quantity(self, symbol: str) -> Decimal:
        """Position of a symbol; 0 when there is none."""
        position = self.positions.get(symbol)
        return position.qty if position is not None else ZERO

    def open_positions(self) -> list[Position]:
        """Positions that are not zero, by symbol."""
        return [p for _, p in sorted(self.positions.items()) if p.qty != ZERO]

    def fill(self, execution: Execution) -> None:
        """Take an execution; one that was busted in an earlier run is only known."""
        position = self._position(execution)
        if execution.state != "canceled":
            position.apply(execution.signed, execution.price, execution.at)
            self.cash -= execution.signed * execution.price * position.multiplier
        self.executions[execution.id] = execution
        self._by_symbol.setdefault(execution.symbol, []).append(execution)

    def adjust(self, adjustment: Adjustment) -> None:
        """A position changes without an execution."""
        self._position(adjustment).adjust(adjustment)
        self._by_symbol.setdefault(adjustment.symbol, []).append(adjustment)

    def bust(self, execution: Execution) -> None:
        """An execution never happened."""
        self._undo_cash(execution)
        execution.state = "canceled"
        self._refold(execution)

    def correct(self, execution: Execution, qty: Decimal, price: Decimal) -> None:
        """An execution happened with another quantity and price."""
        self._undo_cash(execution)
        if execution.first_qty is None:
            execution.first_qty, execution.first_price = execution.qty, execution.price
        execution.state, execution.qty, execution.price = "corrected", qty, price
        self.cash -= execution.signed * price * self._position(execution).multiplier
        self._refold(execution)

    def _undo_cash(self, execution: Execution) -> None:
        self.cash += execution.signed * execution.price * self._position(execution).multiplier

    def _refold(self, execution: Execution) -> None:
        events = self._by_symbol[execution.symbol]
        alive = (e for e in events if isinstance(e, Adjustment) or e.state != "canceled")
        self.positions[execution.symbol] = fold(execution.symbol, execution.asset_class, alive)

    def _position(self, event: Event) -> Position:
        position = self.positions.get(event.symbol)
        if position is None:
            position = Position(event.symbol, event.asset_class)
            self.positions[event.symbol] = position
        return position


def fold(symbol: str, asset_class: str, events: Iterable[Event]) -> Position:
    """The position that executions and adjustments leave."""
    position = Position(symbol, asset_class)
    for event in events:
        if isinstance(event, Adjustment):
            position.adjust(event)
        else:
            position.apply(event.signed, event.price, event.at)
    return position
