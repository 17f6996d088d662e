"""What the simulator says of itself, and faults on demand: /sim/status, /sim/rejected, /sim/faults."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson
from aiohttp import web

from simulator import faults
from simulator.driver import Driver
from simulator.hub import Hub
from simulator.ledger import Ledger
from simulator.market import Market
from simulator.rejects import Rejects

_BARS = ("bars", "updatedBars", "dailyBars")


def published(ledger: Ledger) -> dict[str, int]:
    """Messages published, by kind; `bars` are b, u and d together."""
    counts = dict(ledger.counts)
    bars = sum(counts.pop(channel, 0) for channel in _BARS)
    return {"trades": counts.pop("trades", 0), "quotes": counts.pop("quotes", 0), "bars": bars, **counts}


class Control:
    """The /sim routes."""

    def __init__(
        self, driver: Driver, market: Market, hub: Hub, ledger: Ledger, rejects: Rejects, tape: str
    ) -> None:
        self._driver = driver
        self._market = market
        self._hub = hub
        self._ledger = ledger
        self._rejects = rejects
        self._tape = tape

    def status(self) -> dict[str, Any]:
        """The state of the run."""
        return {
            "state": self._driver.state,
            "published": published(self._ledger),
            "rejected": self._rejects.count,
            "skipped_files": self._rejects.skipped_files,
            "elapsed_seconds": round(self._driver.elapsed, 3),
            "clients": sum(c.session.authenticated for c in self._hub.clients),
            "tape": self._tape,
            "tape_messages": self._market.tape,
            "tape_time_ns": self._market.clock,
            "subscriptions": self._hub.interest.all(),
        }

    def routes(self) -> list[web.RouteDef]:
        """For the application's router."""
        return [
            web.get("/sim/status", _json(self.status)),
            web.get("/sim/rejected", _json(self._rejects.as_json)),
            web.post("/sim/faults", self._fault),
        ]

    async def _fault(self, request: web.Request) -> web.Response:
        try:
            fault = faults.parse(orjson.loads(await request.read()))
        except ValueError as error:
            return web.json_response({"message": str(error)}, status=400)
        return web.json_response({"kind": fault.kind, "sockets": self._hub.inflict(fault)})


def _json(value: Callable[[], object]) -> Callable[[web.Request], Any]:
    async def handle(_: web.Request) -> web.Response:
        return web.Response(body=orjson.dumps(value()), content_type="application/json")

    return handle
