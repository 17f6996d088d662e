"""The screen's view of the news: the newest articles, each with the scores of its symbols."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from typing import Any

from aiokafka import AIOKafkaConsumer

from console.screen.state import Headline
from tidewire.config import Settings
from tidewire.errors import RecordError
from tidewire.kafka import client_arguments

Decode = Callable[[bytes], tuple[str, Mapping[str, Any]]]

_KEPT = 200
_REQUEST_SECONDS = 5.0


class NewsSide:
    """Reads both topics' ends with a consumer of no group; articles by (provider, id)."""

    def __init__(self, settings: Settings, news: str, sentiment: str, decode: Decode) -> None:
        self._settings, self._topics, self._decode = settings, (news, sentiment), decode
        self._articles: dict[tuple[str, str], tuple[int, str]] = {}
        self._scores: dict[tuple[str, str], dict[str, float]] = {}
        self._consumer: AIOKafkaConsumer | None = None

    def headlines(self) -> tuple[Headline, ...]:
        """Newest first."""
        newest = sorted(self._articles.items(), key=lambda item: -item[1][0])[:20]
        return tuple(
            Headline(ts, text, tuple(self._scores.get(key, {}).items())) for key, (ts, text) in newest
        )

    async def refresh(self) -> None:
        """Ask Kafka once. Raises what aiokafka raises; the next call starts over."""
        try:
            async with asyncio.timeout(_REQUEST_SECONDS):
                if self._consumer is None:
                    await self._connect()
                await self._read()
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Close the consumer."""
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            with contextlib.suppress(Exception):
                async with asyncio.timeout(_REQUEST_SECONDS):
                    await consumer.stop()

    async def _connect(self) -> None:
        self._consumer = consumer = AIOKafkaConsumer(
            *self._topics,  # subscribed without a group: all partitions
            **client_arguments(self._settings),
            enable_auto_commit=False,
            request_timeout_ms=5_000,
        )
        await consumer.start()
        partitions = consumer.assignment()
        begins = await consumer.beginning_offsets(partitions)
        for partition, end in (await consumer.end_offsets(partitions)).items():
            consumer.seek(partition, max(begins[partition], end - _KEPT))

    async def _read(self) -> None:
        assert self._consumer is not None
        while batches := await self._consumer.getmany(timeout_ms=0, max_records=1_000):
            for record in (record for records in batches.values() for record in records):
                self._take(record.value)

    def _take(self, value: bytes | None) -> None:
        try:
            stem, record = self._decode(value or b"")
        except RecordError:
            return  # the screen shows what can be read; `tidewire verify` judges the topics
        if stem == "news":
            key = record["provider"], record["id"]
            if record["ts"] >= self._articles.get(key, (0, ""))[0]:
                self._articles[key] = record["ts"], record["headline"]
        elif stem == "news_sentiment":
            key = record["provider"], record["article_id"]
            self._scores.setdefault(key, {})[record["symbol"]] = record["score"]
        for held in (self._articles, self._scores):
            while len(held) > 2 * _KEPT:
                held.pop(next(iter(held)))
