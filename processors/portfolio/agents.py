"""The portfolio's table and agents: records decoded, folded by the book, what it announces sent at once."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

from faust.types import TP

from processors.columns.app import ColumnApp, StillOurs
from processors.columns.continuity import check_delivered, check_same_topic
from processors.columns.output import Sent
from processors.columns.records import Records
from processors.columns.results import count
from processors.columns.single import Single, bury, read_singles
from processors.portfolio import refusals, telling
from processors.portfolio.announced import Announced
from processors.portfolio.book import Book
from processors.portfolio.exact import exact
from processors.portfolio.holding import Holding
from processors.portfolio.readout import account_record, position_record
from schemas.catalogue import (
    ACCOUNT_SNAPSHOTS,
    ACTIVITIES,
    PORTFOLIO_ACCOUNTS,
    PORTFOLIO_MARKS,
    PORTFOLIO_ORDERS,
    PORTFOLIO_POSITIONS,
    TRADE_UPDATES,
    Catalogue,
)
from schemas.codec import Codec, Record
from tidewire import metrics
from tidewire.clock import Clock
from tidewire.columns import Block
from tidewire.columns.poison import PoisonLimit
from tidewire.placing import partition_of

STAGE = "portfolio"
TABLE = "portfolio"
VERSION = 1
_MOST_MARKED = 500  # positions whose price alone moved, sent at once; small parts would each wait for Kafka
_AT_ONCE = 25  # of them, made into records in one go: about a millisecond or two
_PAUSE_SECONDS = 0.002  # then order events may pass: each passes the event loop a dozen times on its way
_MOST_UNSENT = 2_000  # order records of a partition; with more the agents wait

Pair = tuple[bytes, bytes | None]


@dataclass(slots=True)
class Input:
    """One input topic: how its records are refused and folded. `kind` names its offsets in the book."""

    topic: str
    stem: str
    kind: str
    key_field: str
    refuse: Callable[[Record], str | None]
    fold: Callable[[Book, Record, int], str]
    poison: PoisonLimit


class Portfolio:
    """Wires the table, its inputs and its outputs into an app."""

    def __init__(self, app: ColumnApp, catalogue: Catalogue, codec: Codec, clock: Clock) -> None:
        self._app, self._codec, self._clock = app, codec, clock
        self._name = catalogue.name
        self._table = app.record_table(TABLE, version=VERSION)
        self._books: WeakKeyDictionary[Records, Book] = WeakKeyDictionary()
        self._sending: defaultdict[int, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._busy: set[int] = set()  # partitions that are being sent
        self._marking = asyncio.Lock()  # one of them makes its records: all at once they would fill each turn
        self.changed: Callable[[int, Iterable[Holding]], None] | None = None
        """Is told, by partition, which holdings order events and snapshots have changed."""
        self._encode = {
            stem: codec.encoder(stem)
            for stem in ("portfolio_order", "portfolio_position", "portfolio_account")
        }
        app.before_commit.append(self._send_totals)
        for one in self._inputs():
            name = "fold-" + one.topic.rsplit(".", 1)[-1]
            app.batch_agent(app.batch_topic(one.topic, max_records=2_000), name, partial(self._handle, one))

    def holdings(self, partition: int) -> list[Holding]:
        """Every holding of a partition's accounts that have been opened."""
        return self._book(partition).opened()

    def _inputs(self) -> Iterator[Input]:
        updates, snapshots = self._name(TRADE_UPDATES), self._name(ACCOUNT_SNAPSHOTS)
        marks, activities = self._name(PORTFOLIO_MARKS), self._name(ACTIVITIES)
        limits = {topic: PoisonLimit(topic) for topic in (updates, snapshots, marks, activities)}
        yield Input(
            updates,
            "trade_update",
            "update",
            "account",
            refusals.of_update,
            Book.fold_update,
            limits[updates],
        )
        yield Input(
            snapshots,
            "account_snapshot",
            "snapshot",
            "account",
            refusals.of_snapshot,
            telling.fold_snapshot,
            limits[snapshots],
        )
        yield Input(marks, "mark", "mark", "symbol", refusals.of_mark, Book.fold_mark, limits[marks])
        yield Input(
            activities,
            "account_activity",
            "activity",
            "account",
            refusals.of_activity,
            telling.fold_activity,
            limits[activities],
        )

    # ---------------------------------------------------------------- in

    async def _handle(self, one: Input, tp: TP, blocks: list[Block], still_ours: StillOurs) -> None:
        """One batch of one partition: refused records away, the others folded, what changed sent."""
        started = time.perf_counter()
        singles = [self._check(one, tp, s) for s in read_singles(blocks, self._codec, one.stem)]
        await bury(self._app.output.producer, tp, STAGE, singles, one.poison)
        if not still_ours():
            return
        book = self._book(tp.partition)
        self._check_order(book, one, tp, blocks)
        book.records.expected[one.topic] = blocks[-1].last + 1
        results = Counter(one.fold(book, s.record, s.offset) for s in singles if s.record is not None)
        if self.changed is not None and one.kind != "mark":
            held = list(book.announced.holdings.values())
            if one.kind == "snapshot":  # what it says again matters too: the broker still holds that much
                held = book.opened({s.record["account"] for s in singles if s.record is not None})
            self.changed(tp.partition, held)
        if len(book.announced.orders) > _MOST_UNSENT:
            await self._send(tp.partition, book)
        else:
            self._send_soon(tp.partition, book)
        self._count(one, singles, results)
        metrics.BATCH_SECONDS.labels(STAGE, one.topic).observe(time.perf_counter() - started)

    def _check(self, one: Input, tp: TP, single: Single) -> Single:
        """The record, or the record refused."""
        record = single.record
        if record is None:
            return single
        if single.key != record[one.key_field].encode():
            return single.refuse(f"its key is not its {one.key_field}")
        if one.key_field == "account" and self._partition(single.key) != tp.partition:
            return single.refuse(f"account {record['account']} belongs to another partition")
        reason = one.refuse(record)
        return single if reason is None else single.refuse(reason)

    def _partition(self, key: bytes | None) -> int:
        return partition_of(key or b"", self._app.conf.topic_partitions)

    def _book(self, partition: int) -> Book:
        records = self._table.part(partition)
        book = self._books.get(records)
        if book is None:
            book = self._books[records] = Book(records)
        return book

    def _check_order(self, book: Book, one: Input, tp: TP, blocks: list[Block]) -> None:
        expected = book.records.expected.get(one.topic)
        check_delivered(tp, expected, blocks)
        if expected is None:
            end, changelog = self._app.consumer.highwater(tp), self._table.changelog_topic_name
            check_same_topic(tp, book.folded[one.kind], end, changelog)

    def _count(self, one: Input, singles: list[Single], results: Counter[str]) -> None:
        count(STAGE, one.topic, results)
        metrics.BATCH_RECORDS.labels(STAGE, one.topic).observe(len(singles))
        if one.kind != "mark":
            books = [self._books[part] for part in self._table.parts.values() if part in self._books]
            metrics.PORTFOLIO_FILLS_WAITING.set(sum(book.waiting() for book in books))
            metrics.PORTFOLIO_POSITIONS_DIFFERING.set(sum(book.differing() for book in books))
            metrics.PORTFOLIO_POSITIONS_UNEXPLAINED.set(sum(book.unexplained() for book in books))

    # ---------------------------------------------------------------- out

    def _send_soon(self, partition: int, book: Book) -> None:
        """Send beside the agents: at once what orders have changed, the rest when Kafka has what went before.

        An agent that waited for Kafka would let the batches behind it wait, those of other topics too. A
        commit sends first what is not sent yet, so nothing counts as done before it went out.
        """
        if book.announced.urgent:
            self._app.add_future(self._send_now(partition, book))
        elif partition not in self._busy:
            self._busy.add(partition)
            self._app.add_future(self._send_while_any(partition, book))

    async def _send_now(self, partition: int, book: Book) -> None:
        try:
            await self._send(partition, book)
        except Exception as error:
            await self._app.crash(error)
            raise
        if book.announced:
            self._send_soon(partition, book)

    async def _send_while_any(self, partition: int, book: Book) -> None:
        try:
            while book.announced:
                # Marks that come while Kafka is slow replace each other here, and are in no order's way.
                async with self._marking:
                    sent = await self._send(partition, book)
                for batch in sent:
                    await batch.answer
        except Exception as error:
            await self._app.crash(error)
            raise
        finally:
            self._busy.discard(partition)

    async def _send(self, partition: int, book: Book) -> list[Sent]:
        # Rendered only when it is this batch's turn: the last record of a key is its newest state.
        async with self._sending[partition]:
            if self._table.parts.get(partition) is not book.records:
                book.take_announced()
                return []  # given away in a rebalance: its new owner announces what it loads
            announced = book.take_announced(0 if book.announced.urgent else _MOST_MARKED)
            with exact():
                outputs = dict(self._render(announced))
            outputs[PORTFOLIO_POSITIONS] += await self._render_marked(book, announced.marked.values())
            if self._table.parts.get(partition) is not book.records:
                return []  # meanwhile
            sent = await asyncio.gather(
                *(self._queue(topic, partition, pairs) for topic, pairs in outputs.items() if pairs)
            )
            if announced.received_ts:
                metrics.PORTFOLIO_LATENCY.observe(max(0, self._clock() - announced.received_ts) / 1e9)
            return [batch for batches in sent for batch in batches]

    async def _queue(self, topic: str, partition: int, pairs: list[Pair]) -> list[Sent]:
        return await self._app.output.write(self._name(topic), partition, pairs)

    async def _send_totals(self) -> None:
        for partition, records in list(self._table.parts.items()):
            book = self._books.get(records)
            if book is not None:
                book.announce_totals()
                while book.announced and self._table.parts.get(partition) is records:
                    await self._send(partition, book)

    async def _render_marked(self, book: Book, holdings: Iterable[Holding]) -> list[Pair]:
        """Those whose price alone moved, a few at a time; the rest wait for an order event that has come."""
        marked, pairs = list(holdings), list[Pair]()
        while marked:
            some, marked = marked[:_AT_ONCE], marked[_AT_ONCE:]
            with exact():
                pairs += self._positions(map(position_record, some))
            if marked:
                await asyncio.sleep(_PAUSE_SECONDS)
            if book.announced.urgent:
                book.put_back(marked)
                break
        return pairs

    def _render(self, announced: Announced) -> Iterator[tuple[str, list[Pair]]]:
        orders = [(f"{o['account']}:{o['order_id']}", o) for o in announced.orders]
        yield PORTFOLIO_ORDERS, self._pairs("portfolio_order", orders)
        changed = [*announced.steps, *map(position_record, announced.holdings.values())]
        yield PORTFOLIO_POSITIONS, self._positions(changed)
        accounts = [(name, account_record(account)) for name, account in announced.accounts.items()]
        yield PORTFOLIO_ACCOUNTS, self._pairs("portfolio_account", accounts)

    def _positions(self, records: Iterable[dict[str, Any]]) -> list[Pair]:
        return self._pairs("portfolio_position", ((f"{p['account']}:{p['symbol']}", p) for p in records))

    def _pairs(self, stem: str, records: Iterable[tuple[str, dict[str, Any] | None]]) -> list[Pair]:
        encode = self._encode[stem]
        return [(key.encode(), None if record is None else encode(record)) for key, record in records]
