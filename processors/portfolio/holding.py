"""One symbol of one account: its base, the executions kept since, its mark, and where they leave it. Pure.

The standing is a function of the base and the kept executions, so it does not matter in which order they
came, and a crash can leave no half of a fill behind. Once ABSORB_AT are kept, the oldest go into the base
until KEEP are left; their ids stay known for ever.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from processors.portfolio.cost import NOTHING, Standing, trade
from processors.portfolio.exact import ZERO, quotient
from processors.portfolio.executions import Execution, Key, deals
from schemas.fills import multiplier

KEEP = 500
ABSORB_AT = 1_000

Input = tuple[int, int, str, str]
"""An input that had its say: received_ts, ts, source, event id in hex."""

NO_INPUT: Input = (0, 0, "ws", "")


@dataclass(frozen=True, slots=True)
class Price:
    """A price in USD and its event time in ns."""

    price: Decimal
    ts: int


@dataclass(frozen=True, slots=True)
class Broker:
    """What the broker said of a position, and when that was received (ns)."""

    quantity: Decimal
    average_price: Decimal | None
    received_ts: int


@dataclass(slots=True)
class Holding:
    """`next_mark` is the offset that follows the last mark folded.

    `differs_since` is the time of the first of the snapshots in a row that said another quantity (ns; None:
    the newest one compared said ours); `unexplained`: a second one still does.
    """

    account: str
    symbol: str
    asset_class: str
    base: Standing = NOTHING
    base_price: Price | None = None
    absorbed: Key | None = None
    chunks: int = 0
    mark: Price | None = None
    next_mark: int = 0
    broker: Broker | None = None
    differs_since: int | None = None
    unexplained: bool = False
    newest: Input = NO_INPUT
    kept: list[Execution] = field(default_factory=list)
    now: Standing = NOTHING
    multiplier: Decimal = ZERO
    _ids: dict[str, Execution] = field(default_factory=dict)
    _revised: int = 0

    def __post_init__(self) -> None:
        self.multiplier = multiplier(self.asset_class)
        self.now = self.base

    # ---------------------------------------------------------------- executions

    def known(self, id: str) -> Execution | None:
        """The kept execution with this id."""
        return self._ids.get(id)

    def may_be_absorbed(self, execution: Execution) -> bool:
        """Whether it is as old as what the base has absorbed, so that only the chunks can tell."""
        return self.absorbed is not None and execution.key <= self.absorbed

    def add(self, execution: Execution) -> tuple[Standing, ...]:
        """Fold one more; returns the standings that it led to, the flat one before a flip included.

        One that is late, or revises another, has everything kept folded anew; then the result is told, after
        the ends of the epochs that are over: of one that was told as open nobody would hear it otherwise.
        """
        last = self.kept[-1].key if self.kept else None
        in_order = (last is None or execution.key > last) and execution.kind == "fill" and not self._revised
        self._keep(execution)
        if not in_order:
            told = self.now.epoch
            return (*(end for end in self.recompute() if end.epoch >= told), self.now)
        steps = trade(self.now, execution.signed, execution.price, execution.ts, self.multiplier)
        self.now = steps[-1]
        self._settle()
        return steps

    def wait(self, execution: Execution) -> None:
        """Keep one that cannot be folded before the opening balance is known."""
        self._keep(execution)

    def restore(self, executions: Iterable[Execution]) -> None:
        """Take all executions that were kept, then fold them."""
        for execution in executions:
            self._keep(execution)
        self.recompute()

    def recompute(self) -> list[Standing]:
        """Fold the base and everything kept anew; returns how each epoch before the newest ended."""
        now, ended = self.base, []
        for deal in deals(self.kept):
            for step in trade(now, deal.signed, deal.price, deal.key[0], self.multiplier):
                if 0 < now.epoch < step.epoch:
                    ended.append(now)
                now = step
        self.now = now
        self._settle()
        return ended

    def remove(self, execution: Execution) -> None:
        """Take out an execution that the opening balance contains; `recompute` must follow."""
        self.kept.remove(execution)
        del self._ids[execution.id]
        self._revised -= execution.kind != "fill"

    def unmatched(self, revision: Execution) -> bool:
        """Whether a bust or correction refers to nothing that is kept."""
        return any(deal.of == (revision,) for deal in deals(self.kept))

    def absorb(self) -> list[Execution]:
        """Move the oldest executions into the base, if there are too many; returns those moved."""
        if len(self.kept) < ABSORB_AT:
            return []
        moved: list[Execution] = []
        for deal in deals(self.kept):
            if len(self.kept) - len(moved) <= KEEP:
                break
            self.base = trade(self.base, deal.signed, deal.price, deal.key[0], self.multiplier)[-1]
            self.base_price = Price(deal.price, deal.key[0])
            self.absorbed = deal.key if self.absorbed is None else max(self.absorbed, deal.key)
            moved += deal.of
        gone = {e.id for e in moved}
        self.kept = [e for e in self.kept if e.id not in gone]
        self._ids = {e.id: e for e in self.kept}
        self._revised = sum(e.kind != "fill" for e in self.kept)
        self.chunks += 1
        return moved

    def _keep(self, execution: Execution) -> None:
        insort(self.kept, execution, key=lambda e: e.key)
        self._ids[execution.id] = execution
        self._revised += execution.kind != "fill"
        self.saw((execution.received_ts, execution.ts, execution.source, execution.id))
        if execution.kind == "fill" and execution.broker_quantity is not None:
            average = self.broker.average_price if self.broker else None
            self.broker_says(Broker(execution.broker_quantity, average, execution.received_ts))

    def broker_says(self, broker: Broker) -> None:
        """Remember what the broker said last, with a fill or in a snapshot."""
        if self.broker is None or broker.received_ts >= self.broker.received_ts:
            self.broker = broker

    def compared(self, differs: bool, ts: int) -> bool:
        """What a snapshot of this time (ns) says of the quantity; whether that is news.

        The first difference may be a fill on its way. One that is still there in the next snapshot, fills
        that were looked up meanwhile included, has no activity that explains it.
        """
        before = self.differs_since, self.unexplained
        if not differs:
            self.differs_since, self.unexplained = None, False
        elif self.differs_since is None:
            self.differs_since = ts
        elif ts > self.differs_since:  # the same one may be read again after a crash
            self.unexplained = True
        return (self.differs_since, self.unexplained) != before

    def _settle(self) -> None:
        if not self.now.quantity:
            self.mark = None  # a later position must not be valued by the price of an earlier one

    # ---------------------------------------------------------------- prices

    def take_mark(self, price: Decimal, ts: int) -> bool:
        """Whether the mark counts: something is held, and no newer mark is known."""
        if not self.now.quantity or (self.mark is not None and ts < self.mark.ts):
            return False
        self.mark = Price(price, ts)
        return True

    def saw(self, one: Input) -> None:
        """Remember the newest input."""
        self.newest = max(self.newest, one)

    @property
    def price(self) -> Price | None:
        """What values it: the newest mark, else the last fill, else what it was opened with."""
        if self.mark is not None:
            return self.mark
        fills = (e for e in reversed(self.kept) if e.kind == "fill")
        last = next(fills, None)
        return self.base_price if last is None else Price(last.price, last.ts)

    @property
    def market_value(self) -> Decimal:
        """USD, negative when short; at cost while no price is known."""
        if not self.now.quantity:
            return ZERO
        price = self.price
        return self.now.cost if price is None else self.now.quantity * price.price * self.multiplier

    def average_price(self, standing: Standing) -> Decimal:
        """USD a share, a unit or a contract's share; 0 when flat."""
        if not standing.quantity:
            return ZERO
        return quotient(standing.cost, standing.quantity * self.multiplier)

    # ---------------------------------------------------------------- rows

    def to_row(self) -> dict[str, Any]:
        """Everything but the executions, as JSON can hold it."""
        b = self.base
        return {
            "class": self.asset_class,
            "base": [
                *map(str, (b.quantity, b.cost, b.realized, b.realized_before, b.flow)),
                b.epoch,
                b.opened_ts,
            ],
            "base_price": _price_row(self.base_price),
            "absorbed": None if self.absorbed is None else [*self.absorbed[:2], str(self.absorbed[2])],
            "chunks": self.chunks,
            "mark": _price_row(self.mark),
            "next_mark": self.next_mark,
            "broker": _broker_row(self.broker),
            "differs": [self.differs_since, self.unexplained],
            "newest": list(self.newest),
        }


def from_row(account: str, symbol: str, row: dict[str, Any]) -> Holding:
    """The holding of `to_row`, without its executions."""
    quantity, cost, realized, before, flow = map(Decimal, row["base"][:5])
    base = Standing(quantity, cost, realized, before, flow, *row["base"][5:])
    held = Holding(account, symbol, row["class"], base)
    held.base_price = _row_price(row["base_price"])
    if row["absorbed"] is not None:
        ts, order, cumulative = row["absorbed"]
        held.absorbed = ts, order, Decimal(cumulative)
    held.chunks, held.mark, held.next_mark = row["chunks"], _row_price(row["mark"]), row["next_mark"]
    if row["broker"] is not None:
        said, average, received = row["broker"]
        held.broker = Broker(Decimal(said), None if average is None else Decimal(average), received)
    held.differs_since, held.unexplained = row.get("differs", (None, False))
    received_ts, ts, source, id = row["newest"]
    held.newest = received_ts, ts, source, id
    return held


def _price_row(price: Price | None) -> list[Any] | None:
    return None if price is None else [str(price.price), price.ts]


def _row_price(row: list[Any] | None) -> Price | None:
    return None if row is None else Price(Decimal(row[0]), row[1])


def _broker_row(broker: Broker | None) -> list[Any] | None:
    if broker is None:
        return None
    average = None if broker.average_price is None else str(broker.average_price)
    return [str(broker.quantity), average, broker.received_ts]
