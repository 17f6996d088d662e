"""Faults on demand and what they took: POST /sim/faults, GET /sim/skipped. See faults.py for the kinds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import orjson
from aiohttp import web

from simulator import faults
from simulator.door import RestFaults
from simulator.faults import DONE_ALL_THE_SAME, Fault
from simulator.skips import Skips

_REST = {
    "stocks": ("/v2/stocks",),
    "crypto": ("/v1beta3/crypto",),
    "news": ("/v1beta1/news",),
    "options": ("/v1beta1/options",),
    "trading": ("/v2/orders", "/v2/account", "/v2/positions", "/v2/clock", "/v2/calendar", "/v2/assets"),
}
"""Venue -> how the paths of its REST begin."""


class Target(Protocol):
    """The sockets of one venue."""

    skips: Skips

    def inflict(self, fault: Fault) -> int:
        """Do a fault; returns how many sockets it hit.

        Raises:
            ValueError: it cannot be done there.
        """
        ...


class FaultRoutes:
    """The routes over the venues by name; they need no keys, like all of /sim."""

    def __init__(self, targets: Mapping[str, Target], rest: RestFaults) -> None:
        self._targets = targets
        self._rest = rest

    def routes(self) -> list[web.RouteDef]:
        """For the application's router."""
        return [web.post("/sim/faults", self._fault), web.get("/sim/skipped", self._skipped)]

    async def _fault(self, request: web.Request) -> web.Response:
        try:
            body = orjson.loads(await request.read())
            name = body.pop("venue", "stocks") if isinstance(body, dict) else "stocks"
            if name not in self._targets:
                raise ValueError(f"venue must be one of {', '.join(self._targets)}")
            answer = self._inflict(name, faults.parse(body))
        except ValueError as error:
            return web.json_response({"message": str(error)}, status=400)
        return web.json_response(answer)

    def _inflict(self, name: str, fault: Fault) -> dict[str, Any]:
        if fault.kind in DONE_ALL_THE_SAME and name != "trading":
            raise ValueError(f"{fault.kind} is a fault of venue trading")
        if fault.kind == "status_http" or fault.kind in DONE_ALL_THE_SAME:
            self._rest.add(_REST[name] if fault.path is None else (fault.path,), fault)
            return {"kind": fault.kind, "sockets": 0}
        target = self._targets[name]
        answer: dict[str, Any] = {"kind": fault.kind, "sockets": target.inflict(fault)}
        return answer | ({"remaining": target.skips.remaining} if fault.kind == "skip" else {})

    async def _skipped(self, request: web.Request) -> web.Response:
        """A list, oldest first within a venue; of one venue with ?venue=."""
        wanted = request.query.get("venue")
        if wanted is not None and wanted not in self._targets:
            return web.json_response(
                {"message": f"venue must be one of {', '.join(self._targets)}"}, status=400
            )
        found = [
            entry for name, t in self._targets.items() if wanted in (None, name) for entry in t.skips.skipped
        ]
        return web.Response(body=orjson.dumps(found), content_type="application/json")
