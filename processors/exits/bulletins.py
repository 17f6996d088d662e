"""What concerns whole feeds, read whole by every worker: gaps and the states of connections.

They are not placed by symbol, so a consumer of no group reads them from their beginning. What stands in them
must be known before the first price is folded: a price beside an open gap may be no price to sell at.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from processors.whole_topics import WholeTopics, readable
from schemas.catalogue import CONNECTIONS, GAPS, Catalogue
from schemas.codec import Codec, Record
from tidewire import metrics
from tidewire.config import Settings

MARKET = ("stocks:", "options:", "crypto:")
"""Feeds of prices; gaps of an account's order events are the account side's to judge."""
_STEMS = {GAPS: "gap", CONNECTIONS: "connection"}

Take = Callable[[str, Record], None]
"""Is given the stem (gap, connection) and the record."""


class Board:
    """The newest state of each gap that is not closed, and of each connection. Pure."""

    def __init__(self) -> None:
        self._gaps: dict[str, Record] = {}
        self._connections: dict[str, Record] = {}

    def take(self, stem: str, record: Record) -> bool:
        """The next record of a topic; false: it is not about prices."""
        if not record["feed"].startswith(MARKET):
            return False
        if stem == "connection":
            self._connections[record["feed"]] = record
        elif record["state"] == "closed":
            self._gaps.pop(record["id"], None)
        else:
            self._gaps[record["id"]] = record
        return True

    def all(self) -> Iterator[tuple[str, Record]]:
        """What a newly loaded partition must be told, by stem."""
        for connection in self._connections.values():
            yield "connection", connection
        for gap in self._gaps.values():
            yield "gap", gap


class Bulletins:
    """Reads both topics; `known` is set once all that stood in them at the start is taken."""

    def __init__(
        self, settings: Settings, catalogue: Catalogue, codec: Codec, stage: str, take: Take
    ) -> None:
        self._codec, self._stage, self._take = codec, stage, take
        self._stems = {catalogue.name(topic): stem for topic, stem in _STEMS.items()}
        self._topics = WholeTopics(settings, tuple(self._stems))
        self.board = Board()
        self.known = self._topics.known

    async def run(self, after: Callable[[], Awaitable[None]]) -> None:
        """Read until cancelled; `after` is awaited after each look once they are known."""
        await self._topics.run(self._one, after)

    def _one(self, record: Any) -> None:
        if record.value is None:
            return
        stem = self._stems[record.topic]
        decoded = readable(record, self._codec, stem, self._stage, "cannot be read, so it holds no exit")
        if decoded is None:
            return
        if self.board.take(stem, decoded):
            self._take(stem, decoded)
            metrics.RECORDS_APPLIED.labels(self._stage, record.topic).inc()
        else:
            metrics.RECORDS_SKIPPED.labels(self._stage, record.topic, "filtered").inc()
