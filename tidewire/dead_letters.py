"""Dead letters: a record that cannot be handled is kept, with its original bytes and why it was given up.

A dead letter counts as handled only when Kafka has acknowledged it; until then its source offset stays.
"""

from __future__ import annotations

from dataclasses import dataclass

from aiokafka import AIOKafkaProducer

from tidewire.metrics import RECORDS_DEAD_LETTERED

SUFFIX = ".dlq"


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One record given up. `topic`, `partition`, `offset` say where it stood (-1: it never had an offset)."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes
    stage: str
    error: str
    reason: str
    channel: str = ""
    """Which channel it would have belonged to, where the topic does not say it."""

    def headers(self) -> list[tuple[str, bytes]]:
        """The Kafka headers of the dead-letter record."""
        pairs = {
            "topic": self.topic,
            "partition": str(self.partition),
            "offset": str(self.offset),
            "stage": self.stage,
            "error": self.error,
            "reason": self.reason[:2000],
        }
        if self.channel:
            pairs["channel"] = self.channel
        return [(name, text.encode("utf-8", "backslashreplace")) for name, text in pairs.items()]


async def publish(producer: AIOKafkaProducer, letters: list[DeadLetter]) -> None:
    """Send the letters to `<topic>.dlq` and wait until Kafka has them all.

    Raises:
        KafkaError: one was not acknowledged; the caller must not commit its source.
    """
    sent = [
        await producer.send(
            letter.topic + SUFFIX, key=letter.key, value=letter.value, headers=letter.headers()
        )
        for letter in letters
    ]
    for letter, future in zip(letters, sent, strict=True):
        await future
        RECORDS_DEAD_LETTERED.labels(letter.stage, letter.topic).inc()
