"""The placing of exits inside the portfolio service: rules and results in, watches out.

A watch is sent as soon as something leads to it. Its row is written to the changelog only after Kafka has
acknowledged the watch, and the offsets of what led to it after both: so after a crash a watch may be written
twice, but none is left out.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from faust.types import TP

from processors.columns.app import ColumnApp, StillOurs
from processors.columns.continuity import check_delivered, check_same_topic
from processors.columns.output import Sent
from processors.columns.results import count
from processors.columns.single import Single, bury, read_singles
from processors.placing import refusals
from processors.placing.attempts import nothing_to_do
from processors.placing.desk import APPLIED, Change, Desk, Policies
from processors.placing.interruptions import Interruptions
from processors.placing.position import Cause, of_holding
from processors.portfolio.exact import exact
from processors.portfolio.holding import Holding
from schemas.catalogue import EXIT_RULES, EXIT_WATCH, GAPS, ORDER_RESULTS, Catalogue
from schemas.codec import Codec, Record
from schemas.exit_rules import PERMANENT
from tidewire import log, metrics
from tidewire.accounts import Account
from tidewire.columns import Block
from tidewire.columns.poison import PoisonLimit
from tidewire.config import Settings
from tidewire.placing import partition_of

STAGE = "placing"
TABLE = "placing"
VERSION = 1
INPUTS = (EXIT_RULES, ORDER_RESULTS)
OUTPUTS = (EXIT_WATCH,)
OTHERS = (GAPS,)

_log = log.get(__name__)


class Portfolio(Protocol):
    """Where positions come from."""

    def holdings(self, partition: int) -> Iterable[Holding]:
        """Every holding of a partition's accounts, those of accounts without an opening balance left out."""
        ...


@dataclass(frozen=True, slots=True)
class _Input:
    topic: str
    stem: str
    refuse: Callable[[Mapping[str, Any], bytes | None], str | None]
    fold: Callable[[Desk, Record, int], str]
    poison: PoisonLimit


class Placing:
    """Wires the table, its inputs and its output into the portfolio's app."""

    def __init__(
        self,
        app: ColumnApp,
        settings: Settings,
        catalogue: Catalogue,
        codec: Codec,
        accounts: Iterable[Account],
        portfolio: Portfolio,
    ) -> None:
        self._app, self._codec, self._portfolio = app, codec, portfolio
        self._watches = catalogue.name(EXIT_WATCH)
        self._policies = policies_of(accounts)
        self._encode = codec.encoder("exit_watch")
        self._table = app.record_table(TABLE, version=VERSION)
        self._table.before_write.append(self._acknowledged)
        self._queued: list[Sent] = []
        self._desks: dict[int, Desk] = {}
        self._counted = False
        self._sending: defaultdict[int, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._busy: set[int] = set()
        self._gaps = Interruptions(settings, catalogue.name(GAPS), codec, STAGE)
        self._unreconciled: dict[str, Cause] = {}
        app.before_commit.append(self._send_all)
        app.task(self._follow_gaps)
        for one in self._inputs(catalogue):
            name = "place-" + one.topic.rsplit(".", 1)[-1]
            app.batch_agent(app.batch_topic(one.topic, max_records=2_000), name, partial(self._handle, one))

    def _inputs(self, catalogue: Catalogue) -> Iterator[_Input]:
        rules, results = catalogue.name(EXIT_RULES), catalogue.name(ORDER_RESULTS)
        yield _Input(rules, "exit_rule", refusals.of_rule, Desk.fold_rule, PoisonLimit(rules))
        yield _Input(results, "order_result", refusals.of_result, _fold_result, PoisonLimit(results))

    # ---------------------------------------------------------------- in

    def positions(self, partition: int, held: Iterable[Holding]) -> None:
        """Holdings that have changed; called with each batch that the portfolio has folded."""
        desk = self._desk(partition)
        with exact():
            for one in held:
                desk.position(of_holding(one))
        self._send_soon(partition, desk)

    async def _handle(self, one: _Input, tp: TP, blocks: list[Block], still_ours: StillOurs) -> None:
        started = time.perf_counter()
        singles = [self._check(one, tp, s) for s in read_singles(blocks, self._codec, one.stem)]
        await bury(self._app.output.producer, tp, STAGE, singles, one.poison)
        if not still_ours():
            return
        desk = self._desk(tp.partition)
        self._check_order(desk, one, tp, blocks)
        desk.shelf.records.expected[one.topic] = blocks[-1].last + 1
        results = Counter(one.fold(desk, s.record, s.offset) for s in singles if s.record is not None)
        self._send_soon(tp.partition, desk)
        count(STAGE, one.topic, results)
        metrics.BATCH_RECORDS.labels(STAGE, one.topic).observe(len(singles))
        metrics.BATCH_SECONDS.labels(STAGE, one.topic).observe(time.perf_counter() - started)

    def _check(self, one: _Input, tp: TP, single: Single) -> Single:
        record = single.record
        if record is None:
            return single
        if partition_of(record["account"].encode(), self._app.conf.topic_partitions) != tp.partition:
            return single.refuse(f"account {record['account']} belongs to another partition")
        reason = one.refuse(record, single.key)
        return single if reason is None else single.refuse(reason)

    def _desk(self, partition: int) -> Desk:
        records = self._table.part(partition)
        desk = self._desks.get(partition)
        if desk is None or desk.shelf.records is not records:
            desk = self._desks[partition] = Desk(records, self._policies)
            desk.unreconciled(self._unreconciled)
            with exact():  # what a crash kept from our table, and what was there before there was one
                for held in self._portfolio.holdings(partition):
                    desk.position(of_holding(held))
        return desk

    def _check_order(self, desk: Desk, one: _Input, tp: TP, blocks: list[Block]) -> None:
        expected = desk.shelf.records.expected.get(one.topic)
        check_delivered(tp, expected, blocks)
        if expected is None and one.stem == "exit_rule":
            end, changelog = self._app.consumer.highwater(tp), self._table.changelog_topic_name
            check_same_topic(tp, desk.shelf.next_rule, end, changelog)

    async def _follow_gaps(self) -> None:
        await self._gaps.run(self._look_around)

    async def _look_around(self) -> None:
        """Now and then: what the gaps say, and partitions that have become ours and saw no record yet."""
        app = self._app
        if app.rebalancing or not app.tables.recovery.completed.is_set():
            return
        turned = self._gaps.unreconciled.turned()
        if turned:
            self._unreconciled = self._gaps.unreconciled.accounts()
        for partition in self._table.served():
            desk = self._desk(partition)
            if turned:
                desk.unreconciled(self._unreconciled)
            self._send_soon(partition, desk)
        if not self._counted:
            self._counted = True
            counts = [self._desk(partition).counts() for partition in self._table.served()]
            metrics.EXIT_WATCHES.labels("active").set(sum(active for active, _ in counts))
            metrics.EXIT_WATCHES.labels("held").set(sum(held for _, held in counts))

    # ---------------------------------------------------------------- out

    def _send_soon(self, partition: int, desk: Desk) -> None:
        """Send beside the agents; while the gaps are not known nobody can say what is held."""
        if desk and self._gaps.known.is_set() and partition not in self._busy:
            self._busy.add(partition)
            self._app.add_future(self._send_while_any(partition, desk))

    async def _send_while_any(self, partition: int, desk: Desk) -> None:
        try:
            while desk:
                await self._send(partition, desk)
        except Exception as error:
            await self._app.crash(error)
            raise
        finally:
            self._busy.discard(partition)

    async def _send(self, partition: int, desk: Desk) -> None:
        async with self._sending[partition]:
            changes = desk.take()
            if self._table.parts.get(partition) is not desk.shelf.records:
                return  # given away in a rebalance: its new owner looks at everything
            try:
                for number, pairs in self._lanes(changes).items():
                    sent = await self._app.output.write(self._watches, number, pairs)
                    self._queued += sent  # only now: another task may have taken the list during the await
            except BaseException:
                desk.again(changes)
                raise
            desk.written(changes)
            self._counted = False

    async def _acknowledged(self) -> None:
        """Wait for Kafka's answer to every watch sent so far; what `settle` waits for may be another's.

        Raises:
            KafkaError: a watch did not arrive; its row must not be written.
        """
        queued, self._queued = self._queued, []
        if queued:
            await asyncio.wait([sent.answer for sent in queued])
        for sent in queued:
            sent.answer.result()

    def _lanes(self, changes: Iterable[Change]) -> Mapping[int, list[tuple[bytes, bytes | None]]]:
        lanes: defaultdict[int, list[tuple[bytes, bytes | None]]] = defaultdict(list)
        for change in changes:
            number = partition_of(change.symbol.encode(), self._app.conf.topic_partitions)
            lanes[number].append((change.key, None if change.tombstone else self._encode(change.watch)))
            metrics.EXIT_WATCHES_WRITTEN.inc()
        return lanes

    async def _send_all(self) -> None:
        if self._gaps.known.is_set():
            for partition, records in list(self._table.parts.items()):
                desk = self._desks.get(partition)
                while desk and desk.shelf.records is records is self._table.parts.get(partition):
                    await self._send(partition, desk)


def policies_of(accounts: Iterable[Account]) -> Policies:
    """The default exits by account and asset class."""
    found: defaultdict[tuple[str, str], list[Any]] = defaultdict(list)
    for account in accounts:
        for asset_class, name, spec in account.exits:
            found[account.name, asset_class].append((name, spec))
    return {key: tuple(rules) for key, rules in found.items()}


def _fold_result(desk: Desk, result: Record, _: int) -> str:
    folded = desk.fold_result(result)
    if folded == APPLIED:
        closed = nothing_to_do(result)
        permanent = result["reason"].startswith(PERMANENT)
        kind = (
            "closed"
            if closed
            else "stopped"
            if permanent
            else "partly"
            if result["filled_quantity"]
            else "vain"
        )
        metrics.EXIT_ATTEMPTS.labels(kind).inc()
        tell = _log.error if kind == "stopped" else _log.warning if kind == "vain" else _log.info
        tell(
            "an exit cannot be made: set one of its rules anew once the cause is gone"
            if kind == "stopped"
            else "an exit has ended",
            account=result["account"],
            symbol=result["symbol"],
            outcome=result["outcome"],
            reason=result["reason"],
        )
    return folded
