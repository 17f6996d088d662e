"""Orders that turn up at the broker after their intent has ended without them: found, named and counted.

It must not happen (last_look.py). If it does, a person has to know, since nobody watches such an order: the
position's next exit finds it open and clears it away, or finds fewer shares.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from schemas.order_ids import PREFIX
from sinks.executor.ledger import Ledger
from tidewire import log
from tidewire.metrics import EXECUTOR_ALERTS

_WORKING = frozenset({"pending_new", "accepted", "new", "partial_fill", "fill"})
_MOST = 1_000
_NAMED = 10_000

_log = log.get("executor")


class LateOrders:
    """Looks at trade updates beside everything else; what comes while too many wait is not looked at."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._seen: asyncio.Queue[tuple[str, str]] = asyncio.Queue(_MOST)
        self._named: set[str] = set()

    def see(self, update: Mapping[str, Any]) -> None:
        """A `trade_update` record."""
        name = update["client_order_id"] or ""
        if name.startswith(PREFIX) and update["event"] in _WORKING and not self._seen.full():
            self._seen.put_nowait((name, update["order_id"]))

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            name, order_id = await self._seen.get()
            if name in self._named:
                continue
            late = await self._ledger.late(name)
            if late is None:
                continue
            if len(self._named) >= _NAMED:
                self._named.clear()
            self._named.add(name)
            intent_id, outcome = late
            EXECUTOR_ALERTS.labels("late").inc()
            _log.error(
                "an order has turned up after its intent had ended without it; look at the position",
                intent=intent_id, outcome=outcome, order=order_id, client_order_id=name,
            )  # fmt: skip
