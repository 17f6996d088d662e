"""One look at the broker and at the ledger, made into facts; what changes seldom is kept for a while."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from schemas.fills import asset_class, underlying
from sinks.executor import sizing
from sinks.executor.broker_types import Asset, Broker, BrokerClock, BrokerOrder, BrokerPosition, BrokerQuote
from sinks.executor.facts import Facts
from sinks.executor.intents import Intent
from sinks.executor.ledger import Ledger
from sinks.executor.moves import Rules, State, as_of
from sinks.executor.shaping import needs_quote
from sinks.executor.signals import Signals
from tidewire.clock import NS_PER_SECOND, Clock
from tidewire.risk_limits import RiskLimits

CLOCK_NS = 5 * NS_PER_SECOND
"""How long an answer of the broker's clock is good for."""
ASSET_NS = 600 * NS_PER_SECOND
"""A stock that becomes untradable within that time is the broker's to refuse."""


class Looker:
    """Looks for one account."""

    def __init__(
        self,
        broker: Broker,
        ledger: Ledger,
        limits: RiskLimits,
        now: Clock,
        signals: Signals | None = None,
    ) -> None:
        self._broker, self._ledger, self._limits, self._now = broker, ledger, limits, now
        self._signals = signals
        self._clock: tuple[int, BrokerClock] | None = None
        self._assets: dict[str, tuple[int, Asset | None]] = {}

    async def look(self, intent: Intent, state: State, rules: Rules) -> Facts:
        """What is known now. Raises BrokerError."""
        intent = as_of(intent, state)
        if intent.exit:
            return await self._for_exit(intent, state)
        facts = await self._for_order(intent)
        if self._limits.block_entries_on and self._signals is not None:
            of = underlying(intent.symbol)
            facts = replace(facts, signal=await self._signals.told(of, self._limits, self._now()))
        order = rules.shape(intent, None, facts, "")
        seconds = float(self._limits.duplicate_seconds)
        if seconds and not hasattr(order, "check"):
            facts = replace(facts, twin=await self._ledger.twin(intent, order, seconds))
        return facts

    async def _for_exit(self, intent: Intent, state: State) -> Facts:
        first = state.phase == "received" and state.looks == 0 and state.attempt == 0
        if first:
            held, clock, asset = await asyncio.gather(
                self._both(intent.symbol), self.clock(exit=True), self.asset(intent.symbol, exit=True)
            )
            position, orders = held
        else:  # in this order: what an order that has just ended held is free again in the position
            orders = await self._broker.open_orders(intent.symbol, exit=True)
            position = await self._broker.position(intent.symbol, exit=True)
            clock, asset = await self.clock(exit=True), await self.asset(intent.symbol, exit=True)
        if self._limits.dry_run:
            position, orders = _as_if_free(position), []
        quote = await self._quote(intent, clock)
        return Facts(self._now(), position, tuple(orders), asset, clock, quote=quote)

    async def _both(self, symbol: str) -> tuple[BrokerPosition | None, list[BrokerOrder]]:
        return await asyncio.gather(
            self._broker.position(symbol, exit=True), self._broker.open_orders(symbol, exit=True)
        )

    async def _for_order(self, intent: Intent) -> Facts:
        position, account, clock, asset, quote, sent = await asyncio.gather(
            self._broker.position(intent.symbol),
            self._broker.account(),
            self.clock(),
            self.asset(intent.symbol),
            self._broker.latest_quote(intent.symbol),
            self._ledger.orders_in_minute(intent.account),
        )
        return Facts(self._now(), position, (), asset, clock, account, quote, sent)

    async def _quote(self, intent: Intent, clock: BrokerClock) -> BrokerQuote | None:
        if not needs_quote(intent, clock, asset_class(intent.symbol)):
            return None
        return await self._broker.latest_quote(intent.symbol, exit=True)

    async def clock(self, *, exit: bool = False) -> BrokerClock:
        """The broker's clock, a few seconds old at most. Raises BrokerError."""
        now = self._now()
        if self._clock is None or now - self._clock[0] >= CLOCK_NS:
            self._clock = (now, await self._broker.clock(exit=exit))
        return self._clock[1]

    async def asset(self, symbol: str, *, exit: bool = False) -> Asset | None:
        """What is known of a symbol. Raises BrokerError."""
        now, kept = self._now(), self._assets.get(symbol)
        if kept is None or now - kept[0] >= ASSET_NS:
            kept = self._assets[symbol] = (now, await self._broker.asset(symbol, exit=exit))
        return kept[1]


def _as_if_free(position: BrokerPosition | None) -> BrokerPosition | None:
    """In a dry run no order is cancelled: look as if all had been."""
    return None if position is None else replace(position, qty_available=sizing.held(position))
