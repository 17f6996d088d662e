"""portfolio.positions, read whole by every worker: a consumer of no group, from the beginning."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from processors.whole_topics import WholeTopics, readable
from schemas.codec import Codec
from schemas.unchanged import Unchanged
from tidewire import metrics
from tidewire.config import Settings

_WAIT_MS = 200
_FETCH_BYTES = 1 << 20  # marks change positions all the time, and none of that matters here

Take = Callable[[bytes, Mapping[str, Any] | None], None]


class Positions:
    """Gives every position record to `take`, in the order of its partition."""

    def __init__(self, settings: Settings, topic: str, codec: Codec, stage: str, take: Take) -> None:
        self._codec, self._stage, self._take = codec, stage, take
        self._topics = WholeTopics(settings, (topic,), wait_ms=_WAIT_MS, min_bytes=_FETCH_BYTES)
        self._unchanged = Unchanged(codec)

    async def run(self, after: Callable[[], Awaitable[None]]) -> None:
        """Read until cancelled; `after` is awaited after each look once all that stood there is taken."""
        await self._topics.run(self._one, after)

    def _one(self, record: Any) -> None:
        key = record.key or b""
        if not self._unchanged(key, record.value):
            position = None
            if record.value is not None:
                loss = "a position cannot be read; its symbol gets no marks"
                position = readable(record, self._codec, "portfolio_position", self._stage, loss)
                if position is None:
                    return
            self._take(key, position)
        metrics.RECORDS_APPLIED.labels(self._stage, record.topic).inc()
