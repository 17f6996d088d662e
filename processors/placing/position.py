"""What the placing of exits needs to know of a position, taken from the portfolio's own fold. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Any, NamedTuple

from processors.portfolio.exact import ZERO
from processors.portfolio.holding import Holding

State = dict[str, Any]


class Cause(NamedTuple):
    """The input that led to a change: its receive time and its event time in ns, and where it came from."""

    received_ts: int
    ts: int
    source: str


@dataclass(frozen=True, slots=True)
class Position:
    """A position. `quantity` is negative for a short one; `entry_price` in USD a share, unit or contract's
    share; `cost` in USD. `broker`: the quantity that the broker said last, and when that was received (ns).
    """

    account: str
    symbol: str
    asset_class: str
    epoch: int
    quantity: Decimal
    entry_price: Decimal
    cost: Decimal
    opened_ts: int
    unexplained: bool
    cause: Cause
    broker: tuple[Decimal, int] | None = None

    def same(self, other: Position) -> bool:
        """Whether they differ in nothing but what led to them."""
        return self._told() == other._told()

    def _told(self) -> tuple[object, ...]:
        held = self.epoch, self.quantity, self.entry_price, self.cost, self.opened_ts
        return *held, self.unexplained, self.asset_class


def of_holding(held: Holding) -> Position:
    """The position as it stands now; to be called inside `exact()`."""
    now, newest, broker = held.now, held.newest, held.broker
    return Position(
        held.account,
        held.symbol,
        held.asset_class,
        now.epoch,
        now.quantity,
        held.average_price(now) if now.quantity else ZERO,
        now.cost,
        now.opened_ts,
        held.unexplained,
        Cause(newest[0], newest[1], newest[2]),
        None if broker is None else (broker.quantity, broker.received_ts),
    )


def to_row(position: Position) -> State:
    """As JSON can hold it; what the broker said is asked for anew."""
    p = position
    return {
        "class": p.asset_class,
        "epoch": p.epoch,
        "amounts": [str(p.quantity), str(p.entry_price), str(p.cost)],
        "opened_ts": p.opened_ts,
        "unexplained": p.unexplained,
        "cause": list(p.cause),
    }


def from_row(account: str, symbol: str, row: State) -> Position:
    """The position of `to_row`."""
    quantity, entry, cost = map(Decimal, row["amounts"])
    return Position(
        account,
        symbol,
        row["class"],
        row["epoch"],
        quantity,
        entry,
        cost,
        row["opened_ts"],
        row["unexplained"],
        Cause(*row["cause"]),
    )
