"""Open gaps of the accounts' order events: while one lasts, a position may not be what it seems.

Gaps are not placed by account, so a consumer of no group reads their topic whole, from its beginning.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from processors.placing.position import Cause
from processors.whole_topics import WholeTopics, readable
from schemas.codec import Codec
from schemas.gaps import Board, Gap, kind_of
from tidewire import metrics
from tidewire.config import Settings

_KIND = "trading"


class Unreconciled:
    """Which accounts have an open gap, and the newest record that said so. Pure."""

    def __init__(self) -> None:
        self._board = Board()
        self._newest: dict[str, Cause] = {}
        self._news = False

    def turned(self) -> bool:
        """Whether anything was said since the last call."""
        news, self._news = self._news, False
        return news

    def take(self, record: Mapping[str, Any]) -> bool:
        """The next record of a gap; whether it says something new of an account."""
        if kind_of(record["feed"]) != _KIND or not self._board.put(Gap.of(record)):
            return False
        cause = Cause(record["received_ts"], record["ts"], record["source"])
        account = record["feed"].partition(":")[2]
        self._newest[account] = max(cause, self._newest.get(account, cause))
        self._news = True
        return True

    def accounts(self) -> dict[str, Cause]:
        """By account with an open gap: what was said of it last."""
        names = {gap.feed.partition(":")[2] for gap in self._board.open()}
        return {name: self._newest[name] for name in sorted(names)}


class Interruptions:
    """Follows alpaca.gaps; `known` is set once all that stood in it at the start is taken."""

    def __init__(self, settings: Settings, topic: str, codec: Codec, stage: str) -> None:
        self._codec, self._stage = codec, stage
        self._topics = WholeTopics(settings, (topic,))
        self.unreconciled = Unreconciled()
        self.known = self._topics.known

    async def run(self, after: Callable[[], Awaitable[None]]) -> None:
        """Read until cancelled; `after` is awaited after each look once they are known."""
        await self._topics.run(self._one, after)

    def _one(self, record: Any) -> None:
        gap = readable(record, self._codec, "gap", self._stage, "a gap cannot be read; it holds no exits")
        if gap is None:
            return
        if self.unreconciled.take(gap):
            metrics.RECORDS_APPLIED.labels(self._stage, record.topic).inc()
        else:
            metrics.RECORDS_SKIPPED.labels(self._stage, record.topic, "not_of_an_account").inc()
