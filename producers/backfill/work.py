"""The work on one gap: ask history, let the log settle, publish what it lacks, close the gap."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
from aiokafka.structs import TopicPartition

from producers import log_tail
from producers.backfill.difference import Lacking, Refused
from producers.backfill.held import HeldLog
from producers.backfill.placing import PlacingPublisher
from producers.backfill.seen import seen_symbols
from producers.backfill.target import Target, target
from producers.channel import Message
from producers.history.client import History
from producers.history.errors import HistoryError
from schemas import gaps
from schemas.catalogue import GAPS
from schemas.codec import Codec
from schemas.gaps import BACKFILLED, CLOSED, EVERY, REQUEST, Gap
from tidewire.clock import NS_PER_DAY, NS_PER_MS, NS_PER_SECOND, Clock
from tidewire.dead_letters import DeadLetter
from tidewire.metrics import BACKFILL_MESSAGES
from tidewire.placing import partition_of

SETTLE_SECONDS = 3.0
"""So long the log of a quiet channel is waited for."""
GROUP_ROWS = 50_000
"""Rows of history that are compared with the log at a time."""
_TURN = 2_000
"""Records after which others get their turn."""
_NAMED = 1_000


class RevokedError(Exception):
    """The gap is another worker's now."""


@dataclass(slots=True)
class _Progress:
    """`found`: rows of history. `dead`: those that were no records.

    What an earlier, broken-off work on the gap has published is counted on.
    """

    found: int = 0
    published: int = 0
    dead: int = 0
    placed: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Means:
    """What the work needs; shared by all gaps of a process. `name` gives a topic's real name."""

    history: History
    publisher: PlacingPublisher
    codec: Codec
    name: Callable[[str], str]
    client_arguments: Mapping[str, Any]
    clock: Clock
    days: float
    settle_seconds: float = SETTLE_SECONDS


async def fill(gap: Gap, means: Means, mine: Callable[[], bool]) -> Gap:
    """Fetch a gap that is over, and close it; returns its last state.

    Not two gaps of one topic at the same time. When it is broken off anywhere, do it again: what was
    published is then held.

    Raises:
        HistoryError: REST does not answer now; it may later.
        KafkaError: the log cannot be read now.
        RevokedError: `mine` said no before something was to be written.
    """
    if (why := _lost(gap, means)) is not None:
        return await _close(gap.lost(means.clock(), why), means, mine)
    try:
        return await _Filling(gap, means, mine).run()
    except HistoryError as error:
        if error.passes:
            raise
        return await _close(gap.lost(means.clock(), f"Alpaca refuses its history: {error}"), means, mine)


def _lost(gap: Gap, means: Means) -> str | None:
    if (why := gaps.why_no_history(gap.feed, gap.channel)) is not None:
        return why
    age = (gap.until_ts or gap.from_ts) - gap.from_ts + max(means.clock() - gap.opened_ts, 0)
    if gap.reason != REQUEST and age > means.days * NS_PER_DAY:
        days = age / 86_400 / NS_PER_SECOND
        return (
            f"it began {days:.1f} days ago and TIDEWIRE_BACKFILL_DAYS is {means.days:g}: "
            "`tidewire backfill` fetches it"
        )
    return None


async def _close(gap: Gap, means: Means, mine: Callable[[], bool]) -> Gap:
    await _write(gap.at(means.clock(), state=CLOSED, source="rest"), means, mine)
    return gap


async def _write(gap: Gap, means: Means, mine: Callable[[], bool]) -> None:
    if not mine():
        raise RevokedError
    topic = means.name(GAPS)
    means.publisher.adder(topic)(gap.key, means.codec.encode("gap", gap.record()), gap.ts // NS_PER_MS)
    await means.publisher.flush()
    means.publisher.placed(topic)  # only of events


class _Filling:
    def __init__(self, gap: Gap, means: Means, mine: Callable[[], bool]) -> None:
        self._gap, self._means, self._mine = gap, means, mine
        self._target: Target = target(gap, means.codec)
        self._topic = means.name(self._target.topic)
        self._progress = _Progress(published=gap.published, placed=list(gap.placed))
        self._compared = 0
        self._asked = 0

    async def run(self) -> Gap:
        means, detail = self._means, []
        means.publisher.placed(self._topic)  # of a work that was broken off
        async with log_tail.reader(means.client_arguments) as consumer:
            symbols: Sequence[str] = self._gap.symbols
            if EVERY in symbols and self._target.by_symbol:
                symbols = await seen_symbols(consumer, self._partitions(()), means.clock())
                detail.append(_naming(symbols))
            every = EVERY in symbols
            held = HeldLog(
                consumer, means.codec, self._target, self._partitions(symbols),
                None if every or not self._target.by_symbol else frozenset(symbols),
            )  # fmt: skip
            if symbols:
                await held.begin(self._gap.opened_ts)
                self._asked = means.clock()
                async for page in self._pages(symbols):
                    await self._take(held, page)
                if self._progress.found > self._compared:
                    await self._compare(held)
        done = self._progress
        if done.dead:
            detail.append(f"{done.dead} rows of history were no records: {self._topic}.dlq")
        closed = self._gap.at(
            means.clock(), state=CLOSED, source="rest", found=done.found, published=done.published,
            placed=tuple(done.placed), detail="; ".join(detail) or self._gap.detail,
        )  # fmt: skip
        await _write(closed, means, self._mine)
        return closed

    def _partitions(self, symbols: Sequence[str]) -> list[TopicPartition]:
        every = self._means.publisher.partitions(self._topic)
        if not symbols or EVERY in symbols or not self._target.by_symbol:
            return every
        numbers = {partition_of(symbol.encode(), len(every)) for symbol in symbols}
        return [p for p in every if p.partition in numbers]

    async def _pages(self, symbols: Sequence[str]) -> AsyncIterator[list[Message]]:
        gap, target = self._gap, self._target
        for part in _parts(symbols):
            pages = self._means.history.pages(gap.feed, gap.channel, part, target.start_ns, target.end_ns)
            async for page in pages:
                yield page

    async def _take(self, held: HeldLog, page: list[Message]) -> None:
        target = self._target
        target.encoder.frame(self._means.clock())
        for start in range(0, len(page), _TURN):
            target.difference.take(page[start : start + _TURN])
            await asyncio.sleep(0)
        self._progress.found += len(page)
        if self._progress.found - self._compared >= GROUP_ROWS:
            await self._compare(held)
            self._asked = self._means.clock()

    async def _compare(self, held: HeldLog) -> None:
        await held.settle(self._means.clock(), self._means.settle_seconds)
        lacking = self._target.difference.lacking(self._asked)
        self._compared = self._progress.found
        if lacking.records or lacking.refused:
            if not self._mine():
                raise RevokedError
            await self._publish(lacking)
        self._count(lacking)
        if lacking.records:
            done = self._progress
            await _write(
                self._gap.at(
                    self._means.clock(), state=BACKFILLED, source="rest", found=done.found,
                    published=done.published, placed=tuple(done.placed),
                ),
                self._means,
                self._mine,
            )  # fmt: skip

    async def _publish(self, lacking: Lacking) -> None:
        publisher, timestamp = self._means.publisher, self._means.clock() // NS_PER_MS
        add = publisher.adder(self._topic)
        for number, (key, value) in enumerate(lacking.records):
            add(key, value, timestamp)
            if number % _TURN == _TURN - 1:
                await publisher.room()
                await asyncio.sleep(0)
        for refused in lacking.refused:
            publisher.dead_letter(self._letter(refused), timestamp)
        await publisher.flush()
        self._progress.placed += publisher.placed(self._topic)
        self._progress.published += len(lacking.records)
        self._progress.dead += len(lacking.refused)

    def _letter(self, refused: Refused) -> DeadLetter:
        message, error = refused.message, refused.error
        symbol = message.get("S")
        key = symbol.encode("utf-8", "surrogateescape") if type(symbol) is str else None
        value = orjson.dumps(message, default=str, option=orjson.OPT_NON_STR_KEYS)
        return DeadLetter(
            self._topic, -1, -1, key, value, "backfill", type(error).__name__, str(error), self._gap.channel
        )

    def _count(self, lacking: Lacking) -> None:
        channel = self._gap.channel
        BACKFILL_MESSAGES.labels(channel, "held").inc(lacking.held)
        BACKFILL_MESSAGES.labels(channel, "published").inc(len(lacking.records))
        BACKFILL_MESSAGES.labels(channel, "dead_lettered").inc(len(lacking.refused))


def _parts(symbols: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(symbols), gaps.MOST_SYMBOLS):
        yield symbols[start : start + gaps.MOST_SYMBOLS]


def _naming(symbols: Sequence[str]) -> str:
    if not symbols:
        return "no symbol was seen in the topic within a day: nothing could be asked for"
    shown = ", ".join(symbols[:_NAMED])
    more = f" and {len(symbols) - _NAMED} more" if len(symbols) > _NAMED else ""
    return f"the {len(symbols)} symbols seen within a day: {shown}{more}"
