"""Tells clients when their data is stale and when it is current again (D3), and the page's own health."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import Any

from sinks.gateway import tape_messages
from sinks.gateway.account_feed import AccountFeed
from sinks.gateway.alpaca_state import Connections
from sinks.gateway.portfolio import Portfolios
from sinks.gateway.tape import Tape
from tidewire.clock import Clock

_LOOK_SECONDS = 1.0


class Staleness:
    """Looks once a second."""

    def __init__(
        self, feed: AccountFeed, alpaca: Connections, portfolios: Portfolios, tape: Tape, now: Clock
    ) -> None:
        self._feed, self._alpaca, self._portfolios, self._tape = feed, alpaca, portfolios, tape
        self._now = now

    def reasons(self, accounts: Collection[str]) -> list[str]:
        """What is stale for a user who sees these accounts."""
        if self._feed.away is not None:
            return ["kafka"]
        return self._alpaca.stale(accounts, self._now())

    async def run(self) -> None:
        """Tell whoever has not been told, for ever."""
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            by_accounts: dict[tuple[str, ...], tuple[str, ...]] = {}
            for watcher in self._portfolios.watchers:
                reasons = by_accounts.get(watcher.accounts)
                if reasons is None:
                    reasons = by_accounts[watcher.accounts] = tuple(self.reasons(watcher.accounts))
                if reasons != watcher.told_stale:
                    watcher.told_stale = reasons
                    self._portfolios.tell(watcher, "stale", tape_messages.staleness(reasons))
            market = tuple(self.reasons(()))
            for client in self._tape.clients:
                if market != client.told_stale:
                    client.told_stale = market
                    client.write(tape_messages.stale(market), "stale")
            self._tape.confirm()

    def health(self, enabled: bool, database: bool) -> dict[str, Any]:
        """What /api/health says."""
        now = self._now()
        reasons = self.reasons(())
        away = self._feed.away
        return {
            "status": "healthy" if not reasons and database else "degraded",
            "realtimeEnabled": enabled,
            "kafka": "connected" if away is None else "away",
            "database": "connected" if database else "away",
            "stale": bool(reasons),
            "staleReasons": reasons,
            "alpaca": self._alpaca.health(now),
        }
