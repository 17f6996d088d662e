"""What orders that depend on each other may ask of the exchange on whose floor they are."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Protocol

from simulator.broker.account import Account
from simulator.broker.book import Execution
from simulator.broker.market_view import MarketView
from simulator.broker.orders import Order
from simulator.broker.updates import Announcer


class Floor(Protocol):
    """The exchange (exchange.py), as the rules of groups and of several legs see it."""

    @property
    def view(self) -> MarketView:
        """The market's clock and quotes."""

    @property
    def accounts(self) -> Mapping[int, Account]:
        """All accounts, by number."""

    @property
    def announce(self) -> Announcer:
        """Whom to tell of changes."""

    def stamp(self) -> int:
        """The time of the next event, ns."""

    def find(self, order_id: str) -> Order | None:
        """An order of any account."""

    def wait(self, order: Order) -> None:
        """Put an open order where quotes find it."""

    def activate(self, order: Order, now: int) -> None:
        """The order is live from now on; it trades at once if it can."""

    def fill(self, order: Order, qty: Decimal, price: Decimal, *, silent: bool = False) -> Execution:
        """Execute so much of an order; `silent`: the caller says so himself."""

    def finish(self, order: Order, status: str, event: str = "") -> None:
        """An order ends unfilled, and takes with it what depends on it."""

    def settle(self, order: Order) -> None:
        """Holds and waiting lists follow a changed order."""
