"""Several feeds in one process: one that Alpaca refuses for good ends alone, the others go on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from producers.owned_feed import OwnedFeed
from tidewire import log
from tidewire.errors import RefusedError
from tidewire.metrics import FEED_REFUSED

_log = log.get("feeds")


class SideBySide:
    """The feeds that this process may run, the first of them the one that stands for it."""

    def __init__(self, feeds: Sequence[OwnedFeed]) -> None:
        self._feeds: Mapping[str, OwnedFeed] = {feed.plan.name: feed for feed in feeds}
        for feed in feeds:
            FEED_REFUSED.labels(feed.plan.label).set(0)

    async def run(self, name: str, epoch: int) -> None:
        """Run one feed while it is ours; one that is refused is over.

        Raises:
            RefusedError: Alpaca refuses every feed here; the reason of the first one.
        """
        feed = self._feeds[name]
        FEED_REFUSED.labels(feed.plan.label).set(0)
        try:
            await feed.run(epoch)
        except RefusedError as error:
            feed.refusal = error
            refusals = [f.refusal for f in self._feeds.values() if f.refusal is not None]
            if len(refusals) == len(self._feeds):
                raise refusals[0] from None
            FEED_REFUSED.labels(feed.plan.label).set(1)
            _log.error("a feed is refused for good; the others go on", feed=name, reason=str(error))

    def reason(self) -> str | None:
        """Why the service is not ready: the first of our feeds without a connection; None: all are well."""
        for number, (name, feed) in enumerate(self._feeds.items()):
            why = str(feed.refusal) if feed.refusal is not None else feed.lost
            if why is not None:
                return f"{name}: {why}" if number else why
        return None
