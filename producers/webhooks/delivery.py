"""The way of messages from webhooks into the log: each once, with its id, or as a dead letter.

The streams' owners do not see what comes here. So before anything is published, the end of the partitions
that it belongs to is read: what the log holds already is a duplicate. An event that a stream brings after
its webhook is in the log twice, under one event id.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

import orjson
from aiokafka import AIOKafkaConsumer
from aiokafka.partitioner import DefaultPartitioner
from aiokafka.structs import TopicPartition

from producers import log_tail, normalize, normalize_crypto
from producers.backfill.difference import BarRevisions, Difference, Events
from producers.channel import Channel, Encoder, Message
from producers.encoders import encoder as encoder_of
from producers.publisher import Publisher
from schemas.catalogue import CRYPTO_BARS, CRYPTO_ORDERBOOKS, STOCK_BARS
from schemas.codec import Codec
from tidewire import kafka
from tidewire.clock import NS_PER_MS, NS_PER_SECOND
from tidewire.config import Settings
from tidewire.dead_letters import DeadLetter
from tidewire.errors import RecordError

LOOK_BACK_NS = 60 * NS_PER_SECOND
MOST_BACK = 20_000
"""Records of a partition that are looked at."""


@dataclass(slots=True)
class Delivered:
    """What became of the messages of one request; `refused` are dead letters."""

    published: int = 0
    duplicates: int = 0
    refused: int = 0


@dataclass(slots=True)
class _Group:
    """Messages of one topic. `earliest`: the smallest of their times, ns."""

    topic: str
    difference: Difference
    keys: set[bytes] = field(default_factory=set)
    messages: list[Message] = field(default_factory=list)
    earliest: int = 2**63 - 1


class Delivery:
    """`name` gives the real name of a catalogue topic; `publisher` is started with all that are needed."""

    def __init__(
        self, settings: Settings, codec: Codec, publisher: Publisher, name: Callable[[str], str], epoch: int
    ) -> None:
        self._settings, self._codec, self._publisher = settings, codec, publisher
        self._name, self._epoch = name, epoch
        self._one_at_a_time = asyncio.Lock()
        self._partition_of = DefaultPartitioner()

    async def deliver(self, messages: Iterable[tuple[str, Message]], received_ns: int) -> Delivered:
        """Return once Kafka has acknowledged what the log lacked.

        Raises:
            KafkaError, OSError: the log cannot be read just now; nothing was published.
        """
        async with self._one_at_a_time:  # what one request publishes, the next one finds in the log
            done = Delivered()
            groups, letters = self._grouped(messages, received_ns)
            if groups:
                await self._know(groups)
            for group in groups:
                lacking = group.difference.lacking(received_ns)
                add = self._publisher.adder(group.topic)
                for key, value in lacking.records:
                    add(key, value, received_ns // NS_PER_MS)
                done.published += len(lacking.records)
                done.duplicates += lacking.held
                letters += [_letter(group.topic, r.message, r.error) for r in lacking.refused]
            for letter in letters:
                self._publisher.dead_letter(letter, received_ns // NS_PER_MS)
            done.refused = len(letters)
            await self._publisher.flush()
            return done

    async def dead_letter(self, topic: str, body: bytes, error: RecordError, received_ns: int) -> None:
        """Keep a body that is no message at all; returns once Kafka has it."""
        letter = DeadLetter(topic, -1, -1, None, body, "webhooks", "RecordError", error.reason)
        self._publisher.dead_letter(letter, received_ns // NS_PER_MS)
        await self._publisher.flush()

    async def request(self, topic: str, key: bytes, value: bytes, received_ns: int) -> None:
        """One record; returns once Kafka has it."""
        self._publisher.adder(topic)(key, value, received_ns // NS_PER_MS)
        await self._publisher.flush()

    # -- what the log holds

    def _grouped(
        self, messages: Iterable[tuple[str, Message]], received_ns: int
    ) -> tuple[list[_Group], list[DeadLetter]]:
        encoders: dict[str, Encoder] = {}
        groups: dict[str, _Group] = {}
        letters: list[DeadLetter] = []
        for kind, message in messages:
            encoder = encoders.get(kind)
            if encoder is None:
                encoder = encoders[kind] = encoder_of(kind, self._codec, self._epoch, "webhook")
                encoder.frame(received_ns)
            type_ = message.get("T")
            channel = encoder.channels().get(type_) if isinstance(type_, str) else None
            if channel is None or channel.topic == CRYPTO_ORDERBOOKS:  # a book is one stream's state
                why = RecordError(f"messages of type {type_!r:.60} are not taken by webhooks")
                letters.append(_letter(self._name(encoder.frames), message, why))
                continue
            group = groups.get(channel.topic)
            if group is None:
                difference = _difference(kind, encoder, channel)
                group = groups[channel.topic] = _Group(self._name(channel.topic), difference)
            group.messages.append(message)
            key, ts = message.get("id" if kind == "news" else "S"), message.get(channel.time)
            if isinstance(key, str | int):
                group.keys.add(str(key).encode("utf-8", "replace"))
            if isinstance(ts, int):
                group.earliest = min(group.earliest, ts)
        for group in groups.values():
            group.difference.take(group.messages)
        return list(groups.values()), letters

    async def _know(self, groups: list[_Group]) -> None:
        async with AsyncExitStack() as ending:
            reader = log_tail.reader(kafka.client_arguments(self._settings))
            consumer = await ending.enter_async_context(reader)
            for group in groups:
                spans = await self._spans(consumer, group)
                for records in (await log_tail.read(consumer, spans)).values():
                    for record in records:
                        if record.key in group.keys:
                            self._tell(group, record.value)

    async def _spans(
        self, consumer: AIOKafkaConsumer, group: _Group
    ) -> dict[TopicPartition, tuple[int, int]]:
        partitions = self._publisher.partitions(group.topic)
        numbers = [p.partition for p in partitions]
        mine = {self._partition_of(key, numbers, numbers) for key in group.keys}
        chosen = [p for p in partitions if p.partition in mine]
        ends = await log_tail.ends(consumer, chosen)
        starts: dict[TopicPartition, int] = await consumer.beginning_offsets(chosen)
        since = max(0, group.earliest - LOOK_BACK_NS) // NS_PER_MS
        found = await consumer.offsets_for_times(dict.fromkeys(chosen, since)) if chosen else {}
        return {
            p: (max(starts[p], ends[p] - MOST_BACK, ends[p] if at is None else at.offset), ends[p])
            for p, at in found.items()
        }

    def _tell(self, group: _Group, value: bytes | None) -> None:
        try:
            group.difference.know(self._codec.decode(value)[1])
        except RecordError:  # not ours to judge: whoever reads the topic dead-letters it
            return


def _difference(kind: str, encoder: Encoder, channel: Channel) -> Difference:
    if channel.topic not in (STOCK_BARS, CRYPTO_BARS):
        # Not channel.encode: the topic of corrections has two types of messages.
        return Events(lambda message: encoder.channels()[message["T"]].encode(message))
    content = normalize_crypto.bar if kind == "crypto" else normalize.bar
    (recall,) = (tail.take for tail in encoder.tails() if channel.topic in tail.topics)
    return BarRevisions(channel.encode, content, recall)


def _letter(topic: str, message: Any, error: Exception) -> DeadLetter:
    raw = orjson.dumps(message, default=str, option=orjson.OPT_NON_STR_KEYS)
    symbol = message.get("S")
    key = symbol.encode("utf-8", "replace") if isinstance(symbol, str) else None
    return DeadLetter(topic, -1, -1, key, raw, "webhooks", type(error).__name__, str(error))
