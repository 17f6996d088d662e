"""A broker without sockets: quotes by hand, a clock that only moves when told, and what it announced."""

from __future__ import annotations

import random
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from simulator.broker.engine import Broker
from simulator.broker.market_view import MarketView
from simulator.broker.quotes import Board
from simulator.broker.rejections import Rejection
from simulator.broker.sessions import RoundTheClock, Sessions
from simulator.broker.updates import Changes
from simulator.latest import Quote

SYMBOLS = ("AAPL", "IBM", "BTC/USD", "ETH/USD")
TEN_O_CLOCK = 1_772_463_600_000_000_000  # 2026-03-02 10:00 in New York
SECOND = 10**9
HOUR = 3_600 * SECOND


class World:
    """One broker of two accounts; orders go to account 1 unless said otherwise."""

    def __init__(self, sessions: Sessions | None = None) -> None:
        self.now = TEN_O_CLOCK
        self.quotes: dict[str, Quote] = {}
        view = MarketView(
            Board(self.quotes.get), sessions or RoundTheClock(), lambda: SYMBOLS, lambda: self.now
        )
        self.broker = Broker(view, 2, random.Random(1))
        self.changes: list[Changes] = []
        self.keep: Callable[[Changes], object] | None = None

    def quote(
        self, symbol: str, bid: float | str, ask: float | str, size: float | str = 1_000, ask_size: Any = None
    ) -> None:
        """A new quote, one second later."""
        self.now += SECOND
        numbers = (Decimal(str(n)) for n in (bid, size, ask, size if ask_size is None else ask_size))
        self.quotes[symbol] = Quote(symbol, self.now, *numbers)
        self.broker.exchange.on_quote(self.quotes[symbol], self.now)
        self.flush()

    def print(self, symbol: str, price: float | str) -> None:
        """A trade of the market, one second later."""
        self.now += SECOND
        self.broker.exchange.on_trade(symbol, Decimal(str(price)), self.now)
        self.flush()

    def wait(self, ns: int) -> None:
        """Nothing but time passes."""
        self.now += ns
        self.broker.exchange.tick(self.now)
        self.flush()

    def order(self, symbol: str, side: str, qty: Any = None, *, n: int = 1, **fields: Any) -> dict[str, Any]:
        """Submit; a market order for the day unless said otherwise."""
        body = {"symbol": symbol, "side": side, "type": "market"} | fields
        body.setdefault("time_in_force", "gtc" if "/" in symbol else "day")
        if qty is not None:
            body["qty"] = str(qty)
        try:
            return self.broker.submit(n, body)
        finally:
            self.flush()

    def cancel(self, order_id: str) -> None:
        """DELETE an order of account 1."""
        self.broker.cancel(1, order_id)
        self.flush()

    def replace(self, order_id: str, **fields: Any) -> dict[str, Any]:
        """PATCH an order of account 1."""
        shown = self.broker.replace(1, order_id, fields)
        self.flush()
        return shown

    def refused(self, symbol: str, side: str, qty: Any = None, **fields: Any) -> dict[str, Any]:
        """The body of the refusal, with its status."""
        with pytest.raises(Rejection) as caught:
            self.order(symbol, side, qty, **fields)
        return {"status": caught.value.status, **caught.value.body}

    def events(self, order_id: str | None = None) -> list[str]:
        """Events so far, of one order or of all."""
        found = [u.message["data"] for c in self.changes for u in c.updates]
        return [d["event"] for d in found if order_id in (None, d["order"]["id"])]

    def data(self, order_id: str, event: str) -> dict[str, Any]:
        """The last update of an order with an event."""
        found = [u.message["data"] for c in self.changes for u in c.updates]
        data: dict[str, Any] = next(
            d for d in reversed(found) if d["order"]["id"] == order_id and d["event"] == event
        )
        return data

    def status(self, order_id: str) -> str:
        """What an order is in."""
        order = self.broker.find(order_id)
        assert order is not None
        return order.status

    def position(self, symbol: str, n: int = 1) -> Decimal:
        """Quantity held."""
        return self.broker.accounts[n].book.quantity(symbol)

    def flush(self) -> None:
        """Take what was announced, and keep it if somebody does."""
        if changes := self.broker.announce.take():
            self.changes.append(changes)
            if self.keep is not None:
                self.keep(changes)
