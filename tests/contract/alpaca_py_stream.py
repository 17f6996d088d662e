"""alpaca-py's streams in a test: listening until the test has seen enough."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

Keep = Callable[[Any], Awaitable[None]]


@asynccontextmanager
async def streaming(stream: Any, subscribe: Callable[[Any, Keep], None]) -> AsyncIterator[list[Any]]:
    """What comes of all that `subscribe` asks the stream for."""
    got: list[Any] = []

    async def keep(message: Any) -> None:
        got.append(message)

    subscribe(stream, keep)
    task = asyncio.create_task(stream._run_forever())
    try:
        yield got
    finally:
        # stop_ws would wait for five seconds of silence; its wait_for may swallow a cancellation
        while not task.done():
            task.cancel()
            await asyncio.wait({task}, timeout=0.2)
        await stream.close()
