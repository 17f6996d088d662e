"""Several feeds in one process: one that Alpaca refuses for good ends alone, the others go on."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from producers.feed import Feed
from tidewire import log
from tidewire.errors import RefusedError
from tidewire.metrics import FEED_REFUSED

_log = log.get("feeds")


async def run(feeds: Sequence[Feed], stop: asyncio.Event) -> None:
    """Work until `stop` is set.

    Raises:
        RefusedError: Alpaca refuses every feed; the reason of the first one.
    """
    tasks = {asyncio.create_task(feed.run(stop)): feed for feed in feeds}
    for feed in feeds:
        FEED_REFUSED.labels(feed.label).set(0)
    refusals: dict[Feed, RefusedError] = {}
    running = set(tasks)
    try:
        while running:
            done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                try:
                    task.result()
                except RefusedError as error:
                    refusals[tasks[task]] = error
                    if len(refusals) < len(feeds):
                        _alert(tasks[task], error)
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
    if len(refusals) == len(feeds):
        raise refusals[feeds[0]]


def reason(feeds: Sequence[Feed]) -> str | None:
    """Why the service is not ready: what the first feed without a connection says; None: all are well."""
    for feed in feeds:
        if feed.lost is not None:
            return feed.lost if feed is feeds[0] else f"{feed.name}: {feed.lost}"
    return None


def _alert(feed: Feed, error: RefusedError) -> None:
    FEED_REFUSED.labels(feed.label).set(1)
    _log.error("a feed is refused for good; the others go on", feed=feed.name, reason=str(error))
