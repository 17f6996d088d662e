"""Ten integer accumulators a symbol in columns: the fold that Kafka Streams and stock Faust do as well.

As the processor folds: record batches to Polars frames, frames into a matrix that is a table with a
changelog. It is here only to be measured; what the processor really keeps is in processors/features.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import polars as pl
from faust.types import TP

from benchmarks.meter import metered, peak_memory
from processors.columns.app import ColumnApp, StillOurs
from processors.columns.groups import Groups, group
from processors.columns.matrix import Ints, Matrix
from processors.worker import Plan, Worker
from schemas.catalogue import STOCK_TRADES, Catalogue
from schemas.codec import Codec
from tidewire import config, metrics, service
from tidewire.columns import Block, Decoder
from tidewire.config import Settings

APP = "tidewire-processor-accumulators"
TABLE = "accumulators"
STAGE = "accumulators"
COLUMNS = ("symbol", "ts", "price", "size")
VERSION, NEXT = 0, 1
TRADES, VOLUME, NOTIONAL, OPEN, LAST, HIGH, LOW, TS, SQUARES, ODD = range(2, 12)
"""Prices in 1/10,000 USD, notional in 1/1,000,000 USD, time in ns; SQUARES of the steps between prices;
ODD: trades of less than 100 shares. NEXT is the offset that follows the last trade folded."""
WIDTH = 12
_CURRENT = 1


def fold(matrix: Matrix, frame: pl.DataFrame, offsets: Ints) -> int:
    """Fold trades in offset order; returns how many were new."""
    groups = group(matrix.rows(frame["symbol"]), offsets, matrix.values[:, NEXT])
    if not len(groups.order):
        return 0
    order, ends, new = groups.order, groups.ends, matrix.values[groups.rows]
    price, size = frame["price"].to_numpy()[order], frame["size"].to_numpy()[order]
    tick = np.rint(price * 1e4).astype(np.int64)
    fresh = np.flatnonzero(new[:, TRADES] == 0)
    new[fresh[:, None], [OPEN, LAST, HIGH, LOW]] = tick[groups.starts[fresh], None]
    step = _steps(groups, tick, new[:, LAST])
    new[:, VERSION] = _CURRENT
    new[:, NEXT] = offsets[order[ends]] + 1
    new[:, LAST], new[:, TS] = tick[ends], frame["ts"].to_numpy()[order[ends]]
    new[:, TRADES] += groups.lengths
    new[:, VOLUME] += groups.total(size)
    new[:, NOTIONAL] += groups.total(np.rint(price * size * 1e6).astype(np.int64))
    new[:, HIGH] = np.maximum(new[:, HIGH], groups.greatest(tick))
    new[:, LOW] = np.minimum(new[:, LOW], groups.least(tick))
    new[:, SQUARES] += groups.total(step * step)
    new[:, ODD] += groups.total((size < 100).astype(np.int64))
    matrix.put(groups.rows, new)
    return len(order)


def _steps(groups: Groups, tick: Ints, before: Ints) -> Ints:
    """Of each trade, the change since its symbol's previous one; `before`: the last of earlier batches."""
    step = np.empty_like(tick)
    step[1:] = tick[1:] - tick[:-1]
    step[groups.starts] = tick[groups.starts] - before
    return step


def run(count: int) -> dict[str, float]:
    """Ours: fold `count` trades in a Faust app with table, changelog and commits."""
    return metered(STAGE, count, lambda: main(config.load())) | {"rss": peak_memory()}


def main(settings: Settings) -> int:
    """Run the app until SIGTERM; returns its exit code."""
    topic = Catalogue(settings.tidewire_topic_prefix, settings.tidewire_partitions or 4).name(STOCK_TRADES)
    plan = Plan(STAGE, APP, STAGE, (topic,), ())
    return service.run(STAGE, settings, Worker(settings, plan, partial(_build, topic)).run)


def _build(topic: str, app: ColumnApp, codec: Codec) -> None:
    decode = Decoder(codec.versions("stock_trade"), columns=COLUMNS)
    table = app.column_table(TABLE, width=WIDTH, version=(VERSION, _CURRENT))

    async def handle(tp: TP, blocks: list[Block], still_ours: StillOurs) -> None:
        decoded = decode(blocks)
        if decoded.refused:
            raise ValueError(f"{decoded.refused[0].reason} at offset {decoded.refused[0].offset} of {tp}")
        applied = fold(table.part(tp.partition), decoded.frame, decoded.offsets)
        metrics.RECORDS_APPLIED.labels(STAGE, topic).inc(applied)

    app.batch_agent(app.batch_topic(topic), "fold", handle)
