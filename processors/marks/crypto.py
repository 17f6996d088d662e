"""Crypto prices for marks: the newest quote and trade of each pair, in memory only.

There is no table: after a restart a pair has no price until its next quote or trade comes, and until its next
quote the last trade stands for the price. The positions keep the mark that they had.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from functools import partial

import numpy as np
import polars as pl
from faust.types import TP

from processors.columns.app import ColumnApp, StillOurs
from processors.columns.few import FewReader, Record
from processors.columns.sound import bury_refused, sound
from processors.features.row import MAX_TS
from processors.marks.price import Price
from processors.marks.sender import STAGE, Marks
from schemas.catalogue import CRYPTO_QUOTES, CRYPTO_TRADES, Catalogue
from schemas.codec import Codec
from tidewire import metrics
from tidewire.columns import Block, Decoder
from tidewire.columns.owned import owned
from tidewire.columns.poison import PoisonLimit
from tidewire.fence import REASON, LogFence

_QUOTE, _TRADE = ("bid_price", "ask_price"), ("price",)
_MAX_PRICE = 1e15
_COMMON = ("symbol", "ts", "received_ts", "source", "owner_epoch")


class CryptoPrices:
    """Wires the two topics into an app and offers what they say to the marks."""

    def __init__(self, app: ColumnApp, catalogue: Catalogue, codec: Codec, marks: Marks) -> None:
        self._app, self._marks = app, marks
        self._newest = Newest()
        self._partitions: dict[str, TP] = {}
        self._fences: defaultdict[TP, LogFence] = defaultdict(LogFence)
        marks.current.append(self.current)
        for name, stem, columns in (
            (CRYPTO_QUOTES, "crypto_quote", _QUOTE),
            (CRYPTO_TRADES, "crypto_trade", _TRADE),
        ):
            topic = catalogue.name(name)
            wanted = (*_COMMON, *columns)
            decoder = Decoder(codec.versions(stem), columns=wanted)
            few = FewReader(dict(codec.schema(stem)), codec.schema_id(stem))
            handler = partial(self._handle, few, decoder, columns, PoisonLimit(topic))
            app.batch_agent(app.batch_topic(topic), "mark-" + stem.replace("_", "-"), handler)

    async def _handle(
        self,
        few: FewReader,
        decoder: Decoder,
        columns: tuple[str, ...],
        poison: PoisonLimit,
        tp: TP,
        blocks: list[Block],
        still_ours: StillOurs,
    ) -> None:
        records = few(blocks)
        if records and all(_sound(columns, record) for _, record in records):
            poison.observe(len(records), [])
            fence, read = self._fences[tp], len(records)
            records = [(offset, record) for offset, record in records if not fence.stale(record, offset)]
            stale = read - len(records)
            prices, count = self._newest.fold_few(columns is _QUOTE, records), len(records)
        else:
            decoded = sound(decoder, partial(refusals, columns), blocks)
            await bury_refused(self._app.output.producer, tp, STAGE, decoded, poison)
            if not still_ours() or not len(decoded.offsets):
                return
            decoded, stale = owned(self._fences[tp], decoded)
            prices, count = self._newest.fold(decoded.frame), len(decoded.offsets)
        if stale:
            metrics.RECORDS_SKIPPED.labels(STAGE, tp.topic, REASON).inc(stale)
        self._partitions |= dict.fromkeys((price.symbol for price in prices), tp)
        await self._marks.take(tp, prices)
        metrics.RECORDS_APPLIED.labels(STAGE, tp.topic).inc(count)

    def current(self, symbol: str) -> Price | None:
        """The newest price of a pair, None: not known, or not in a partition of ours."""
        price, tp = self._newest.prices.get(symbol), self._partitions.get(symbol)
        return price if tp in self._marks.assignment() else None


class Newest:
    """The newest quote and trade by pair: the greatest ts, the later record among equals."""

    def __init__(self) -> None:
        self.prices: dict[str, Price] = {}
        self._times: dict[tuple[str, bool], int] = {}

    def fold(self, frame: pl.DataFrame) -> list[Price]:
        """Fold sound quotes or trades in offset order; returns the pairs that they are about."""
        quotes = "bid_price" in frame.columns
        newest = frame
        if frame.height > 1:
            newest = frame.sort("ts", maintain_order=True).unique("symbol", keep="last", maintain_order=True)
        return [self._fold_one(row, quotes) for row in newest.iter_rows(named=True)]

    def fold_few(self, quotes: bool, records: Sequence[tuple[int, Record]]) -> list[Price]:
        """The same of records in offset order, one by one."""
        found = {record["symbol"]: self._fold_one(record, quotes) for _, record in records}
        return list(found.values())

    def _fold_one(self, row: dict[str, object], quotes: bool) -> Price:
        symbol, ts = str(row["symbol"]), row["ts"]
        known = self.prices.get(symbol) or Price(symbol, 0, None, None, None, 0, "")
        assert isinstance(ts, int)
        if ts >= self._times.get((symbol, quotes), 0):
            self._times[symbol, quotes] = ts
            known = _changed(known, row, quotes, ts)
            self.prices[symbol] = known
        return known


def _changed(known: Price, row: dict[str, object], quotes: bool, ts: int) -> Price:
    bid, ask = (row["bid_price"], row["ask_price"]) if quotes else (known.bid, known.ask)
    last = known.last if quotes else row["price"]
    return Price(known.symbol, max(known.ts, ts), bid, ask, last, row["received_ts"], row["source"])  # type: ignore[arg-type]


def _sound(prices: tuple[str, ...], record: Record) -> bool:
    return all(0 <= record[name] <= _MAX_PRICE for name in prices) and 0 <= record["ts"] < MAX_TS


def refusals(prices: tuple[str, ...], frame: pl.DataFrame) -> dict[int, str]:
    """Position and reason of each row whose prices (columns) or time cannot be."""
    found: dict[int, str] = {}
    for name in prices:
        price = frame.get_column(name).to_numpy()
        wrong = np.flatnonzero(~((price >= 0) & (price <= _MAX_PRICE)))  # not a number is wrong as well
        found |= {i: f"{name} {price[i]} is not a price" for i in wrong.tolist()}
    ts = frame.get_column("ts").to_numpy()
    wrong = np.flatnonzero(~((ts >= 0) & (ts < MAX_TS)))
    found |= {i: f"event time {ts[i]} is not between 1970 and 2100" for i in wrong.tolist()}
    return dict(sorted(found.items()))
