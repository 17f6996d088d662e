"""A small house strategy, so that a demo has something to see: it trades like any client, by orders.

Every few seconds of market time it does one thing that its seed decides: a market, limit or bracket order in
a symbol that has a quote, a larger order that fills in parts, or closing what it holds. Orders that did not
trade within a while are canceled. Positions, open orders and the size of an order are bounded.
"""

from __future__ import annotations

import random
from decimal import Decimal
from typing import Any

from simulator.broker.amounts import CENT, ZERO, text
from simulator.broker.engine import Broker
from simulator.broker.rejections import Rejection
from simulator.latest import Quote

SECOND = 10**9
LONGEST = 25 * SECOND
"""How long an order may work before it is canceled."""
MOST_POSITIONS = 6
MOST_ORDERS = 8
ORDER_USD = Decimal(20_000)
LARGE_USD = Decimal(150_000)


class Strategy:
    """Trades account `n` of a broker."""

    def __init__(self, broker: Broker, n: int, seed: int) -> None:
        self._broker = broker
        self._n = n
        self._seed = seed
        self._chance = random.Random(f"house|{seed}")
        self._next = 0
        self._count = 0

    def act(self, now: int) -> None:
        """Do what is due at a market time (ns); a refusal by the broker is the end of that idea."""
        if self._next - now > 60 * SECOND:  # the market's clock was set back
            self._next = 0
        if now < self._next:
            return
        self._next = now + int(self._chance.uniform(1.5, 4.5) * SECOND)
        try:
            self._cancel_old(now)
            order = self._idea(now)
            if order is not None:
                self._broker.submit(self._n, order | {"client_order_id": self._id()})
        except Rejection:
            return

    def _cancel_old(self, now: int) -> None:
        account = self._broker.accounts[self._n]
        open_orders = [o for orders in account.holds.working.values() for o in orders.values()]
        for order in sorted(open_orders, key=lambda o: (o.submitted, o.id)):
            ours = order.client_order_id.startswith("house-")
            if ours and order.open and now - order.submitted > LONGEST:
                self._broker.cancel(self._n, order.id)

    def _idea(self, now: int) -> dict[str, Any] | None:
        account, chance = self._broker.accounts[self._n], self._chance
        held = account.book.open_positions()
        working = sum(len(orders) for orders in account.holds.working.values())
        close = chance.random() < 0.12 + 0.12 * len(held)
        if held and (close or len(held) >= MOST_POSITIONS):
            return self._closing(chance.choice(held).symbol)
        quotes = self._quotes(now)
        if not quotes or working >= MOST_ORDERS:
            return None
        pairs = [q for q in quotes if "/" in q.symbol]
        stocks = [q for q in quotes if "/" not in q.symbol]
        pool = pairs if pairs and (not stocks or chance.random() < 0.25) else stocks
        return self._opening(chance.choice(pool))

    def _quotes(self, now: int) -> list[Quote]:
        found = []
        for symbol in sorted(self._broker.view.symbols()):
            quote = self._broker.view.quote(symbol, now)
            if quote is not None and quote.bid > ZERO and quote.ask > ZERO:
                found.append(quote)
        return found

    def _opening(self, quote: Quote) -> dict[str, Any]:
        crypto, chance = "/" in quote.symbol, self._chance
        side = "buy" if crypto or chance.random() < 0.6 else "sell"
        kind = chance.choices(("market", "near", "far", "bracket", "large"), (30, 25, 20, 15, 10))[0]
        order = _order(quote.symbol, side, self._size(quote, large=kind == "large"), crypto=crypto)
        if kind in ("market", "large"):
            return order
        if kind == "bracket" and not crypto and quote.ask > CENT * 100:
            return order | self._bracket(quote, side)
        away = Decimal(f"{chance.uniform(0.0005, 0.002):.5f}") if kind == "far" else ZERO
        price = quote.bid * (1 - away) if side == "buy" else quote.ask * (1 + away)
        return order | {"type": "limit", "limit_price": text(_tick(price, crypto=crypto))}

    def _bracket(self, quote: Quote, side: str) -> dict[str, Any]:
        step = max(CENT * 3, quote.ask * Decimal(f"{self._chance.uniform(0.0004, 0.0012):.5f}"))
        sign = 1 if side == "buy" else -1
        profit, loss = (_tick(quote.ask + sign * step * times, crypto=False) for times in (1, -1))
        return {
            "order_class": "bracket",
            "take_profit": {"limit_price": text(profit)},
            "stop_loss": {"stop_price": text(loss)},
        }

    def _closing(self, symbol: str) -> dict[str, Any]:
        account = self._broker.accounts[self._n]
        quantity = account.book.quantity(symbol)
        side = "sell" if quantity > ZERO else "buy"
        free = abs(quantity) - account.holds.quantity(symbol, side)
        crypto = "/" in symbol
        half = (free / 2).quantize(Decimal("0.0001") if crypto else Decimal(1))
        part = half if self._chance.random() < 0.3 and half > ZERO else free
        return _order(symbol, side, part, crypto=crypto)

    def _size(self, quote: Quote, *, large: bool) -> Decimal:
        if "/" in quote.symbol:
            usd = ORDER_USD * Decimal(f"{self._chance.uniform(0.02, 0.5):.3f}")
            return max(Decimal("0.0001"), (usd / quote.ask).quantize(Decimal("0.0001")))
        if large:
            wanted = max(quote.ask_size, quote.bid_size) * 2
            return max(Decimal(1), min(wanted, (LARGE_USD / quote.ask).quantize(Decimal(1))))
        usd = ORDER_USD * Decimal(f"{self._chance.uniform(0.05, 1):.3f}")
        return max(Decimal(1), (usd / quote.ask).quantize(Decimal(1)))

    def _id(self) -> str:
        known = self._broker.accounts[self._n].by_client_id
        while True:
            self._count += 1
            if (name := f"house-{self._seed}-{self._count}") not in known:
                return name


def _order(symbol: str, side: str, qty: Decimal, *, crypto: bool) -> dict[str, Any]:
    tif = "gtc" if crypto else "day"
    return {"symbol": symbol, "side": side, "type": "market", "qty": text(qty), "time_in_force": tif}


def _tick(price: Decimal, *, crypto: bool) -> Decimal:
    return price.quantize(Decimal("0.0001") if crypto and price < 10 else CENT)
