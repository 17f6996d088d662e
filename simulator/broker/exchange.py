"""Where orders wait and trade: enters them, steps them by quotes and prints, ends them when their time is up.

Nothing here waits or writes: what happens is said to the announcer. `now` is the market's time in ns; events
get stamps of their own, each later than the one before.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping
from decimal import Decimal

from simulator.broker import fees, groups, matching, multileg
from simulator.broker.account import Account
from simulator.broker.book import Execution
from simulator.broker.market_view import DAY_NS, MarketView
from simulator.broker.orders import MATCHING, Order, add_fill, advance
from simulator.broker.quotes import contract
from simulator.broker.updates import Announcer, activity_id
from simulator.latest import Quote

AT_ONCE = ("ioc", "fok")
AUCTION = ("opg", "cls")
_STEP = 1_000


class Exchange:
    """The open orders of all accounts, by the tape's symbol that moves them."""

    def __init__(
        self,
        view: MarketView,
        accounts: Mapping[int, Account],
        announce: Announcer,
        new_id: Callable[[], str],
    ) -> None:
        self.view = view
        self.accounts = accounts
        self.announce = announce
        self.new_id = new_id
        self.working: dict[str, dict[str, Order]] = {}
        self.crypto_fee = Decimal(0)
        """Part of each fill of a pair that is taken as a fee; 0: none."""
        self._due: list[tuple[int, str]] = []
        self._last = 0

    def stamp(self) -> int:
        """The time of the next event, ns: the market's, but later than the one before."""
        now = self.view.now()
        if now < self._last - DAY_NS:  # recorded ticks began: their clock stands years ago
            self._last = 0
        self._last = max(now, self._last + _STEP)
        return self._last

    def stamped(self, ns: int) -> None:
        """An earlier run used this stamp."""
        self._last = max(self._last, ns)

    def find(self, order_id: str) -> Order | None:
        """An order of any account."""
        for account in self.accounts.values():
            if (order := account.orders.get(order_id)) is not None:
                return order
        return None

    def wait(self, order: Order) -> None:
        """Put an open order where quotes find it."""
        self.working.setdefault(tape_symbol(order, self.find), {})[order.id] = order
        if order.expires is not None:
            heapq.heappush(self._due, (order.expires, order.id))

    def enter(self, order: Order) -> None:
        """A new order reaches the market, or waits for its opening."""
        self.wait(order)
        now = self.view.now()
        if order.tif in AUCTION or not self._trades(order, now):
            self._turn(order, "accepted")
        else:
            self.activate(order, now)

    def activate(self, order: Order, now: int) -> None:
        """The order is live from now on; it trades at once if it can."""
        self._turn(order, "new")
        if order.order_class == "oco" and order.legs:
            groups.watch(self, order)
        self.step(order, self.view.quote(order.symbol, now), now)

    def on_quote(self, quote: Quote, now: int) -> None:
        """A symbol of the tape has a new quote; options follow it by the model."""
        self.tick(now)
        for order in list(self.working.get(quote.symbol, {}).values()):
            if order.open:
                own = quote if order.symbol == quote.symbol else self.view.quote(order.symbol, now)
                self.step(order, own, now)

    def on_trade(self, symbol: str, price: Decimal, now: int) -> None:
        """A print: it triggers stops."""
        for order in list(self.working.get(symbol, {}).values()):
            stop = order.open and order.symbol == symbol and matching.is_stop(order)
            if stop and self._watching(order, now) and matching.reaches(order, price):
                self._trigger(order)
                self.step(order, self.view.quote(symbol, now), now)

    def tick(self, now: int) -> None:
        """Time has passed: orders that are due end, or trade in their auction."""
        while self._due and self._due[0][0] <= now:
            _, order_id = heapq.heappop(self._due)
            order = self.find(order_id)
            if order is None or not order.open or order.expires is None or order.expires > now:
                continue
            if order.tif in AUCTION:
                self._auction(order, now)
            else:
                self.finish(order, "expired")

    def step(self, order: Order, quote: Quote | None, now: int) -> None:
        """One order against the newest quote."""
        if order.status == "accepted":
            if order.tif not in AUCTION and self._trades(order, now):
                self.activate(order, now)
            return
        if not self._watching(order, now):
            return
        if order.order_class == "mleg":
            multileg.step(self, order, now)
        elif quote is not None:
            self._meet(order, quote)
        if order.tif in AT_ONCE and order.open:
            self.finish(order, "canceled")

    def fill(self, order: Order, qty: Decimal, price: Decimal, *, silent: bool = False) -> Execution:
        """Execute so much of an order; `silent`: the caller says so himself."""
        ts = self.stamp()
        complete = add_fill(order, qty, price, ts)
        execution_id = self.new_id()
        execution = Execution(
            execution_id, order.id, order.symbol, order.asset_class, order.side, qty, price, ts,
            order.filled_qty, order.remaining, activity_id(ts, execution_id),
        )  # fmt: skip
        account = self.accounts[order.account]
        account.fill(execution)
        self.announce.executed(order.account, execution)
        self.settle(order)
        if silent:
            self.announce.changed(order)
            return execution
        self.announce.filled(account, order, execution, complete=complete)
        if self.crypto_fee and order.asset_class == "crypto":
            fees.charge(self, account, execution, self.crypto_fee)
        groups.after_fill(self, order, complete=complete)
        return execution

    def finish(self, order: Order, status: str, event: str = "") -> None:
        """An order ends unfilled, and takes with it what depends on it."""
        ts = self.stamp()
        advance(order, status, ts)
        self.settle(order)
        self.announce.say(order, event or status, ts)
        groups.after_end(self, order)

    def settle(self, order: Order) -> None:
        """Holds and waiting lists follow a changed order."""
        self.accounts[order.account].keep(order)
        if not order.open:
            self.forget(order)

    def forget(self, order: Order) -> None:
        """An order no longer waits."""
        symbol = tape_symbol(order, self.find)
        waiting = self.working.get(symbol)
        if waiting is not None and waiting.pop(order.id, None) is not None and not waiting:
            del self.working[symbol]

    def _turn(self, order: Order, status: str) -> None:
        ts = self.stamp()
        advance(order, status, ts)
        self.settle(order)
        self.announce.say(order, status, ts)

    def _meet(self, order: Order, quote: Quote) -> None:
        if order.type == "trailing_stop" and not order.triggered:
            self._trail(order, quote)
        if matching.is_stop(order) and matching.triggers(order, quote):
            self._trigger(order)
        if order.status not in MATCHING:
            return
        price = order.limit_price or (quote.ask if order.side == "buy" else quote.bid)
        if price > 0:
            order.size_by(price)
        if (trade := matching.trade(order, quote)) is not None:
            self.fill(order, trade.qty, trade.price)

    def _trail(self, order: Order, quote: Quote) -> None:
        if (mark := matching.high_water(order, quote)) is not None:
            order.hwm = mark
            order.stop_price = matching.trailing_stop(order)
            self.announce.changed(order)

    def _trigger(self, order: Order) -> None:
        order.triggered = True
        self.announce.changed(order)
        if order.status == "held":
            groups.stop_triggered(self, order)
            self._turn(order, "new")

    def _auction(self, order: Order, now: int) -> None:
        quote = self.view.quote(order.symbol, now)
        self._turn(order, "new")
        if quote is not None:
            self._meet(order, quote)
        if order.open:
            self.finish(order, "canceled")

    def _watching(self, order: Order, now: int) -> bool:
        active = order.status in MATCHING or (order.status == "held" and order.live)
        return active and self._trades(order, now)

    def _trades(self, order: Order, now: int) -> bool:
        return self.view.trades(order.asset_class, now, extended=order.extended_hours)


def tape_symbol(order: Order, find: Callable[[str], Order | None]) -> str:
    """Whose quotes move an order: an option's underlying's, the first leg's for several legs."""
    symbol = order.symbol
    if not symbol and order.legs:
        leg = find(order.legs[0])
        symbol = leg.symbol if leg is not None else ""
    option = contract(symbol)
    return option.underlying if option is not None else symbol
