"""What the executor and a broker say to each other: orders, positions, and how a request can end. Pure.

How a request ends, when it does not end well::

    BrokerError                 nothing of it holds keys
    ├── Refused                 the broker said no (4xx): nothing was done; `code` and `message` are Alpaca's
    ├── Unknown                 nobody knows whether it was done: look it up by its client_order_id
    ├── Limited                 too many requests (429): nothing was done; ask again after `until_ns`
    └── Stopped                 the kill switch is on, or cannot be read: nothing was sent
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal, Protocol

Side = Literal["buy", "sell"]
OrderType = Literal["market", "limit", "stop", "stop_limit", "trailing_stop"]
TimeInForce = Literal["day", "gtc", "ioc", "fok", "opg", "cls"]

TERMINAL = frozenset({"filled", "canceled", "expired", "rejected", "replaced"})
"""Statuses after which an order trades no more (`replaced`: the one in its place, `replaced_by`, does). Every
other status counts as open: done_for_day (a gtc order trades again tomorrow), and one that nobody knows."""


class BrokerError(Exception):
    """A request to the broker that was not answered as hoped. The text never holds keys."""


class Refused(BrokerError):
    """The broker said no, so it did nothing. `code` is Alpaca's (0: it gave none), `status` HTTP's."""

    def __init__(self, status: int, code: int, message: str) -> None:
        self.status, self.code, self.message = status, code, message
        super().__init__(f"HTTP {status}, code {code}: {message}")


class Unknown(BrokerError):
    """Nobody knows whether the broker did it: no answer in time, 5xx, a lost connection.

    `sent` is False when the request surely never left (no connection came about); to treat it as unknown
    all the same is safe.
    """

    def __init__(self, reason: str, *, sent: bool = True) -> None:
        self.reason, self.sent = reason, sent
        super().__init__(reason)


class Limited(BrokerError):
    """Too many requests: nothing was done. `until_ns`: not to be asked again before (wall clock)."""

    def __init__(self, until_ns: int) -> None:
        self.until_ns = until_ns
        super().__init__("too many requests")


class Stopped(BrokerError):
    """The kill switch is on, or cannot be read: nothing was sent. `reason` says which.

    `unread`: nobody answered what it says, which may be over in a moment.
    """

    def __init__(self, reason: str, *, unread: bool = False) -> None:
        self.reason, self.unread = reason, unread
        super().__init__(reason)


LastCheck = Callable[[], Awaitable[None]]
"""Waited for when a request's turn has come, just before it is sent; what it raises stops it."""


@dataclass(frozen=True, slots=True)
class NewOrder:
    """An order to be placed; prices in USD, `quantity` (shares, coins, contracts) or `notional` (USD)."""

    client_order_id: str
    symbol: str
    side: Side
    type: OrderType
    time_in_force: TimeInForce
    quantity: Decimal | None = None
    notional: Decimal | None = None
    limit_price: Decimal | None = None
    stop_price: Decimal | None = None
    extended_hours: bool = False
    position_intent: str | None = None
    """`sell_to_close`, `buy_to_close`...: the broker itself refuses what would flip a side."""


@dataclass(frozen=True, slots=True)
class BrokerOrder:
    """An order as the broker shows it. Prices in USD, times in ns since 1970 UTC."""

    id: str
    client_order_id: str
    symbol: str
    asset_class: str
    side: str
    type: str
    time_in_force: str
    status: str
    quantity: Decimal | None
    notional: Decimal | None
    filled_quantity: Decimal
    average_price: Decimal | None
    limit_price: Decimal | None
    stop_price: Decimal | None
    extended_hours: bool
    submitted_ns: int | None
    updated_ns: int | None
    replaced_by: str | None = None
    replaces: str | None = None
    reject_reason: str | None = None
    position_intent: str | None = None
    order_class: str = ""
    legs: tuple[BrokerOrder, ...] = ()

    @property
    def terminal(self) -> bool:
        """Whether it trades no more."""
        return self.status in TERMINAL

    @property
    def remaining(self) -> Decimal | None:
        """What is not filled of its quantity; None for a notional order."""
        return None if self.quantity is None else self.quantity - self.filled_quantity


@dataclass(frozen=True, slots=True)
class BrokerPosition:
    """A position as the broker shows it. `quantity` is negative for a short one; prices in USD."""

    symbol: str
    asset_class: str
    quantity: Decimal
    qty_available: Decimal
    """How much of it no open order holds; never negative, for a short one too."""
    side: Literal["long", "short"]
    average_entry_price: Decimal | None = None
    current_price: Decimal | None = None
    market_value: Decimal | None = None

    @property
    def exit_side(self) -> Side:
        """The side of an order that closes it."""
        return "sell" if self.quantity > 0 else "buy"


@dataclass(frozen=True, slots=True)
class BrokerAccount:
    """The account as the broker shows it; USD."""

    status: str
    equity: Decimal
    last_equity: Decimal
    """At the last close."""
    cash: Decimal
    buying_power: Decimal
    non_marginable_buying_power: Decimal
    """What may be spent on coins."""
    options_buying_power: Decimal
    shorting_enabled: bool
    trading_blocked: bool
    account_blocked: bool
    trade_suspended_by_user: bool

    @property
    def may_trade(self) -> bool:
        """Active, neither blocked nor suspended."""
        blocked = self.trading_blocked or self.account_blocked or self.trade_suspended_by_user
        return self.status == "ACTIVE" and not blocked


@dataclass(frozen=True, slots=True)
class Asset:
    """What may be traded, and how."""

    symbol: str
    asset_class: str
    status: str
    tradable: bool
    fractionable: bool
    shortable: bool
    easy_to_borrow: bool
    marginable: bool
    overnight: bool = False
    """Trades from 20:00 to 04:00 New York too."""
    min_order_size: Decimal | None = None
    min_trade_increment: Decimal | None = None
    price_increment: Decimal | None = None


@dataclass(frozen=True, slots=True)
class BrokerClock:
    """The broker's time and its regular session, ns since 1970 UTC."""

    now_ns: int
    is_open: bool
    next_open_ns: int
    next_close_ns: int


@dataclass(frozen=True, slots=True)
class BrokerQuote:
    """The latest quote that the broker's data API knows; USD, ns since 1970 UTC. 0: nobody bids or asks."""

    symbol: str
    bid: Decimal
    ask: Decimal
    ts: int


class Broker(Protocol):
    """One account at a broker. Every method raises BrokerError's children; no POST is ever repeated here.

    `exit` puts a request ahead of all others that wait for the rate limit.
    """

    async def submit(
        self, order: NewOrder, *, exit: bool = False, last_check: LastCheck | None = None
    ) -> BrokerOrder:
        """Place an order, with one request. Raises BrokerError's children; what the check raises."""
        ...

    async def by_client_order_id(self, client_order_id: str, *, exit: bool = False) -> BrokerOrder | None:
        """The order that was placed under this id; None when the broker has none."""
        ...

    async def order(self, order_id: str, *, exit: bool = False) -> BrokerOrder | None:
        """One order with its legs; None when the broker has none."""
        ...

    async def open_orders(self, symbol: str | None = None, *, exit: bool = False) -> list[BrokerOrder]:
        """All open orders, of one symbol or of all."""
        ...

    async def cancel(self, order_id: str, *, exit: bool = False) -> None:
        """Ask for the end of an order. Refused(422): it is not open; (404): there is none."""
        ...

    async def cancel_all(self) -> None:
        """Ask for the end of every open order."""
        ...

    async def close_all(self) -> None:
        """Cancel every open order, and order the end of every position at the market."""
        ...

    async def suspended(self) -> bool:
        """What the broker's own suspend_trade says."""
        ...

    async def position(self, symbol: str, *, exit: bool = False) -> BrokerPosition | None:
        """What is held of a symbol; None: nothing."""
        ...

    async def positions(self, *, exit: bool = False) -> list[BrokerPosition]:
        """Everything that is held."""
        ...

    async def account(self, *, exit: bool = False) -> BrokerAccount:
        """The account."""
        ...

    async def asset(self, symbol: str, *, exit: bool = False) -> Asset | None:
        """What is known of a symbol; None when the broker does not know it."""
        ...

    async def clock(self, *, exit: bool = False) -> BrokerClock:
        """The broker's time and session."""
        ...

    async def latest_quote(self, symbol: str, *, exit: bool = False) -> BrokerQuote | None:
        """The latest quote; None when there is none."""
        ...

    async def suspend(self, on: bool) -> bool:
        """Set the broker's own suspend_trade, and read it back: True when it then says what was asked."""
        ...
