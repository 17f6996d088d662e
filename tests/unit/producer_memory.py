"""A log in memory, and what a restarted producer would read from it."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import REGISTRY

from producers.channel import Encoder
from schemas.codec import Codec
from tidewire.dead_letters import DeadLetter


class Memory:
    """Records as (topic, key, value, Kafka timestamp in ms), and dead letters."""

    def __init__(self) -> None:
        self.records: list[tuple[str, bytes, bytes, int]] = []
        self.letters: list[DeadLetter] = []

    def adder(self, topic: str) -> Callable[[bytes, bytes, int], None]:
        """Appends records to a topic."""
        return lambda key, value, timestamp: self.records.append((topic, key, value, timestamp))

    def dead_letter(self, letter: DeadLetter, timestamp_ms: int) -> None:
        """Append one dead letter."""
        self.letters.append(letter)


def remembered(codec: Codec, encoder: Encoder, log: Memory) -> None:
    """Tell a new encoder what the log holds."""
    for tail in encoder.tails():
        for topic, _, value, _ in log.records:
            if topic in tail.topics:
                tail.take(tail.pick(*codec.decode(value)))


def counted(what: str, feed: str) -> float:
    """The sum of `tidewire_messages_<what>_total` of a feed."""
    return sum(
        s.value
        for family in REGISTRY.collect()
        for s in family.samples
        if s.name == f"tidewire_messages_{what}_total" and s.labels.get("feed") == feed
    )
