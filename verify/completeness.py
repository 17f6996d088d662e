"""What alpaca.gaps and alpaca.audits say: read whole, and waited for while gaps are being fetched."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from schemas.catalogue import AUDITS, GAPS
from schemas.codec import Codec
from schemas.gaps import Board, Gap, kind_of
from tidewire.config import Settings
from tidewire.errors import RecordError
from verify.content import ALL_BARS, Channel
from verify.coverage import Audit
from verify.topic import consumer, ends, whole

_POLL = 0.5


@dataclass(frozen=True, slots=True)
class Completeness:
    """The newest state of every gap, and all comparisons with Alpaca's history."""

    board: Board = field(default_factory=Board)
    audits: list[Audit] = field(default_factory=list)
    unreadable: int = 0

    def gaps_of(self, kind: str, channels: Iterable[str]) -> list[Gap]:
        """Every gap of these channels (as Alpaca names them) of a kind of feed."""
        names = set(channels)
        found = [*self.board.open(), *self.board.closed()]
        return [gap for gap in found if gap.channel in names and kind_of(gap.feed) == kind]

    def audits_of(self, kind: str, channel: str) -> list[Audit]:
        """Every comparison of a channel."""
        return [a for a in self.audits if a["channel"] == channel and kind_of(a["feed"]) == kind]

    @property
    def fetchable(self) -> list[Gap]:
        """Open gaps whose end is known: they are being fetched, or wait for it."""
        return [gap for gap in self.board.open() if not gap.lasts]

    @property
    def lasting(self) -> list[Gap]:
        """Gaps that are not over yet."""
        return [gap for gap in self.board.open() if gap.lasts]


def channel_name(channel: Channel) -> str:
    """Alpaca's name of a channel, without what the report puts before it."""
    return channel.name.removeprefix("crypto_").removeprefix("option_")


def channel_names(channel: Channel) -> tuple[str, ...]:
    """All of Alpaca's channels whose events the topic of this one holds."""
    return ("bars", "updatedBars", "dailyBars") if channel in ALL_BARS else (channel_name(channel),)


async def read(settings: Settings, codec: Codec) -> Completeness:
    """Both topics to the ends that they have now; empty where they do not exist.

    Raises:
        UnreachableError: Kafka does not answer.
    """
    board, audits, unreadable = Board(), list[Audit](), 0
    prefix = settings.tidewire_topic_prefix
    stops = await ends(settings, [prefix + GAPS, prefix + AUDITS])
    until = {tp: end for found in stops.values() for tp, end in found.items()}
    async with consumer(settings) as client:
        async for _, records in whole(client, until):
            for record in records:
                content = _content(codec, record)
                if content is None:
                    unreadable += 1
                elif "audited_ts" in content:
                    audits.append(content)
                else:
                    board.put(Gap.of(content))
    return Completeness(board, audits, unreadable)


def _content(codec: Codec, record: Any) -> dict[str, Any] | None:
    try:
        stem, content = codec.decode(record.value)
    except RecordError:
        return None
    return content if stem in ("gap", "audit") else None


async def settled(settings: Settings, codec: Codec, seconds: float) -> Completeness:
    """The same once no gap is being fetched, or when none moved for `seconds`."""
    before: list[tuple[str, int]] | None = None
    deadline = time.monotonic() + seconds
    while True:
        found = await read(settings, codec)
        states = sorted((gap.id, gap.ts) for gap in found.fetchable)
        if not states or time.monotonic() > deadline:
            return found
        if states != before:
            before, deadline = states, time.monotonic() + seconds
        await asyncio.sleep(_POLL)
