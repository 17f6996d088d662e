"""One account: its opening balance, its holdings and orders, and the totals that follow from them. Pure.

The first snapshot is the opening; fills that come before it wait. Later snapshots never overwrite: they are
compared, and bring what only the broker knows (previous equity, buying power, whether it is blocked).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

from processors.portfolio.cost import NOTHING, Standing
from processors.portfolio.exact import ZERO
from processors.portfolio.executions import Deal
from processors.portfolio.holding import CASH, NO_INPUT, Broker, Holding, Input, Price
from processors.portfolio.opening import Reach, name_of, reach_of
from processors.portfolio.orders import Order
from schemas.fills import asset_class, multiplier
from tidewire.fence import LogFence

CENT = Decimal("0.01")
"""Brokers round cash to cents; less is no difference."""


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums over the holdings, in USD. `at_cost` is the sum of the absolute costs of what is held."""

    value: Decimal = ZERO
    at_cost: Decimal = ZERO
    realized: Decimal = ZERO
    flow: Decimal = ZERO


@dataclass(frozen=True, slots=True)
class BrokerView:
    """What the newest snapshot said; `committed` is what our holdings took of the buying power by then."""

    ts: int
    last_equity: Decimal
    buying_power: Decimal
    blocked: bool
    cursor: str | None
    committed: Decimal


@dataclass(frozen=True, slots=True)
class Difference:
    """Where a snapshot and the fold disagree. `symbol` is None for cash. `ours` is as of the snapshot.

    `unexplained`: it has just become so, since the snapshot before this one disagreed already.
    """

    symbol: str | None
    ours: Decimal
    theirs: Decimal
    unexplained: bool = False


@dataclass(slots=True)
class Account:
    """`next_snapshot` is the offset that follows the last snapshot folded; `opening` None: none came yet.

    `fence` tells the order events of a stale owner of its stream. `pruned_ts` is the time of the newest order
    that was forgotten.
    """

    name: str
    next_snapshot: int = 0
    fence: LogFence = field(default_factory=LogFence)
    opening: Reach | None = None
    opening_cash: Decimal = ZERO
    broker: BrokerView | None = None
    newest: Input = NO_INPUT
    pruned_ts: int = -1
    differing: int = 0
    holdings: dict[str, Holding] = field(default_factory=dict)
    orders: dict[str, Order] = field(default_factory=dict)
    totals: Totals = Totals()
    total_ts: int = 0
    _counted: dict[str, Totals] = field(default_factory=dict)

    # ---------------------------------------------------------------- totals

    def recount(self, holding: Holding) -> None:
        """Bring the totals up to date with a holding that has changed."""
        now, before = _totals(holding), self._counted.get(holding.symbol, Totals())
        self._counted[holding.symbol] = now
        t = self.totals
        self.totals = Totals(
            t.value + now.value - before.value,
            t.at_cost + now.at_cost - before.at_cost,
            t.realized + now.realized - before.realized,
            t.flow + now.flow - before.flow,
        )
        self.newest = max(self.newest, holding.newest)

    @property
    def cash(self) -> Decimal:
        """Opening cash and what the deals brought since, in USD."""
        return self.opening_cash + self.totals.flow

    @property
    def equity(self) -> Decimal:
        """Cash and what is held at its newest prices, in USD."""
        return self.cash + self.totals.value

    @property
    def buying_power(self) -> Decimal:
        """The broker's newest figure, less what our holdings have taken since; never below 0. USD."""
        if self.broker is None:
            return ZERO
        return max(ZERO, self.broker.buying_power + self.broker.committed - self._committed())

    def _committed(self) -> Decimal:
        return self.totals.at_cost - self.totals.realized

    # ---------------------------------------------------------------- snapshots

    def open(self, snapshot: Mapping[str, Any]) -> None:
        """Take the first snapshot as the opening balance. The caller then sorts out what has waited.

        Raises:
            ValueError: its cursor cannot be read.
        """
        self.opening, self.opening_cash = reach_of(snapshot), snapshot["cash"]
        for position in snapshot["positions"]:
            holding = self.holdings.get(position["symbol"])
            if holding is None:
                holding = Holding(self.name, position["symbol"], _class_of(position))
                self.holdings[position["symbol"]] = holding
            base, holding.base_price = _base(position, snapshot["ts"])
            holding.begin(base)

    def look(self, snapshot: Mapping[str, Any]) -> list[Holding]:
        """Take what a snapshot brings besides the opening; returns the holdings of which it says news."""
        told = {p["symbol"]: p for p in snapshot["positions"]}
        for symbol in told.keys() - self.holdings.keys():
            self.holdings[symbol] = Holding(self.name, symbol, _class_of(told[symbol]))
        received_ts = snapshot["received_ts"]
        news = []
        for symbol, holding in self.holdings.items():
            if symbol == CASH:
                continue
            said = told.get(symbol)
            quantity, average = (said["quantity"], said["average_price"]) if said else (ZERO, None)
            before = holding.broker
            holding.broker_says(Broker(quantity, average, received_ts))
            if before is None or (before.quantity, before.average_price) != (quantity, average):
                holding.saw(_input(snapshot))
                news.append(holding)
        self._view(snapshot)
        return news

    def _view(self, snapshot: Mapping[str, Any]) -> None:
        self.newest = max(self.newest, _input(snapshot))
        self.broker = BrokerView(
            snapshot["ts"],
            snapshot["last_equity"],
            snapshot["buying_power"],
            snapshot["trading_blocked"],
            snapshot["activity_cursor"],
            self._committed(),
        )

    def differences(self, snapshot: Mapping[str, Any]) -> list[Difference] | None:
        """Where a later snapshot disagrees, as of its own moment; None: something listed is still to come.

        Raises:
            ValueError: its cursor cannot be read.
        """
        reach = reach_of(snapshot)
        if self._awaited(reach):
            return None
        theirs = {p["symbol"]: p["quantity"] for p in snapshot["positions"]}
        found = []
        cash = self.opening_cash
        for symbol in sorted(theirs.keys() | self.holdings.keys()):
            quantity, flow = _as_of(self.holdings.get(symbol), reach)
            cash += flow
            if quantity != theirs.get(symbol, ZERO):
                found.append(Difference(symbol, quantity, theirs.get(symbol, ZERO)))
        if abs(cash - snapshot["cash"]) >= CENT:
            found.append(Difference(None, cash, snapshot["cash"]))
        return found

    def judge(self, found: list[Difference], ts: int) -> tuple[list[Difference], list[Holding]]:
        """What a snapshot of this time (ns) found, those marked that have become unexplained; and the
        holdings of which it says news.
        """
        differing = {difference.symbol for difference in found}
        changed = [h for h in self.holdings.values() if h.compared(h.symbol in differing, ts)]
        new = {holding.symbol for holding in changed if holding.unexplained}
        return [replace(d, unexplained=d.symbol in new) for d in found], changed

    def _awaited(self, reach: Reach) -> bool:
        assert self.opening is not None
        held = self.holdings.values()
        here = {name_of(e) for h in held for e in h.kept if e.kind == "fill"}
        told = {a.activity for h in held for a in h.actions.values()} if reach.activities else set()
        return bool(
            reach.listed - here - self.opening.listed or reach.activities - told - self.opening.activities
        )

    # ---------------------------------------------------------------- rows

    def to_row(self) -> dict[str, Any]:
        """Everything but holdings and orders, as JSON can hold it."""
        return {
            "next_snapshot": self.next_snapshot,
            "epochs": self.fence.rises,
            "opening": _reach_row(self.opening),
            "opening_cash": str(self.opening_cash),
            "broker": _view_row(self.broker),
            "newest": list(self.newest),
            "pruned_ts": self.pruned_ts,
            "differing": self.differing,
        }


def from_row(name: str, row: dict[str, Any]) -> Account:
    """The account of `to_row`."""
    account = Account(name, row["next_snapshot"], LogFence(row.get("epochs", ())))
    if row["opening"] is not None:
        cursor, cursor_ts, asked_ts, listed, *more = row["opening"]
        activities = frozenset(more[0]) if more else frozenset()
        account.opening = Reach(cursor, cursor_ts, asked_ts, frozenset(listed), activities)
    account.opening_cash = Decimal(row["opening_cash"])
    if row["broker"] is not None:
        ts, last, power, blocked, cursor, committed = row["broker"]
        account.broker = BrokerView(ts, Decimal(last), Decimal(power), blocked, cursor, Decimal(committed))
    received_ts, ts, source, id = row["newest"]
    account.newest = received_ts, ts, source, id
    account.pruned_ts, account.differing = row["pruned_ts"], row["differing"]
    return account


def _totals(holding: Holding) -> Totals:
    now = holding.now
    return Totals(holding.market_value, abs(now.cost), now.realized_ever, now.flow)


def _input(snapshot: Mapping[str, Any]) -> Input:
    return snapshot["received_ts"], snapshot["ts"], snapshot["source"], snapshot["event_id"].hex()


def _class_of(position: Mapping[str, Any]) -> str:
    return asset_class(position["symbol"], position["asset_class"])


def _base(position: Mapping[str, Any], ts: int) -> tuple[Standing, Price | None]:
    quantity, average = position["quantity"], position["average_price"]
    if not quantity:
        return NOTHING, None
    cost = quantity * average * multiplier(_class_of(position))
    current = position["current_price"]
    base = replace(NOTHING, quantity=quantity, cost=cost, epoch=1, opened_ts=ts)
    return base, Price(average if current is None else current, ts)


def _as_of(holding: Holding | None, reach: Reach) -> tuple[Decimal, Decimal]:
    """Quantity and cash flow up to a snapshot."""
    if holding is None:
        return ZERO, ZERO
    quantity, flow = holding.base.quantity, holding.base.flow
    for part in holding.story.parts():
        if isinstance(part, Deal):
            if part.signed and reach.contains(part.of[0]):
                quantity += part.signed
                flow -= part.signed * part.price * holding.multiplier
        elif all(map(reach.holds, part.of)):
            quantity += part.signed
            flow += part.cash
    return quantity, flow


def _reach_row(reach: Reach | None) -> list[Any] | None:
    if reach is None:
        return None
    names = sorted(reach.listed), sorted(reach.activities)
    return [reach.cursor, reach.cursor_ts, reach.asked_ts, *names]


def _view_row(view: BrokerView | None) -> list[Any] | None:
    if view is None:
        return None
    money = str(view.last_equity), str(view.buying_power)
    return [view.ts, *money, view.blocked, view.cursor, str(view.committed)]
