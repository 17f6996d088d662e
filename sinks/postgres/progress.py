"""What the sink says of itself: metrics, lag, /health, and whether it is ready."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Mapping

from aiokafka import TopicPartition

from sinks.postgres.batches import Batch
from sinks.postgres.spans import Span
from sinks.postgres.writer import STAGE, Counts
from tidewire.fence import REASON
from tidewire.metrics import (
    BATCH_RECORDS,
    BATCH_SECONDS,
    CONSUMER_LAG,
    RECORDS_APPLIED,
    RECORDS_SKIPPED,
    SLOW_DECODES,
)


class Progress:
    """Collects from the other parts; used from the event loop only. `ready` is Health.ready."""

    def __init__(self, ready: Callable[[str | None], None], wake_relay: Callable[[], None]) -> None:
        self._ready, self._wake_relay = ready, wake_relay
        self._away: dict[str, str | None] = {"start": "starting"}
        self._counts: dict[str, Counts] = defaultdict(Counts)
        self._expired: dict[str, int] = defaultdict(int)
        self._stored: dict[TopicPartition, int] = {}
        self._ends: dict[TopicPartition, int] = {}
        self._last: float | None = None

    def postgres(self, reason: str | None) -> None:
        """None: PostgreSQL answers; or why it does not."""
        self._say("postgres", reason)

    def kafka(self, reason: str | None) -> None:
        """None: Kafka answers; or why it does not."""
        self._say("kafka", reason)

    def placed(self, ends: Mapping[TopicPartition, int], places: Mapping[TopicPartition, Span]) -> None:
        """Partitions were assigned, and this is where each goes on."""
        for gone in self._stored.keys() - places.keys():
            CONSUMER_LAG.labels(STAGE, gone.topic, str(gone.partition)).set(0)
        self._stored = {tp: span.next for tp, span in places.items()}
        self._ends = dict(ends)
        self._say("kafka", None)
        self._say("start", None)
        self._show_lag()

    def highwater(self, ends: Mapping[TopicPartition, int | None]) -> None:
        """The ends of the partitions, as far as a fetch has said."""
        self._ends |= {tp: end for tp, end in ends.items() if end is not None}
        self._show_lag()

    def written(self, batch: Batch, counts: Mapping[str, Counts]) -> None:
        """A batch is stored for good."""
        seconds = time.monotonic() - batch.made_at
        for topic, count in counts.items():
            RECORDS_APPLIED.labels(STAGE, topic).inc(count.applied)
            RECORDS_SKIPPED.labels(STAGE, topic, "duplicate").inc(count.duplicates)
            if count.superseded or count.tombstones:
                RECORDS_SKIPPED.labels(STAGE, topic, "superseded").inc(count.superseded)
                RECORDS_SKIPPED.labels(STAGE, topic, "tombstone").inc(count.tombstones)
            if count.stale:
                RECORDS_SKIPPED.labels(STAGE, topic, REASON).inc(count.stale)
            if count.past:
                RECORDS_SKIPPED.labels(STAGE, topic, "past_retention").inc(count.past)
            BATCH_RECORDS.labels(STAGE, topic).observe(batch.records[topic])
            BATCH_SECONDS.labels(STAGE, topic).observe(seconds)
            total = self._counts[topic]
            total.applied += count.applied
            total.duplicates += count.duplicates
            total.dead += count.dead
            total.superseded += count.superseded
            total.tombstones += count.tombstones
            total.stale += count.stale
            total.past += count.past
        for topic in batch.bisected:
            SLOW_DECODES.labels(STAGE, topic).inc()
        for span in batch.spans:
            self._stored[TopicPartition(span.topic, span.partition)] = span.next
        if any(count.dead for count in counts.values()):
            self._wake_relay()
        self._last = time.time()

    def expired(self, topic: str, count: int) -> None:
        """Records that Kafka deleted before we read them."""
        RECORDS_SKIPPED.labels(STAGE, topic, "expired").inc(count)
        self._expired[topic] += count

    def lag(self) -> dict[str, int]:
        """Records of each topic that are in Kafka and not yet in PostgreSQL."""
        behind: dict[str, int] = {}
        for tp, stored in self._stored.items():
            behind[tp.topic] = behind.get(tp.topic, 0) + max(0, self._ends.get(tp, stored) - stored)
        return behind

    def details(self) -> Mapping[str, object]:
        """The sink's part of /health."""
        return {
            "lag": self.lag(),
            "rows": {
                topic: {
                    "applied": count.applied,
                    "duplicates": count.duplicates,
                    "dead_lettered": count.dead,
                    "superseded": count.superseded,
                    "tombstones": count.tombstones,
                    "stale": count.stale,
                    "past_retention": count.past,
                    "expired": self._expired.get(topic, 0),
                }
                for topic, count in self._counts.items()
            },
            "rows_written": sum(count.applied for count in self._counts.values()),
            "last_commit": self._last,
        }

    def _show_lag(self) -> None:
        for tp, stored in self._stored.items():
            lag = max(0, self._ends.get(tp, stored) - stored)
            CONSUMER_LAG.labels(STAGE, tp.topic, str(tp.partition)).set(lag)

    def _say(self, part: str, reason: str | None) -> None:
        self._away[part] = reason
        self._ready(next((text for text in self._away.values() if text is not None), None))
