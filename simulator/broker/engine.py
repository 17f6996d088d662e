"""The broker: what clients may ask of it, on all accounts. Pure but for the ids and the clock passed in.

Every call leaves its consequences in `announce`; the shell takes them, keeps them, and tells the sockets.
"""

from __future__ import annotations

import random
from dataclasses import replace
from decimal import Decimal
from typing import Any

from simulator.broker import entry as entries
from simulator.broker import groups, multileg
from simulator.broker.account import Account
from simulator.broker.admission import admit, check_state, cost_price, intent
from simulator.broker.amounts import ZERO, down
from simulator.broker.book import Position
from simulator.broker.entry import Entry
from simulator.broker.exchange import Exchange
from simulator.broker.market_view import MarketView
from simulator.broker.order_json import asset_id, order_json
from simulator.broker.orders import Order, advance
from simulator.broker.rejections import Rejection, invalid, not_found
from simulator.broker.replacement import replacement
from simulator.broker.updates import Announcer, Ulids

_HUNDRED = Decimal(100)


class Broker:
    """Accounts 1 to `accounts`. `chance` makes the ids."""

    def __init__(self, view: MarketView, accounts: int, chance: random.Random) -> None:
        self.view = view
        self._chance = chance
        opened = view.now()
        self.accounts = {n: Account(n, opened) for n in range(1, accounts + 1)}
        self.ulids = Ulids(chance)
        self.announce = Announcer(self.ulids, self.find, self.new_id)
        self.exchange = Exchange(view, self.accounts, self.announce, self.new_id)

    def new_id(self) -> str:
        """A random UUID."""
        digits = f"{self._chance.getrandbits(128):032x}"
        variant = "89ab"[int(digits[16], 16) & 3]
        return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:]}"

    def find(self, order_id: str) -> Order | None:
        """An order of any account."""
        return self.exchange.find(order_id)

    def submit(self, n: int, body: Any) -> dict[str, Any]:
        """Take an order; returns it as it was taken, before it could trade.

        Raises:
            Rejection: why not.
        """
        account = self.accounts[n]
        entry = entries.read(body)
        now = self.view.now()
        if entry.order_class == "mleg":
            check_state(account, entry)
            multileg.check(entry, set(self.view.symbols()), now)
            return self._take(account, entry, "", "")
        symbol, asset_class = self.view.resolve(entry.symbol, now)
        entry = entries.for_asset(entry, asset_class, symbol)
        if entry.order_class == "oco" and entry.limit_price is None:
            entry = replace(entry, limit_price=entry.take_profit)
        quote = self.view.quote(symbol, now)
        admit(account, entry, asset_class, quote, self.view.price)
        purpose = intent(account, entry)
        return self._take(account, entry, asset_class, purpose, cost_price(entry, quote))

    def cancel(self, n: int, order_id: str) -> None:
        """Cancel an open order.

        Raises:
            Rejection: there is no such order (404), or it is not open (422).
        """
        order = self.order(n, order_id)
        if not order.open:
            raise invalid(f'order is already in "{order.status}" state')
        if order.role == "leg":
            raise invalid("a leg of a multi-leg order cannot be canceled alone")
        ts = order.cancel_requested = self.exchange.stamp()
        advance(order, "pending_cancel", ts)
        self.announce.say(order, "pending_cancel", ts)
        self.exchange.finish(order, "canceled")

    def cancel_all(self, n: int) -> list[str]:
        """Cancel every open order; returns the ids asked for."""
        wanted = [o.id for o in self.accounts[n].orders.values() if o.open and o.role != "leg"]
        for order_id in wanted:
            order = self.accounts[n].orders[order_id]
            if order.open:  # a leg may have gone with its entry
                self.cancel(n, order_id)
        return wanted

    def replace(self, n: int, order_id: str, body: Any) -> dict[str, Any]:
        """Put another order in the place of an open one; returns the new one.

        Raises:
            Rejection: why not.
        """
        old = self.order(n, order_id)
        account = self.accounts[n]
        quote = self.view.quote(old.symbol, self.view.now())
        new = replacement(account, old, body, quote, self.view.price)
        new.id, ts = self.new_id(), self.exchange.stamp()
        new.client_order_id = new.client_order_id or self.new_id()
        new.created = new.updated = new.submitted = ts
        new.expires = self.view.expiry(new.asset_class, new.tif, ts)
        advance(old, "pending_replace", ts)
        self.announce.say(old, "pending_replace", ts)
        old.replaced_by = new.id
        self.exchange.finish(old, "replaced")
        self._inherit(old, new)
        new.reserve = new.limit_price or new.stop_price or old.reserve
        account.keep(new)
        shown = order_json(new, self.find)
        if new.status == "held":
            if new.live:
                self.exchange.wait(new)
            self.announce.changed(new)
        else:
            self.exchange.enter(new)
        return shown

    def close(self, n: int, symbol: str, qty: Decimal | None, percentage: Decimal | None) -> dict[str, Any]:
        """Send the market order that closes a position, or a part of it.

        Raises:
            Rejection: there is no such position (404), or the order is refused.
        """
        position = self.position(n, symbol)
        size = abs(position.qty)
        if percentage is not None:
            if not ZERO < percentage <= _HUNDRED:
                raise invalid("percentage must be between 0 and 100")
            qty = down(size * percentage / _HUNDRED)
        wanted = size if qty is None else qty
        if wanted > size:
            raise invalid("requested qty is larger than the position")
        if wanted <= ZERO:
            raise invalid("qty must be > 0")
        return self.submit(
            n,
            {
                "symbol": position.symbol,
                "side": "sell" if position.qty > ZERO else "buy",
                "type": "market",
                "qty": f"{wanted:f}",
                "time_in_force": "gtc" if position.asset_class == "crypto" else "day",
            },
        )

    def close_all(self, n: int, *, cancel_orders: bool) -> list[dict[str, Any]]:
        """Close every position; what each became, as Alpaca's multi-status answer."""
        if cancel_orders:
            self.cancel_all(n)
        answers: list[dict[str, Any]] = []
        for position in self.accounts[n].book.open_positions():
            symbol = position.symbol.replace("/", "")
            try:
                order = self.close(n, position.symbol, None, None)
                answers.append({"symbol": symbol, "status": 200, "order_id": order["id"], "body": order})
            except Rejection as refused:
                answers.append({"symbol": symbol, "status": refused.status, "body": refused.body})
        return answers

    def order(self, n: int, order_id: str) -> Order:
        """An order of an account.

        Raises:
            Rejection: it has none of that id (404).
        """
        order = self.accounts[n].orders.get(order_id)
        if order is None:
            raise not_found(f"order not found for {order_id}")
        return order

    def position(self, n: int, name: str) -> Position:
        """An open position by symbol (BTCUSD or BTC/USD) or asset id.

        Raises:
            Rejection: there is none (404).
        """
        for position in self.accounts[n].book.open_positions():
            symbol = position.symbol
            if name in (symbol, symbol.replace("/", ""), asset_id(symbol)):
                return position
        raise Rejection(404, 40410000, "position does not exist")

    def _take(
        self, account: Account, entry: Entry, asset_class: str, purpose: str, each: Decimal = ZERO
    ) -> dict[str, Any]:
        ts = self.exchange.stamp()
        order = Order(
            self.new_id(), account.n, entry.client_order_id or self.new_id(), entry.symbol, asset_class,
            entry.side, entry.type, entry.tif, entry.order_class, entry.qty, entry.notional,
            entry.limit_price, entry.stop_price, entry.trail_price, entry.trail_percent,
            extended_hours=entry.extended_hours, intent=purpose, created=ts, updated=ts, submitted=ts,
            expires=self.view.expiry(asset_class, entry.tif, ts), reserve=each,
        )  # fmt: skip
        make = multileg.legs if entry.order_class == "mleg" else groups.legs
        legs = make(entry, order, self.new_id)
        order.legs = tuple(leg.id for leg in legs)
        account.keep(order)
        for leg in legs:
            account.keep(leg)
            self.announce.changed(leg)
        self.announce.say(order, "pending_new", ts)
        shown = order_json(order, self.find)
        self.exchange.enter(order)
        return shown

    def _inherit(self, old: Order, new: Order) -> None:
        """The group of a replaced order goes on with the new one."""
        for leg in map(self.find, old.legs):
            if leg is not None:
                leg.parent = new.id
                if new.qty is not None and leg.open and not old.filled_qty:
                    leg.qty = new.qty
                self.announce.changed(leg)
        parent = self.find(old.parent) if old.parent is not None else None
        if parent is not None:
            parent.legs = tuple(new.id if leg == old.id else leg for leg in parent.legs)
            self.announce.changed(parent)
