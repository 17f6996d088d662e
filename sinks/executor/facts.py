"""What an executor knows when it decides on an order: one look at the broker, and at its own ledger. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from sinks.executor.broker_types import (
    Asset,
    BrokerAccount,
    BrokerClock,
    BrokerOrder,
    BrokerPosition,
    BrokerQuote,
)


@dataclass(frozen=True, slots=True)
class Facts:
    """One look. `now` is the wall clock, ns."""

    now: int
    position: BrokerPosition | None
    """None: nothing is held."""
    open_orders: tuple[BrokerOrder, ...]
    """Of the symbol."""
    asset: Asset | None
    clock: BrokerClock
    account: BrokerAccount | None = None
    """Not asked for an exit: nothing that it says may trap a position."""
    quote: BrokerQuote | None = None
    """Where a price is needed."""
    orders_in_minute: int = 0
    """Orders of this account, no exits, that were sent within the last 60 s."""
    twin: str | None = None
    """Another intent that sent an equal order a moment ago."""
    signal: str | None = None
    """A signal of the symbol, of a kind and as recent as the account's limits say."""
