"""Recent signals, followed on their topic: after one an account may want nothing opened in its symbol."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from schemas.codec import Codec
from tidewire import log
from tidewire.clock import NS_PER_MS, NS_PER_SECOND, Clock
from tidewire.config import Settings
from tidewire.errors import RecordError
from tidewire.kafka import client_arguments, fetch_only_when_read, start
from tidewire.metrics import RECORDS_APPLIED, RECORDS_SKIPPED
from tidewire.risk_limits import LONGEST_BLOCK, SIGNALS, RiskLimits

STAGE = "executor"
MOST = 10_000
"""Symbols and kinds that are remembered; beyond it those that were told first are forgotten."""
PATIENCE = 2.0
"""Seconds that an order waits for the signals to be read at the start."""
PAUSE = 1.0
_POLL_MS = 500

UNKNOWN = "the signals cannot be read"

_log = log.get("executor-signals")


class Signals:
    """When the newest signal of each symbol and kind was received (ns). `known`: all that stood in the topic
    at the start is taken.
    """

    def __init__(self) -> None:
        self._received: dict[tuple[str, str], int] = {}
        self.known = asyncio.Event()

    def take(self, signal: dict[str, Any]) -> bool:
        """One signal; false: of a kind that nobody can ask for."""
        if signal["kind"] not in SIGNALS:
            return False
        key = signal["symbol"], signal["kind"]
        newest = max(self._received.pop(key, 0), signal["received_ts"])
        self._received[key] = newest
        while len(self._received) > MOST:
            del self._received[next(iter(self._received))]
        return True

    def recent(self, symbol: str, limits: RiskLimits, now: int) -> str | None:
        """A signal of this symbol that an account's limits speak of, in words; None: there is none."""
        for kind in limits.block_entries_on:
            received = self._received.get((symbol, kind))
            if received is None:
                continue
            age = now - received
            if age <= limits.block_entries_seconds * NS_PER_SECOND:
                return f"a {kind} signal {max(age, 0) / NS_PER_SECOND:.1f} s ago"
        return None

    async def told(self, symbol: str, limits: RiskLimits, now: int) -> str | None:
        """The same, once the signals are known; what cannot be known is told as a signal."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self.known.wait(), PATIENCE)
        return self.recent(symbol, limits, now) if self.known.is_set() else UNKNOWN


class Follower:
    """Reads the topic from as long ago as a signal can count. Kafka's absence is waited out; meanwhile nobody
    knows of new signals, so that `known` is not set.
    """

    def __init__(self, settings: Settings, codec: Codec, topic: str, signals: Signals, clock: Clock) -> None:
        self._settings, self._codec, self._topic = settings, codec, topic
        self._signals, self._clock = signals, clock

    async def run(self) -> None:
        """Follow until cancelled."""
        while True:
            consumer = AIOKafkaConsumer(
                **client_arguments(self._settings), group_id=None, enable_auto_commit=False,
                auto_offset_reset="earliest",
            )  # fmt: skip
            try:
                await start(consumer)
                fetch_only_when_read(consumer)
                await self._follow(consumer)
            except (KafkaError, OSError) as error:
                _log.warning(UNKNOWN, reason=repr(error))
            finally:
                self._signals.known.clear()
                with suppress(TimeoutError, KafkaError):
                    await asyncio.wait_for(consumer.stop(), 5)
            await asyncio.sleep(PAUSE)

    async def _follow(self, consumer: AIOKafkaConsumer) -> None:
        numbers = await consumer._client._wait_on_metadata(self._topic)
        parts = [TopicPartition(self._topic, number) for number in numbers]
        consumer.assign(parts)
        ends = await consumer.end_offsets(parts)
        since = (self._clock() - int(LONGEST_BLOCK) * NS_PER_SECOND) // NS_PER_MS
        found = await consumer.offsets_for_times(dict.fromkeys(parts, max(since, 0)))
        for part in parts:
            consumer.seek(part, ends[part] if found[part] is None else found[part].offset)
        while True:
            if not self._signals.known.is_set():
                there = [await consumer.position(part) >= ends[part] for part in parts]
                if all(there):
                    self._signals.known.set()
            for records in (await consumer.getmany(timeout_ms=_POLL_MS)).values():
                for record in records:
                    self._one(record)

    def _one(self, record: Any) -> None:
        try:
            stem, signal = self._codec.decode(record.value)
            if stem != "signal":
                raise RecordError(f"a signal expected, got {stem}")
        except RecordError as error:
            RECORDS_SKIPPED.labels(STAGE, record.topic, "unreadable").inc()
            _log.warning("a signal cannot be read", partition=record.partition, reason=error.reason)
            return
        if self._signals.take(signal):
            RECORDS_APPLIED.labels(STAGE, record.topic).inc()
        else:
            RECORDS_SKIPPED.labels(STAGE, record.topic, "filtered").inc()
