"""The `features` table of stocks: trades and quotes in columns -> rows by symbol -> features.stocks.

One table, keyed by symbol, with two components that never read each other's words; so it does not matter in
which order the two topics are read, and each skips by its own offset what it has folded before. A symbol
whose records are only repeats is sent again: the send may be what the crash before the repeat prevented.
Which states are sent besides the newest one is a matter of event time alone: see features/conflation.py.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import polars as pl
from faust.types import TP

from processors.columns.app import ColumnApp, StillOurs
from processors.columns.continuity import check_delivered, check_same_topic
from processors.columns.matrix import Ints, Matrix
from processors.columns.output import Output
from processors.columns.sound import Refusals, bury_refused, sound
from processors.columns.table import ColumnTable
from processors.features import quotes, row, trades, vector
from processors.features.encoding import FeatureEncoder
from processors.features.folded import Folded
from processors.features.native.folding import NativeFold, native_quotes, native_trades
from processors.features.sending import FeatureSender
from schemas.catalogue import STOCK_FEATURES, STOCK_QUOTES, STOCK_TRADES, Catalogue
from schemas.codec import Codec
from tidewire import metrics
from tidewire.clock import Clock
from tidewire.columns import Block, Decoder
from tidewire.columns.owned import owned
from tidewire.columns.poison import PoisonLimit
from tidewire.fence import REASON
from tidewire.placing import partition_of

STAGE = "processor"
_FAR_BEHIND = 20_000  # records of a partition


@dataclass(slots=True)
class Component:
    """One input topic of the table: how its records are decoded, refused and folded."""

    topic: str
    decode: Decoder
    refusals: Refusals
    fold: Callable[[Matrix, pl.DataFrame, Ints], Folded]
    fold_natively: NativeFold | None
    next_word: int
    poison: PoisonLimit


@dataclass(frozen=True, slots=True)
class _Batch:
    """What became of a batch; `received_ns`: when its newest record was received."""

    folded: Folded
    records: int
    received_ns: int


class StockFeatures:
    """Wires the components, the table and the output topic into an app."""

    def __init__(self, app: ColumnApp, catalogue: Catalogue, codec: Codec, clock: Clock) -> None:
        self._app, self._codec = app, codec
        self._output: Output = app.output
        self.table: ColumnTable = app.column_table(
            "features", width=row.WIDTH, version=(row.VERSION, row.CURRENT)
        )
        name = catalogue.name(STOCK_FEATURES)
        self.sender = FeatureSender(self.table, self._output, name, FeatureEncoder(codec), clock)
        app.before_commit.append(self.sender.send_all)
        self.components = [
            self._component(
                catalogue.name(STOCK_TRADES), "stock_trade", trades, native_trades(), row.TRADES_NEXT
            ),
            self._component(
                catalogue.name(STOCK_QUOTES), "stock_quote", quotes, native_quotes(), row.QUOTES_NEXT
            ),
        ]
        for component in self.components:
            name = "fold-" + component.topic.rsplit(".", 1)[-1]
            app.batch_agent(app.batch_topic(component.topic), name, partial(self._handle, component))

    def _component(
        self, topic: str, stem: str, module: Any, natively: NativeFold | None, next_word: int
    ) -> Component:
        decoder = Decoder(self._codec.versions(stem), columns=module.COLUMNS)
        return Component(
            topic, decoder, module.refusals, module.fold, natively, next_word, PoisonLimit(topic)
        )

    async def _handle(self, component: Component, tp: TP, blocks: list[Block], still_ours: StillOurs) -> None:
        """One batch of one partition: refused records away, the others folded, changed symbols sent."""
        started = time.perf_counter()
        batch = self._fold_natively(component, tp, blocks)
        if batch is None:
            batch = await self._fold_columns(component, tp, blocks, still_ours)
        if batch is not None:
            self.sender.take(tp.partition, batch.folded)  # no await since it was folded
            if self._far_behind(tp, blocks[-1].last):
                await self.sender.send_closed(tp.partition)
            else:
                await self.sender.send_soon(tp.partition, batch.received_ns)
            self._count(component, batch)
        metrics.BATCH_SECONDS.labels(STAGE, component.topic).observe(time.perf_counter() - started)

    def _fold_natively(self, component: Component, tp: TP, blocks: list[Block]) -> _Batch | None:
        """A batch of ordinary records of known symbols; None: it is not one, nothing was folded."""
        if component.fold_natively is None or (bare := component.decode.bare(blocks)) is None:
            return None
        matrix = self.table.part(tp.partition)
        self._check_order(matrix, component, tp, blocks)
        folded = component.fold_natively(matrix, bare, matrix.fences[component.topic])
        if folded is None:
            return None
        matrix.expected[component.topic] = blocks[-1].last + 1
        component.poison.observe(bare.count, [])
        return _Batch(folded, bare.count, int(bare.longs("received_ts")[-1]))

    async def _fold_columns(
        self, component: Component, tp: TP, blocks: list[Block], still_ours: StillOurs
    ) -> _Batch | None:
        """Any batch; None: it is not ours any more."""
        decoded = sound(component.decode, component.refusals, blocks)
        if decoded.bisected:
            metrics.SLOW_DECODES.labels(STAGE, component.topic).inc()
        await bury_refused(self._output.producer, tp, STAGE, decoded, component.poison)
        if not still_ours():
            return None
        matrix = self.table.part(tp.partition)
        self._check_order(matrix, component, tp, blocks)
        matrix.expected[component.topic] = blocks[-1].last + 1
        decoded, stale = owned(matrix.fences[component.topic], decoded)
        self._count_stale(component, stale)
        if not len(decoded.offsets):
            return None
        folded = component.fold(matrix, decoded.frame, decoded.offsets)  # no await since still_ours()
        return _Batch(folded, len(decoded.offsets), int(decoded.frame["received_ts"][-1]))

    def _check_order(self, matrix: Matrix, component: Component, tp: TP, blocks: list[Block]) -> None:
        expected = matrix.expected.get(component.topic)
        check_delivered(tp, expected, blocks)
        if expected is None:
            folded = int(matrix.values[:, component.next_word].max())
            end, changelog = self._app.consumer.highwater(tp), self.table.changelog_topic_name
            check_same_topic(tp, folded, end, changelog)

    def current(self, symbol: str) -> dict[str, Any] | None:
        """The features of a symbol as folded so far; None: not known, or not in a partition of ours.

        Only to be asked when the table is recovered.
        """
        partition = partition_of(symbol.encode(), self._app.conf.topic_partitions)
        if TP(self.components[0].topic, partition) not in self._app.consumer.assignment():
            return None
        matrix = self.table.part(partition)
        row_number = matrix.find(symbol)
        if row_number is None:
            return None
        return next(record for _, record in vector.records(matrix, np.array([row_number], matrix.row_type)))

    def _far_behind(self, tp: TP, last: int) -> bool:
        """Whether symbols change with every batch and nobody needs each of their states: each commit sends
        the newest ones, and what an interval of event time ended with is sent anyway."""
        return (self._app.consumer.highwater(tp) or 0) - last > _FAR_BEHIND

    def _count_stale(self, component: Component, count: int) -> None:
        if count:
            metrics.RECORDS_SKIPPED.labels(STAGE, component.topic, REASON).inc(count)

    def _count(self, component: Component, batch: _Batch) -> None:
        skipped, folded = metrics.RECORDS_SKIPPED, batch.folded
        metrics.RECORDS_APPLIED.labels(STAGE, component.topic).inc(folded.applied)
        if folded.repeated:
            skipped.labels(STAGE, component.topic, "duplicate").inc(folded.repeated)
        if folded.late:
            skipped.labels(STAGE, component.topic, "late").inc(folded.late)
        metrics.BATCH_RECORDS.labels(STAGE, component.topic).observe(batch.records)
