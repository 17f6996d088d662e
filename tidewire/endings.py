"""Tasks that are to end do end, although a library may swallow a cancellation.

`AIOKafkaConsumer.stop()` awaits tasks that it has cancelled itself and takes a CancelledError for theirs
(aiokafka, `Fetcher.close` and `BaseCoordinator`); `asyncio.wait_for` of Python 3.11 loses one that arrives
with its result (CPython issue 86296). A loop that is cancelled at that moment goes on for ever, and who waits
for it too: so it is told again.
"""

from __future__ import annotations

import asyncio
from typing import Any

AGAIN_SECONDS = 5.0
"""Longer than any of our own tasks needs to put things away after a cancellation."""


async def end(*tasks: asyncio.Future[Any], again: float = AGAIN_SECONDS) -> None:
    """Cancel the tasks and wait until all have ended; one that goes on is cancelled again every `again` s.

    What they raise is left in them, for the caller to look at.
    """
    left = set(tasks)
    while left:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=again)
    await asyncio.gather(*tasks, return_exceptions=True)  # marks the errors as seen
