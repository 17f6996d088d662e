"""The audit of news: every minute a page of the history's last hour beside the log."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition

from producers import log_tail
from producers.audit import findings
from producers.audit.articles import Article, Articles, article_of
from producers.audit.board import Gaps
from producers.audit.cases import Case, Judged, Next, concerns, overlaps
from producers.audit.comparison import Look
from producers.audit.event_clock import EventClock
from producers.audit.findings import Place
from producers.audit.minutes import MINUTE, minute_of
from producers.audit.rounds import Write
from producers.audit.scope import DELAY_NS, EVERY
from producers.history.client import History
from producers.history.errors import HistoryError
from schemas import gaps as gap_words
from schemas.catalogue import NEWS, Catalogue
from schemas.codec import Codec
from schemas.gaps import Gap
from tidewire import kafka, log
from tidewire.clock import NS_PER_SECOND, Clock
from tidewire.config import Settings
from tidewire.errors import RecordError
from tidewire.metrics import AUDIT_FAILURES, AUDIT_MINUTES, AUDIT_REPAIRS

FEED = CHANNEL = "news"
HOUR_NS = 3600 * NS_PER_SECOND
EVERY_NS = 60 * NS_PER_SECOND
DOUBT_NS = 5 * NS_PER_SECOND
_FETCH_MS = 500

_log = log.get("audit-news")


class NewsAudit:
    """Reads alpaca.news whole, without the group: one auditor (`mine` says whether it is this) compares."""

    def __init__(
        self,
        settings: Settings,
        codec: Codec,
        partitions: int,
        history: History,
        gaps: Gaps,
        write: Write,
        mine: Callable[[], bool],
        market: Callable[[], int | None],
        clock: Clock,
        owner_epoch: int,
    ) -> None:
        """`market`: the event time of the other feeds, if any is known."""
        self._arguments: dict[str, Any] = kafka.client_arguments(settings)
        name = Catalogue(settings.tidewire_topic_prefix, 1).name(NEWS)
        self._partitions = [TopicPartition(name, number) for number in range(partitions)]
        self._symbols = settings.tidewire_news_symbols
        self._codec, self._history, self._gaps, self._write = codec, history, gaps, write
        self._mine, self._market, self._clock, self._epoch = mine, market, clock, owner_epoch
        self.articles = Articles()
        self.event_clock = EventClock()
        self._positions: dict[TopicPartition, int] = {}
        self._next_ns = 0
        self._cases: dict[int, Case] = {}
        self._done_before: int | None = None
        self._named: set[int] = set()
        """Minutes whose difference is left as it is."""

    async def run(self) -> None:
        """Work until cancelled; Kafka's absence is waited out."""
        while True:
            try:
                async with log_tail.reader(self._arguments) as consumer:
                    await self._follow(consumer)
            except Exception as error:  # whatever it is: the other audits go on
                _log.warning("news are not audited", error=repr(error))
            await asyncio.sleep(2.0)

    async def _follow(self, consumer: AIOKafkaConsumer) -> None:
        consumer.assign(self._partitions)
        await consumer.seek_to_beginning(*self._partitions)
        while True:
            found = await consumer.getmany(*self._partitions, timeout_ms=_FETCH_MS)
            for records in found.values():
                for record in records:
                    self._take(record.value)
            now = self._clock()
            self._positions = {tp: await consumer.position(tp) for tp in self._partitions}
            if found:
                self.event_clock.behind(now)
            elif now >= self._next_ns and self._mine() and self._gaps.current.is_set():
                await self._round()

    def _take(self, value: bytes | None) -> None:
        try:
            stem, content = self._codec.decode(value)
        except RecordError:
            return  # the sink keeps its bytes
        if stem == "news" and content["source"] in ("ws", "rest"):
            self.articles.add(Article(content["provider"], content["id"], content["revision"]))
            self.event_clock.advance(content["revision"], self._clock())

    async def _round(self) -> None:
        times = [t for t in (self.event_clock.time(self._clock()), self._market()) if t is not None]
        if not times or self.articles.first is None:
            return
        end = minute_of(max(times) - DELAY_NS)
        start = max(end - HOUR_NS, minute_of(self.articles.first))
        try:
            history = await self._page(start, end) if start < end else []
        except HistoryError as error:
            _log.warning("no answer about news", reason=str(error))
            AUDIT_FAILURES.labels(FEED).inc()
            self._next_ns = self._clock() + EVERY_NS
            return
        self._compare(history, start, end)
        doubts = any(todo.differed for case in self._cases.values() for todo in case.todo.values())
        due = end + MINUTE + DELAY_NS - max(times)  # as soon as another minute may be compared
        self._next_ns = self._clock() + (DOUBT_NS if doubts else min(due, EVERY_NS))

    async def _page(self, start: int, end: int) -> list[Article]:
        pages = self._history.pages("news", "news", self._symbols, start, end - 1)
        found = [article_of(message) async for page in pages for message in page]
        return [article for article in found if article is not None]

    def _compare(self, history: list[Article], start: int, end: int) -> None:
        now, waiting = self._clock(), self._gaps.waiting(FEED, CHANNEL, self._position)
        for minute, (has, lacks) in self.articles.by_minute(history, start, end).items():
            case = self._cases.get(minute)
            if case is None:
                if minute in self._named:
                    continue
                if not lacks and self._done_before is not None and minute < self._done_before:
                    continue  # compared before, and nothing came since
                case = self._cases[minute] = Case.of(CHANNEL, minute, [EVERY])
            if not case.ready(now, waiting):
                continue
            look = Look(EVERY, not lacks, len(has), len(has) - len(lacks))
            known = [
                g
                for g in self._gaps.known(FEED, CHANNEL)
                if overlaps(g, CHANNEL, minute) and concerns(g, EVERY)
            ]
            self._tell(minute, case.judge(look, now, _always(known)), lacks)
        self._done_before = max(end, self._done_before or 0)
        self._cases = {minute: case for minute, case in self._cases.items() if case.todo and minute >= start}
        self._named = {minute for minute in self._named if minute >= start}

    def _position(self, topic: str, partition: int) -> int | None:
        return self._positions.get(TopicPartition(topic, partition))

    def _tell(self, minute: int, judged: Judged, lacks: list[Article]) -> None:
        now, place = self._clock(), Place(FEED, CHANNEL, minute)
        record = findings.record(place, [judged], now, self._epoch)
        if record is not None:
            self._write(record)
            outcome = "equal" if judged.next is Next.EQUAL else "differing"
            AUDIT_MINUTES.labels(FEED, CHANNEL, outcome).inc()
        if judged.next is Next.NAMED:
            self._named.add(minute)
        if judged.next is Next.REPAIR:
            times = [article.revision for article in lacks]
            for gap in gap_words.opened(
                FEED, CHANNEL, [EVERY], gap_words.AUDIT, min(times), now + minute // MINUTE % 1000,
                until_ts=max(times), owner_epoch=self._epoch, source="rest",
                detail=f"an audit found {len(lacks)} articles that the log lacks",
            ):  # fmt: skip
                self._gaps.put(gap)
                self._write(gap)
                AUDIT_REPAIRS.labels(FEED, CHANNEL).inc()


def _always(known: list[Gap]) -> Callable[[str], list[Gap]]:
    return lambda _: known
