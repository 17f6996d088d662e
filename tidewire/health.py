"""The small HTTP server beside each service: /metrics, /livez, /readyz, /health.

`/metrics?name[]=...` gives only the samples of these names: who looks every second asks for what it shows.
`/livez` says that the event loop turns. `/readyz` is 200 once the service does its work, 503 with the reason
before that. `/health` is the same with details, for people and for the live screen.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Any

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, generate_latest

from tidewire.config import Settings

Details = Callable[[], Mapping[str, object]]


class Health:
    """What a service says of itself. `ready(None)` means ready; a text is the reason why it is not."""

    def __init__(self, service: str, details: Details | None = None) -> None:
        self.service = service
        self.not_ready: str | None = "starting"
        self._details = details or dict
        self._started = time.monotonic()
        self._runner: web.AppRunner | None = None
        self.port = 0

    def ready(self, reason: str | None = None) -> None:
        """Mark the service ready, or not ready because of `reason`."""
        self.not_ready = reason

    async def start(self, settings: Settings) -> None:
        """Listen on the settings' address; `port` then holds the real port.

        Raises:
            OSError: the port is taken.
        """
        app = web.Application()
        app.router.add_get("/metrics", self._metrics)
        app.router.add_get("/livez", self._livez)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/health", self._health)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
        await self._runner.setup()
        await web.TCPSite(self._runner, settings.tidewire_http_host, settings.tidewire_http_port).start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Close the server."""
        if self._runner is not None:
            await self._runner.cleanup()
            await asyncio.sleep(0)

    async def _metrics(self, request: web.Request) -> web.Response:
        names = request.query.getall("name[]", [])
        registry: Any = REGISTRY.restricted_registry(names) if names else REGISTRY
        # Hundreds of samples take tens of milliseconds, for which records would wait: not in the event loop.
        body = await asyncio.to_thread(generate_latest, registry)
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def _livez(self, _: web.Request) -> web.Response:
        return web.json_response({"status": "alive", "service": self.service})

    async def _readyz(self, _: web.Request) -> web.Response:
        if self.not_ready is None:
            return web.json_response({"status": "ready", "service": self.service})
        return web.json_response({"status": "not ready", "reason": self.not_ready}, status=503)

    async def _health(self, _: web.Request) -> web.Response:
        body = {
            "service": self.service,
            "status": "healthy" if self.not_ready is None else "degraded",
            "reason": self.not_ready,
            "uptime_seconds": round(time.monotonic() - self._started, 1),
            **self._details(),
        }
        return web.json_response(body)
