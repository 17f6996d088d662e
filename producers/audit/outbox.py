"""What the auditor has found, kept until Kafka has it."""

from __future__ import annotations

from collections import deque
from typing import Any

from aiokafka import AIOKafkaProducer

from schemas.catalogue import AUDITS, GAPS, Catalogue
from schemas.codec import Codec
from schemas.gaps import Gap
from tidewire.config import Settings

MOST_AT_ONCE = 500


class Outbox:
    """Audit records and gaps in the order of their writing. `producer` is started and the caller's."""

    def __init__(self, settings: Settings, codec: Codec, producer: AIOKafkaProducer) -> None:
        name = Catalogue(settings.tidewire_topic_prefix, 1).name
        self._audits, self._gaps = name(AUDITS), name(GAPS)
        self._codec, self._producer = codec, producer
        self._waiting: deque[tuple[str, bytes, bytes]] = deque()

    @property
    def empty(self) -> bool:
        """Whether Kafka has everything."""
        return not self._waiting

    def put(self, found: dict[str, Any] | Gap) -> None:
        """Take an audit record's content, or a gap; never waits."""
        if isinstance(found, Gap):
            self._waiting.append((self._gaps, found.key, self._codec.encode("gap", found.record())))
            return
        key = f"{found['feed']}:{found['channel']}".encode()
        self._waiting.append((self._audits, key, self._codec.encode("audit", found)))

    async def flush(self) -> None:
        """Send what waits. A record may be sent twice, never not at all. Raises KafkaError."""
        while self._waiting:
            part = [self._waiting[n] for n in range(min(MOST_AT_ONCE, len(self._waiting)))]
            sent = [await self._producer.send(topic, value, key=key) for topic, key, value in part]
            for future in sent:
                await future
            for _ in part:
                self._waiting.popleft()
