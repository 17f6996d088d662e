"""Two workers in one process: ready when both are, and when one ends, the other is stopped too."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from tidewire.health import Health

Run = Callable[[Health, asyncio.Event], Awaitable[None]]
"""The body of a service: runs until the event is set."""

_LOOK_SECONDS = 0.1


async def run(health: Health, stop: asyncio.Event, *bodies: Run) -> None:
    """Run all of them until `stop` is set or one has ended.

    Raises whatever the first of them raised that failed.
    """
    ending = asyncio.Event()
    parts = [Health(health.service) for _ in bodies]
    running = [asyncio.ensure_future(body(part, ending)) for body, part in zip(bodies, parts, strict=True)]
    stopped = asyncio.create_task(stop.wait())
    showing = asyncio.create_task(_show(health, parts))
    try:
        await asyncio.wait([stopped, *running], return_when=asyncio.FIRST_COMPLETED)
    finally:
        ending.set()
        results = await asyncio.gather(*running, return_exceptions=True)
        for task in (stopped, showing):
            task.cancel()
    for result in results:
        if isinstance(result, BaseException):
            raise result


async def _show(health: Health, parts: list[Health]) -> None:
    while True:
        health.ready(next((part.not_ready for part in parts if part.not_ready is not None), None))
        await asyncio.sleep(_LOOK_SECONDS)
