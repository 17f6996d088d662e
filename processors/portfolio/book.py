"""All accounts of one partition: every input is folded here, and what has changed is announced. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from typing import Any

from processors.columns.records import Records
from processors.portfolio import actions, carrying
from processors.portfolio.account import Account, Difference
from processors.portfolio.actions import Action
from processors.portfolio.announced import Announced
from processors.portfolio.exact import exact
from processors.portfolio.executions import from_fill
from processors.portfolio.history import Kept
from processors.portfolio.holding import CASH, Holding
from processors.portfolio.orders import Order
from processors.portfolio.readout import position_record
from processors.portfolio.shelf import Shelf
from schemas.activities import effect_of
from schemas.fills import Fill, asset_class, fills
from tidewire.fence import REASON

TOTALS_EVERY_NS = 250_000_000
"""Marks move an account's totals at most this often, in event time; the last of them goes out at a commit."""

KEEP_ORDERS = 1_000
PRUNE_ORDERS_AT = 2_000
"""Orders that ended, an account: at this many the oldest are forgotten until KEEP_ORDERS are left."""

APPLIED, DUPLICATE, LATE, STALE = "applied", "duplicate", "late", REASON
CONTAINED = "contained"  # a fill or activity that the opening balance has counted
UNMATCHED = "unmatched"  # a correction of an execution or activity that is not known
STREAMED = "streamed"  # an activity that tells of an execution: the trade stream does that
UNKNOWN = "unknown"  # an activity with a quantity whose meaning is not known; its cash counts
NOT_HELD = "not_held"  # a mark of a symbol that no account of the partition holds


class Book:
    """The live objects of one partition, over the rows that its table keeps.

    A new book announces all that it has loaded: a crash may have come between a row and its record. Only
    orders have a record an event; they are announced again when the event is replayed.
    """

    def __init__(self, records: Records) -> None:
        self.records = records
        self.announced = Announced()
        self._shelf = Shelf(records)
        self._resting: dict[str, Account] = {}  # whose totals have moved, to go out at a commit
        self._holders: dict[str, dict[str, Holding]] = {}
        with exact():
            for account in self._shelf.accounts.values():
                for held in account.holdings.values():
                    account.recount(held)
                    self._index(held)
                self._announce_all(account)

    @property
    def folded(self) -> Mapping[str, int]:
        """By input (update, snapshot, mark, activity): the greatest offset that a loaded row had folded, plus
        1.
        """
        return self._shelf.folded

    def account(self, name: str) -> Account:
        """The account of that name, a new one if there is none."""
        return self._shelf.account(name)

    def opened(self, only: Set[str] | None = None) -> list[Holding]:
        """Every holding of the accounts that have an opening balance; with `only`, of these among them."""
        accounts = (
            account
            for name, account in self._shelf.accounts.items()
            if account.opening is not None and (only is None or name in only)
        )
        return [held for account in accounts for held in account.holdings.values()]

    # ---------------------------------------------------------------- trade updates

    def fold_update(self, update: Mapping[str, Any], offset: int) -> str:
        """Fold one decoded trade update that is not refused; returns what became of it."""
        with exact():
            account = self._shelf.account(update["account"])
            known = account.fence.rises
            if account.fence.stale(update, offset):
                return STALE
            if account.fence.rises is not known:
                self._shelf.touch(account)
            replayed, fresh = self._fold_order(account, update, offset)
            results = [self._take(account, fill, update, offset) for fill in fills(update)]
            self._prune(account)
        if replayed:
            return DUPLICATE
        if UNMATCHED in results:
            return UNMATCHED
        if fresh or APPLIED in results:
            return APPLIED
        if CONTAINED in results:
            return CONTAINED
        return LATE if fresh is None else DUPLICATE

    def _fold_order(
        self, account: Account, update: Mapping[str, Any], offset: int
    ) -> tuple[bool, bool | None]:
        """Whether the update is a replayed one, and whether it was news (None: its order is forgotten)."""
        order = account.orders.get(update["order_id"])
        if order is None:
            if update["ts"] <= account.pruned_ts:
                return False, None
            order = account.orders[update["order_id"]] = Order(account.name, update["order_id"])
        replayed = offset < order.next_update
        fresh = order.fold(update, offset)
        if replayed or fresh:
            self.announced.orders.append(order.record())
            self.announced.received_ts = max(self.announced.received_ts, update["received_ts"])
        self._shelf.touch(order)
        return replayed, fresh

    def _take(self, account: Account, fill: Fill, update: Mapping[str, Any], offset: int) -> str:
        """Fold one execution, if it is neither known nor in the opening balance."""
        execution = from_fill(fill, update["received_ts"], update["source"], offset)
        held = account.holdings.get(fill.symbol)
        if held is not None and held.known(execution.id) is not None:
            return DUPLICATE
        if account.opening is not None and account.opening.contains(execution):
            return CONTAINED
        if held is None:
            held = account.holdings[fill.symbol] = Holding(account.name, fill.symbol, fill.asset_class)
        elif held.may_be_absorbed(execution) and self._shelf.is_absorbed(held, execution):
            return DUPLICATE
        self._shelf.keep(held, execution)
        self._shelf.touch(held)
        if account.opening is None:
            held.wait(execution)
            return APPLIED
        self._fold(account, held, execution)
        return UNMATCHED if execution.kind == "correct" and held.unmatched(execution) else APPLIED

    def _fold(self, account: Account, held: Holding, one: Kept) -> None:
        for step in held.add(one)[:-1]:
            self.announced.steps.append(position_record(held, step))
        moved = held.absorb()
        if moved:
            self._shelf.absorbed(held, moved)
        self._changed(account, held)

    def _changed(self, account: Account, held: Holding) -> None:
        for changed in (held, *carrying.settle(account, held)):
            self._index(changed)
            self._shelf.touch(changed)
            account.recount(changed)
            self._announce(account, changed)

    # ---------------------------------------------------------------- activities

    def fold_activity(self, activity: Mapping[str, Any], offset: int) -> str:
        """Fold one decoded account activity that is not refused; returns what became of it."""
        effect = effect_of(activity)
        if effect.kind == "none":
            return STREAMED
        with exact():
            account = self._shelf.account(activity["account"])
            action = actions.from_record(activity, effect, offset)
            held = account.holdings.get(effect.symbol)
            refused = self._refusal(account, held, action)
            if refused is not None:
                return refused
            if held is None:
                named = asset_class(effect.symbol)
                held = account.holdings[effect.symbol] = Holding(account.name, effect.symbol, named)
            self._shelf.keep(held, action)
            self._shelf.touch(held)
            if account.opening is None:
                held.wait(action)
                return APPLIED
            self._fold(account, held, action)
            held.explained()
        if actions.unmatched(action, held.actions.values()):
            return UNMATCHED
        return APPLIED if effect.known else UNKNOWN

    def _refusal(self, account: Account, held: Holding | None, action: Action) -> str | None:
        """Why an activity changes nothing; None: it is news."""
        known = None if held is None else held.actions.get(action.id)
        if known is not None:
            return None if action.replaces(known) else DUPLICATE
        if account.opening is not None and account.opening.holds(action):
            return CONTAINED
        revises_gone = action.revises and action.previous is None
        if account.opening is not None and revises_gone and action.activity in account.opening.activities:
            return UNMATCHED
        if held is not None and held.may_be_absorbed(action) and self._shelf.is_absorbed(held, action):
            return UNMATCHED if revises_gone else DUPLICATE
        return None

    def _announce(self, account: Account, held: Holding) -> None:
        key = account.name, held.symbol
        if held.symbol != CASH:
            self.announced.holdings[key] = held
            self.announced.marked.pop(key, None)
        self.announced.accounts[account.name] = account

    def _announce_all(self, account: Account) -> None:
        if account.opening is not None:
            self.announced.accounts[account.name] = account
            for held in account.holdings.values():
                self._announce(account, held)

    def _index(self, held: Holding) -> None:
        if held.now.quantity:
            self._holders.setdefault(held.symbol, {})[held.account] = held
        elif held.symbol in self._holders:
            self._holders[held.symbol].pop(held.account, None)

    def _prune(self, account: Account) -> None:
        if len(account.orders) < PRUNE_ORDERS_AT:
            return
        ended = sorted((o for o in account.orders.values() if o.terminal), key=lambda o: (o.ts, o.order_id))
        if len(ended) < PRUNE_ORDERS_AT:
            return
        for order in ended[:-KEEP_ORDERS]:
            del account.orders[order.order_id]
            self._shelf.forget(order)
            account.pruned_ts = order.ts
        self._shelf.touch(account)

    # ---------------------------------------------------------------- snapshots

    def fold_snapshot(self, snapshot: Mapping[str, Any], offset: int) -> tuple[str, list[Difference]]:
        """Fold one decoded snapshot that is not refused; returns what became of it, and its differences."""
        with exact():
            account = self._shelf.account(snapshot["account"])
            if offset < account.next_snapshot:
                return DUPLICATE, []
            account.next_snapshot = offset + 1
            self._shelf.touch(account)
            if account.broker is not None and snapshot["ts"] <= account.broker.ts:
                return (DUPLICATE if snapshot["ts"] == account.broker.ts else LATE), []
            return APPLIED, self._look(account, snapshot)

    def _look(self, account: Account, snapshot: Mapping[str, Any]) -> list[Difference]:
        found: list[Difference] | None = []
        if account.opening is None:
            self._open(account, snapshot)
        else:
            found = account.differences(snapshot)
        news = {held.symbol: held for held in account.look(snapshot)}
        if found is not None:
            account.differing = sum(d.symbol is not None for d in found)
            found, changed = account.judge(found, snapshot["ts"])
            news |= {held.symbol: held for held in changed}
        for held in news.values():
            account.recount(held)
            self._shelf.touch(held)
            self.announced.holdings[account.name, held.symbol] = held
        self._take_orders(account, snapshot)
        self.announced.accounts[account.name] = account
        return found or []

    def _open(self, account: Account, snapshot: Mapping[str, Any]) -> None:
        account.open(snapshot)
        assert account.opening is not None
        for held in account.holdings.values():
            for one in [one for one in held.everything if account.opening.has(one)]:
                held.remove(one)
                self._shelf.drop(held, one)
            held.recompute()
            self._changed(account, held)

    def _take_orders(self, account: Account, snapshot: Mapping[str, Any]) -> None:
        for listed in snapshot["orders"]:
            if listed["order_id"] not in account.orders:
                order = account.orders[listed["order_id"]] = Order(account.name, listed["order_id"])
                order.open_from(listed, snapshot)
                self._shelf.touch(order)
                self.announced.orders.append(order.record())

    def waiting(self) -> int:
        """Executions and activities that wait for an opening balance."""
        unopened = (a for a in self._shelf.accounts.values() if a.opening is None)
        return sum(len([*held.everything]) for account in unopened for held in account.holdings.values())

    def differing(self) -> int:
        """Positions that differed from the broker's in the newest snapshots."""
        return sum(account.differing for account in self._shelf.accounts.values())

    def unexplained(self) -> int:
        """Positions that differed from the broker's in two snapshots one after the other."""
        return sum(h.unexplained for a in self._shelf.accounts.values() for h in a.holdings.values())

    # ---------------------------------------------------------------- marks

    def fold_mark(self, mark: Mapping[str, Any], offset: int) -> str:
        """Fold one decoded mark that is not refused; returns what became of it."""
        holders = self._holders.get(mark["symbol"])
        if not holders:
            return NOT_HELD
        with exact():
            results = {self._mark(held, mark, offset) for held in holders.values()}
        return next(result for result in (APPLIED, DUPLICATE, LATE) if result in results)

    def _mark(self, held: Holding, mark: Mapping[str, Any], offset: int) -> str:
        account = self._shelf.accounts[held.account]
        if offset < held.next_mark:
            return DUPLICATE
        held.next_mark = offset + 1
        self._shelf.touch(held)
        if not held.take_mark(mark["price"], mark["ts"]):
            return LATE
        held.saw((mark["received_ts"], mark["ts"], mark["source"], mark["event_id"].hex()))
        account.recount(held)
        if (held.account, held.symbol) not in self.announced.holdings:
            self.announced.marked[held.account, held.symbol] = held
        self._resting[account.name] = account
        if abs(mark["ts"] - account.total_ts) >= TOTALS_EVERY_NS:
            account.total_ts = mark["ts"]
            self.announced.accounts[account.name] = account
        return APPLIED

    # ---------------------------------------------------------------- announcements

    def announce_totals(self) -> None:
        """Announce the accounts whose totals have moved since they were last sent."""
        self.announced.accounts |= self._resting

    def put_back(self, marked: Iterable[Holding]) -> None:
        """Taken, and not sent after all: what of them has changed by orders since goes out as that."""
        for held in marked:
            key = held.account, held.symbol
            if key not in self.announced.holdings:
                self.announced.marked.setdefault(key, held)

    def take_announced(self, most_marked: int | None = None) -> Announced:
        """What has changed since the last call; with `most_marked`, only so many whose price alone moved."""
        announced, self.announced = self.announced, Announced()
        if most_marked is not None:
            for key in list(announced.marked)[most_marked:]:
                self.announced.marked[key] = announced.marked.pop(key)
        for name in announced.accounts:
            self._resting.pop(name, None)
        return announced
