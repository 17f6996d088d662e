"""What the simulator says of itself: /sim/status and /sim/rejected. Faults on demand: fault_routes.py."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import orjson
from aiohttp import web

from simulator.rejects import Rejects
from simulator.venue import Venue


def state_of(venues: Mapping[str, Venue]) -> str:
    """The state of a run: finished once every tape with an end is at it; endless ones are not waited for."""
    states = {name: venue.driver.state for name, venue in venues.items()}
    finite = [states[name] for name, venue in venues.items() if venue.tape.finite]
    if finite and all(state == "finished" for state in finite):
        return "finished"
    return "running" if "running" in states.values() else "waiting"


class Control:
    """The /sim routes. The fields of `status` are those of the stocks, with the other venues beside them."""

    def __init__(
        self,
        venues: Mapping[str, Venue],
        rejects: Rejects,
        tape: str,
        trading: Callable[[], Mapping[str, int]],
    ) -> None:
        self._venues = venues
        self._rejects = rejects
        self._tape = tape
        self._trading = trading

    def status(self) -> dict[str, Any]:
        """The state of the run."""
        venues = {name: venue.status() for name, venue in self._venues.items()}
        return {
            **venues["stocks"],
            "state": state_of(self._venues),
            "rejected": self._rejects.count,
            "skipped_files": self._rejects.skipped_files,
            "tape": self._tape,
            "elapsed_seconds": max(venue["elapsed_seconds"] for venue in venues.values()),
            "venues": venues,
            "trading": self._trading(),
        }

    def routes(self) -> list[web.RouteDef]:
        """For the application's router."""
        return [
            web.get("/sim/status", _json(self.status)),
            web.get("/sim/rejected", _json(self._rejects.as_json)),
        ]


def _json(value: Callable[[], object]) -> Callable[[web.Request], Any]:
    async def handle(_: web.Request) -> web.Response:
        return web.Response(body=orjson.dumps(value()), content_type="application/json")

    return handle
