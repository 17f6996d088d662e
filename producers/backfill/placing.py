"""A publisher that says where its records stand in the log."""

from __future__ import annotations

from producers.lanes import Batch, Lane
from producers.publisher import Publisher
from tidewire.dead_letters import SUFFIX


class PlacingPublisher(Publisher):
    """Notes the offsets of every batch that Kafka acknowledged, until they are asked for."""

    _placed: dict[str, dict[int, list[tuple[int, int]]]] | None = None

    def placed(self, topic: str) -> tuple[str, ...]:
        """What was placed in a topic since the last call, as topic:partition:first offset:last offset."""
        found = (self._placed or {}).pop(topic, {})
        return tuple(
            f"{topic}:{partition}:{first}:{last}"
            for partition, ranges in sorted(found.items())
            for first, last in ranges
        )

    def _acknowledged(self, lane: Lane, batch: Batch) -> None:
        topic, end = lane.partition.topic, lane.next_offset
        if end is not None and not topic.endswith(SUFFIX):
            self._placed = {} if self._placed is None else self._placed
            ranges = self._placed.setdefault(topic, {}).setdefault(lane.partition.partition, [])
            first = end - batch.records
            if ranges and ranges[-1][1] == first - 1:
                first = ranges.pop()[0]
            ranges.append((first, end - 1))
        super()._acknowledged(lane, batch)
