"""What the placing of exits needs to know of a position, taken from the portfolio's own fold. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Any, NamedTuple

from processors.placing import basis
from processors.placing.basis import Split
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
    `splits`: those that its history tells, `forgotten_ts`: it tells none up to then.
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
    differs: bool = False
    splits: tuple[Split, ...] = ()
    forgotten_ts: int = 0

    @property
    def confirmed_ts(self) -> int:
        """The session (its opening, ns) in which the broker has said that it holds this much; 0: none."""
        if self.broker is None or self.differs or self.unexplained or self.broker[0] != self.quantity:
            return 0
        return basis.confirms(self.broker[1]) or 0

    def same(self, other: Position) -> bool:
        """Whether they differ in nothing but what led to them."""
        return self._told() == other._told()

    def _told(self) -> tuple[object, ...]:
        held = self.epoch, self.quantity, self.entry_price, self.cost, self.opened_ts
        return *held, self.unexplained, self.asset_class, self.splits


def of_holding(held: Holding) -> Position:
    """The position as it stands now; to be called inside `exact()`."""
    now, newest, broker = held.now, held.newest, held.broker
    absorbed = held.story.absorbed
    forgotten = 0 if absorbed is None else basis.takes_effect(absorbed[0])
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
        held.differs_since is not None,
        basis.told(held.story.scales),
        forgotten,
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
        "splits": [[ts, str(ratio)] for ts, ratio in p.splits],
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
        splits=tuple((ts, Decimal(ratio)) for ts, ratio in row.get("splits", ())),
    )
