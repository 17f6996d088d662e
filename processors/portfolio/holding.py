"""One symbol of one account: what has happened to it, its prices, and what the broker says of it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal

from processors.portfolio import broker_cost
from processors.portfolio.actions import Action
from processors.portfolio.cost import NOTHING, Standing
from processors.portfolio.exact import ZERO, quotient
from processors.portfolio.executions import Execution, deals
from processors.portfolio.history import History, Kept, Scale
from schemas.activities import day_of
from schemas.fills import multiplier

CASH = ""
"""The symbol of what is no position: activities that move cash alone."""

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
    """`next_mark` is the offset that follows the last mark folded, `chunks` how many lists of ids there are
    of what went into the base.

    `differs_since` is the time of the first of the snapshots in a row that said another quantity (ns; None:
    the newest one compared said ours); `unexplained`: a second one still does.
    """

    account: str
    symbol: str
    asset_class: str
    base: Standing = NOTHING
    base_price: Price | None = None
    chunks: int = 0
    mark: Price | None = None
    next_mark: int = 0
    broker: Broker | None = None
    differs_since: int | None = None
    unexplained: bool = False
    newest: Input = NO_INPUT
    multiplier: Decimal = ZERO
    story: History = field(init=False)

    def __post_init__(self) -> None:
        self.multiplier = multiplier(self.asset_class)
        self.story = History(self.multiplier)
        self.begin(self.base)

    def begin(self, base: Standing) -> None:
        """Go on from an opening balance; `recompute` must follow if anything is kept."""
        self.base = self.story.base = self.story.now = base
        self.story.base_lots = self.story.lots = broker_cost.held(base.quantity, base.cost)

    # ---------------------------------------------------------------- executions and activities

    @property
    def now(self) -> Standing:
        """Where everything known leaves it."""
        return self.story.now

    @property
    def kept(self) -> list[Execution]:
        """The executions that are kept, in their order."""
        return self.story.kept

    @property
    def actions(self) -> dict[str, Action]:
        """The activities that are kept, by their ids."""
        return self.story.actions

    @property
    def everything(self) -> Iterator[Kept]:
        """All that is kept."""
        yield from self.kept
        yield from self.actions.values()

    def known(self, id: str) -> Execution | None:
        """The kept execution with this id."""
        return self.story.known(id)

    def may_be_absorbed(self, one: Kept) -> bool:
        """Whether it is as old as what the base has absorbed, so that only the chunks can tell."""
        return self.story.may_be_absorbed(one)

    def add(self, one: Kept) -> tuple[Standing, ...]:
        """Fold one more; returns the standings that it led to, the flat one before a flip included.

        One that is late, or revises another, has everything kept folded anew; then the result is told, after
        the ends of the epochs that are over: of one that was told as open nobody would hear it otherwise.
        """
        self._heard(one)
        steps = None
        if isinstance(one, Action):
            self.actions[one.id] = one
        else:
            steps = self.story.add(one)
        if steps is None:
            told = self.now.epoch
            return (*(end for end in self.recompute() if end.epoch >= told), self.now)
        self._settle()
        return steps

    def wait(self, one: Kept) -> None:
        """Keep one that cannot be folded before the opening balance is known."""
        self._heard(one)
        if isinstance(one, Action):
            self.actions[one.id] = one
        else:
            self.story.keep(one)

    def restore(self, kept: Iterable[Kept]) -> None:
        """Take all that was kept, then fold it."""
        for one in kept:
            self.wait(one)
        self.recompute()

    def recompute(self) -> list[Standing]:
        """Fold the base and everything kept anew; returns how each epoch before the newest ended."""
        ended = self.story.recompute()
        self._settle()
        return ended

    def remove(self, one: Kept) -> None:
        """Take out what the opening balance contains; `recompute` must follow."""
        self.story.remove(one)

    def unmatched(self, revision: Execution) -> bool:
        """Whether a bust or correction refers to nothing that is kept."""
        return any(deal.of == (revision,) for deal in deals(self.kept))

    def absorb(self) -> list[Kept]:
        """Move the oldest into the base, if there are too many; returns those moved."""
        moved, splits = self.story.absorb()
        if not moved:
            return []
        fills = [one for one in moved if isinstance(one, Execution)]
        if fills:
            self.base_price = Price(fills[-1].price, fills[-1].ts)
        self.base_price = _scaled(self.base_price, splits)
        self.base = self.story.base
        self.chunks += 1
        return moved

    def _heard(self, one: Kept) -> None:
        self.saw((one.received_ts, one.ts, one.source, one.event if isinstance(one, Action) else one.id))
        if isinstance(one, Execution) and one.kind == "fill" and one.broker_quantity is not None:
            average = self.broker.average_price if self.broker else None
            self.broker_says(Broker(one.broker_quantity, average, one.received_ts))

    # ---------------------------------------------------------------- what the broker says

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

    def explained(self) -> bool:
        """Whether an activity that was heard late made ours the broker's quantity; then nothing differs."""
        if self.differs_since is None or self.broker is None or self.broker.quantity != self.now.quantity:
            return False
        self.differs_since, self.unexplained = None, False
        return True

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
        """What values it: the newest mark, else the last fill, else what it was opened with.

        One of before a split counts as what it came to by it.
        """
        if self.mark is not None:
            return _scaled(self.mark, self.story.scales)
        fills = (e for e in reversed(self.kept) if e.kind == "fill")
        last = next(fills, None)
        price = self.base_price if last is None else Price(last.price, last.ts)
        return _scaled(price, self.story.scales)

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

    @property
    def broker_rule_cost(self) -> Decimal:
        """Cost basis in USD as the broker counts it, on the day of the newest deal or mark."""
        lots, mark = self.story.lots, self.mark
        return (lots if mark is None else broker_cost.on(lots, day_of(mark.ts))).cost


def _scaled(price: Price | None, splits: Iterable[Scale]) -> Price | None:
    if price is None:
        return None
    for split in splits:
        if split.ts > price.ts:
            price = Price(quotient(price.price, split.ratio), split.ts)
    return price
