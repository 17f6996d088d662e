"""All dead letters of a cluster: where each record stood, at which stage it was given up, and why."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from schemas import admin
from schemas.catalogue import SIMULATOR_TICKS
from tidewire.config import Settings
from tidewire.dead_letters import SUFFIX
from verify import database
from verify.content import CRYPTO_VENUE, NEWS_VENUE, OPTIONS_VENUE, STOCKS_VENUE
from verify.messages import from_bytes
from verify.topic import consumer, ends, whole

INPUT = SIMULATOR_TICKS
"""Broken lines of input files, dead-lettered before they were ever sent."""
_TICK_FILE = re.compile(r"_(trade|quote)_tick\.csv")
_TABLE_STAGE = "processor"


@dataclass(frozen=True, slots=True)
class Letter:
    """One dead letter. `topic` is without the prefix; `partition` is -1 for what never was in a topic."""

    topic: str
    partition: int
    offset: int
    stage: str
    error: str
    reason: str
    channel: str
    value: bytes

    @property
    def venue(self) -> str:
        """The stream of Alpaca that the letter's topic belongs to."""
        if self.topic.startswith("alpaca.crypto."):
            return CRYPTO_VENUE
        if self.topic.startswith("alpaca.options."):
            return OPTIONS_VENUE
        return NEWS_VENUE if self.topic.startswith("alpaca.news") else STOCKS_VENUE

    def messages(self) -> list[object]:
        """The Alpaca messages in its bytes; none in a Kafka record or an input line."""
        return from_bytes(self.value) if self.partition < 0 and self.topic != INPUT else []

    def as_json(self) -> dict[str, object]:
        """For the report, without the bytes."""
        return {
            "topic": self.topic, "partition": self.partition, "offset": self.offset,
            "stage": self.stage, "error": self.error, "reason": self.reason, "channel": self.channel,
        }  # fmt: skip


async def read(settings: Settings) -> list[Letter]:
    """Every dead letter once, though a restarted service may have written it twice.

    The sink's own count from the moment that they are in PostgreSQL.

    Raises:
        UnreachableError: Kafka or PostgreSQL does not answer.
    """
    prefix = settings.tidewire_topic_prefix
    async with admin.connect(settings) as cluster:
        names = [t for t in await cluster.names() if t.startswith(prefix) and t.endswith(SUFFIX)]
    stops = await ends(settings, names)
    letters = {_identity(x, 0, 0): x for x in _outbox(settings)}
    async with consumer(settings) as client:
        async for tp, records in whole(client, {tp: end for s in stops.values() for tp, end in s.items()}):
            for record in records:
                letter = _letter(tp.topic.removeprefix(prefix), prefix, record)
                letters.setdefault(_identity(letter, tp.partition, record.offset), letter)
    return list(letters.values())


def _outbox(settings: Settings) -> list[Letter]:
    prefix = settings.tidewire_topic_prefix
    with database.connect(settings) as connection:
        return [
            Letter(topic.removeprefix(prefix), partition, offset, stage, error, reason, "", b"")
            for topic, partition, offset, stage, error, reason in database.unpublished_letters(connection)
        ]


def _identity(letter: Letter, partition: int, offset: int) -> tuple[object, ...]:
    if letter.partition >= 0:
        return letter.topic, letter.partition, letter.offset, letter.stage
    return letter.topic, "letter", partition, offset


def _letter(dlq: str, prefix: str, record: object) -> Letter:
    headers = {k: v.decode("utf-8", "replace") for k, v in getattr(record, "headers", ()) if v is not None}
    topic = headers.get("topic", "").removeprefix(prefix) or dlq.removesuffix(SUFFIX)
    return Letter(
        topic=topic,
        partition=_whole_number(headers.get("partition")),
        offset=_whole_number(headers.get("offset")),
        stage=headers.get("stage", ""),
        error=headers.get("error", ""),
        reason=headers.get("reason", ""),
        channel=headers.get("channel") or _channel_of_line(topic, headers.get("reason", "")),
        value=getattr(record, "value", None) or b"",
    )


def _channel_of_line(topic: str, reason: str) -> str:
    """The channel of a broken input line, by the name of its file."""
    kind = _TICK_FILE.search(reason) if topic == INPUT else None
    return f"{kind[1]}s" if kind else ""


def _whole_number(text: str | None) -> int:
    return int(text) if text and text.lstrip("-").isdigit() else -1


@dataclass(frozen=True, slots=True)
class GivenUp:
    """The dead letters of one channel by what they account for."""

    by_table: frozenset[tuple[int, int]] = frozenset()
    by_sink: frozenset[tuple[int, int]] = frozenset()
    other: int = 0


def of_channel(letters: Iterable[Letter], topic: str, channel: str) -> GivenUp:
    """What the letters say of one topic: places given up by table or sink, and letters without one."""
    table: set[tuple[int, int]] = set()
    sink: set[tuple[int, int]] = set()
    other = 0
    for letter in letters:
        place = (letter.partition, letter.offset)
        if letter.topic == topic and letter.partition >= 0:
            (table if letter.stage == _TABLE_STAGE else sink).add(place)
        elif letter.topic == topic or letter.channel == channel:
            other += 1
    return GivenUp(frozenset(table), frozenset(sink), other)


def without_channel(letters: Iterable[Letter], topics: Iterable[str], channels: Iterable[str]) -> int:
    """Letters that belong to no channel: whole frames, messages of unknown types, feature records."""
    known_topics, known_channels = set(topics), set(channels)
    return sum(1 for x in letters if x.topic not in known_topics and x.channel not in known_channels)
