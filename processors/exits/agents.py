"""The table and the agents of exits: records in, each to its partition's fold, in the order of the log."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from faust.exceptions import ConsumerNotStarted
from faust.types import TP

from processors.columns.app import ColumnApp, StillOurs
from processors.columns.continuity import check_delivered
from processors.columns.pacing import Fetch
from processors.columns.results import count
from processors.columns.single import Single, bury, read_singles
from processors.exits import reading, whole
from processors.exits.bulletins import Bulletins
from processors.exits.coordinates import Coordinates
from processors.exits.desk import Desk
from processors.exits.fold import VERSION
from processors.exits.hours import STOCK, AlwaysOpen, NewYork
from processors.exits.publishing import Publisher
from processors.exits.reading import PriceReader
from processors.exits.whole import Whole
from schemas.catalogue import Catalogue
from schemas.codec import Codec, Record
from schemas.exit_rules import watch_key
from tidewire import metrics
from tidewire.clock import NS_PER_DAY, Clock
from tidewire.columns import Block
from tidewire.columns.poison import PoisonLimit
from tidewire.config import Settings
from tidewire.fence import REASON
from tidewire.placing import partition_of

STAGE = "exits"
TABLE = "exits"
_MOST_RECORDS = 1_000
"""Records of a batch: a trigger leaves at the end of the batch in which it fired."""
_WATCHING, _RESTING = Fetch(3, 3), Fetch(100, 100)
"""A price that crosses a stop must not wait for others to come. While there is no stop, nobody is in a
hurry: all prices are read, and asking for each alone would cost a fifth of a core for nothing."""
_EVENTS_SECONDS = 0.001  # between two looks whether the events before a batch of prices are folded


@dataclass(slots=True)
class Input:
    """One input topic and the schema of its records."""

    topic: str
    stem: str
    poison: PoisonLimit = field(init=False)

    def __post_init__(self) -> None:
        self.poison = PoisonLimit(self.topic)


Handler = Callable[[Input, TP, list[Block], StillOurs], Awaitable[None]]


class Exits:
    """Wires the table, its inputs and its outputs into an app."""

    def __init__(
        self, app: ColumnApp, settings: Settings, catalogue: Catalogue, codec: Codec, clock: Clock
    ) -> None:
        self._app, self._catalogue, self._codec, self._clock = app, catalogue, codec, clock
        self._table = app.record_table(TABLE, version=VERSION)
        self._hours = AlwaysOpen() if settings.tidewire_market_hours == "always" else NewYork()
        self._desks: dict[int, Desk] = {}
        self._bulletins = Bulletins(settings, catalogue, codec, STAGE, self._take_bulletin)
        self._publisher = Publisher(app, settings, self._table, catalogue, codec, clock, self._ours)
        self._recovered = 0
        self._hours_of = -1
        app.before_commit.append(self._publisher.flush_events)

    def read_prices(self, topic: str, stem: str) -> None:
        """Fold the trades or quotes of this topic that somebody watches."""
        self._agent(topic, stem, partial(self._prices, PriceReader(self._codec, stem)))

    def read_events(self, topic: str, stem: str) -> None:
        """Fold every record of this topic, before the prices that came with it."""
        self._agent(topic, stem, self._events, first=True)

    def _agent(self, topic: str, stem: str, handler: Handler, *, first: bool = False) -> None:
        one = Input(self._catalogue.name(topic), stem)
        name = "exits-" + stem.replace("_", "-")
        source = self._app.batch_topic(one.topic, _MOST_RECORDS, first=first)
        self._app.batch_agent(source, name, partial(self._timed, handler, one))

    async def follow(self) -> None:
        """Read gaps and connections, and publish again what a former owner of a partition left pending."""
        await self._know_hours()
        try:
            await self._publisher.start()
            await self._bulletins.run(self._greet)
        finally:
            await self._publisher.stop()

    # ---------------------------------------------------------------- batches

    async def _timed(
        self, handler: Handler, one: Input, tp: TP, blocks: list[Block], still_ours: StillOurs
    ) -> None:
        await self._bulletins.known.wait()
        if not still_ours():
            return
        started = time.perf_counter()
        await handler(one, tp, blocks, still_ours)
        metrics.BATCH_SECONDS.labels(STAGE, one.topic).observe(time.perf_counter() - started)
        await asyncio.sleep(0)  # what fired leaves before the next batch

    async def _prices(
        self, read: PriceReader, one: Input, tp: TP, blocks: list[Block], still_ours: StillOurs
    ) -> None:
        """One batch of prices; while nobody watches any symbol of the partition nothing is decoded."""
        if not await self._after_events(tp.partition, still_ours):
            return
        desk = self._desk(tp.partition)
        if not desk.watched:
            self._handled(desk, one, tp, blocks)
            count(STAGE, one.topic, Counter(filtered=sum(block.last + 1 - block.start for block in blocks)))
            return
        ordinary = read.whole(blocks, desk.records.fences[one.topic])
        if ordinary is not None:
            self._fold_whole(desk, one, tp, blocks, ordinary)
            return
        reads = [read(block, desk.watched) for block in blocks]
        singles = [single for found in reads for single in found.singles]
        if not await self._bury(one, tp, singles, still_ours):
            return
        desk = self._desk(tp.partition)
        self._handled(desk, one, tp, blocks)
        results = Counter(filtered=sum(found.skipped for found in reads))
        for found in reads:
            results.update(reading.fold(desk, one.stem, found, tp.topic, tp.partition))
        self._folded(one, results)

    async def _after_events(self, partition: int, still_ours: StillOurs) -> bool:
        """Wait until the rules that came with these prices are folded; whether the prices are still ours.

        Topics have agents of their own, and one with several batches would be overtaken: a trailing stop that
        is read again after an outage must know how high its price has been since it was set.
        """
        places = [TP(topic, partition) for topic in self._app.first_topics]
        while still_ours() and any(map(self._app.consumer.unhandled, places)):  # noqa: ASYNC110 - Faust's state
            await asyncio.sleep(_EVENTS_SECONDS)
        return still_ours()

    def _fold_whole(self, desk: Desk, one: Input, tp: TP, blocks: list[Block], found: Whole) -> None:
        self._handled(desk, one, tp, blocks)
        results = Counter(whole.fold(desk, one.stem, found, tp.topic, tp.partition))
        folded = results.total()
        one.poison.observe(folded, [])
        results["filtered"] += len(found.rows) - folded
        self._folded(one, results)

    async def _events(self, one: Input, tp: TP, blocks: list[Block], still_ours: StillOurs) -> None:
        """One batch of anything else: every record is decoded and folded."""
        found = read_singles(blocks, self._codec, one.stem)
        singles = [self._check(one, tp, single) for single in found]
        judged = [single for single in singles if not _is_tombstone(one, single)]
        if not await self._bury(one, tp, judged, still_ours):
            return
        desk = self._desk(tp.partition)
        self._handled(desk, one, tp, blocks)
        results: Counter[str] = Counter()
        for single in singles:
            at = Coordinates(tp.topic, tp.partition, single.offset)
            if single.record is not None:
                results[self._fold_event(desk, one, single.record, at)] += 1
            elif _is_tombstone(one, single):
                desk.exits.watch(None, at, single.key or b"")
                results["tombstone"] += 1
        desk.look()
        self._folded(one, results)

    def _fold_event(self, desk: Desk, one: Input, record: Record, at: Coordinates) -> str:
        owned = "owner_epoch" in record  # else nobody owns its feed
        if owned and desk.records.fences[one.topic].stale(record, at.offset):
            return REASON
        return _fold(desk, one.stem, record, at)

    def _check(self, one: Input, tp: TP, single: Single) -> Single:
        """The record, or the record refused."""
        record = single.record
        if record is None:
            return single
        wanted = watch_key(record) if one.stem == "exit_watch" else record["symbol"].encode()
        if single.key != wanted:
            return single.refuse(f"its key is not {wanted.decode()}")
        symbol: bytes = record["symbol"].encode()
        if one.stem == "exit_watch" and self._partition(symbol) != tp.partition:
            return single.refuse(f"{record['symbol']} belongs to another partition")
        return single

    async def _bury(self, one: Input, tp: TP, singles: list[Single], still_ours: StillOurs) -> bool:
        """Dead-letter what was refused; whether the batch is still ours."""
        await bury(self._app.output.producer, tp, STAGE, singles, one.poison)
        return still_ours()

    def _handled(self, desk: Desk, one: Input, tp: TP, blocks: list[Block]) -> None:
        expected = desk.records.expected
        check_delivered(tp, expected.get(one.topic), blocks)
        expected[one.topic] = blocks[-1].last + 1

    def _folded(self, one: Input, results: Counter[str]) -> None:
        self._publisher.soon()
        count(STAGE, one.topic, results)

    # ---------------------------------------------------------------- partitions

    def _partition(self, key: bytes) -> int:
        return partition_of(key, self._app.conf.topic_partitions)

    def _desk(self, partition: int) -> Desk:
        records = self._table.part(partition)
        desk = self._desks.get(partition)
        if desk is None or desk.records is not records:
            desk = self._desks[partition] = Desk(partition, records, self._hours)
            self._recovered += desk.recovered
            for stem, record in self._bulletins.board.all():
                desk.bulletin(stem, record)
        return desk

    def _ours(self) -> list[Desk]:
        """The desks whose parts are in use; what a rebalance or a failed commit made void is left out."""
        parts, served = self._table.parts, self._table.served()
        desks = (desk for desk in self._desks.values() if desk.partition in served)
        return [desk for desk in desks if parts.get(desk.partition) is desk.records]

    async def _greet(self) -> None:
        """Open a desk for every partition that is ours, whether or not anything comes for it."""
        if self._app.rebalancing or not self._app.tables.recovery.completed.is_set():
            return
        for partition in self._table.served() & self._assigned():
            self._desk(partition)
        self._publisher.soon()
        await self._know_hours()
        desks = self._ours()
        watched = sum(len(desk.watched) for desk in desks)
        self._app.fetch = _WATCHING if watched else _RESTING
        metrics.EXIT_SYMBOLS_WATCHED.set(watched)
        metrics.EXIT_RULES_ARMED.set(sum(desk.exits.armed() for desk in desks))
        metrics.EXIT_TRIGGERS_PENDING.set(sum(len(desk.unsent) for desk in desks))

    async def _know_hours(self) -> None:
        """Load the calendar of these days beside the event loop: it takes a second; no stop would fire."""
        now = self._clock()
        if now // NS_PER_DAY != self._hours_of:
            for ts in (now, now + 7 * NS_PER_DAY):
                await asyncio.to_thread(self._hours.session, STOCK, ts)
            self._hours_of = now // NS_PER_DAY

    def _assigned(self) -> set[int]:
        try:
            assigned = self._app.consumer.assignment()
        except ConsumerNotStarted:
            return set()
        return {tp.partition for tp in assigned if tp.topic in self._app.batch_topics}

    def _take_bulletin(self, stem: str, record: Record) -> None:
        for desk in self._ours():
            desk.bulletin(stem, record)

    def details(self) -> dict[str, Any]:
        """For /health."""
        desks = self._ours()
        return {
            "watched": sum(len(desk.watched) for desk in desks),
            "pending": sum(len(desk.unsent) for desk in desks),
            "recovered": self._recovered,
            "published": self._publisher.published,
        }


def _is_tombstone(one: Input, single: Single) -> bool:
    return single.value is None and one.stem == "exit_watch"


def _fold(desk: Desk, stem: str, record: Record, at: Coordinates) -> str:
    exits = desk.exits
    if stem == "exit_watch":
        return exits.watch(record, at)
    if stem == "stock_status":
        return exits.status(record, at)
    if stem == "stock_luld":
        return exits.luld(record, at)
    if stem == "corporate_action":
        return exits.corporate_action(record, at)
    return exits.signal(record, at)
