"""A service that runs in the test's own process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Protocol

from tidewire.health import Health


class Service(Protocol):
    """What all services have."""

    async def run(self, health: Health, stop: asyncio.Event) -> None:
        """The body of the service."""


@asynccontextmanager
async def running(service: Service, name: str) -> AsyncIterator[Health]:
    """It runs meanwhile, and must neither end by itself nor take longer than 20 s to stop."""
    health, stop = Health(name), asyncio.Event()
    task = asyncio.create_task(service.run(health, stop))
    try:
        yield health
        assert not task.done(), task.exception()
    finally:
        stop.set()
        await asyncio.wait_for(task, 20)
