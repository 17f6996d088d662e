"""The app of signals: trades and news.sentiment -> signals, with a table of its own, a row a symbol.

It runs in the processor service as a second app with a consumer group of its own: signals read each trade one
by one, which must not slow the features down. What cannot be read is counted here and kept as dead letters by
the processor's other app, which reads the same topics.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from faust.types import TP

from processors.columns.app import ColumnApp, StillOurs
from processors.columns.continuity import check_delivered, check_same_topic
from processors.columns.records import Records
from processors.columns.single import Single, read_singles
from processors.features.row import MAX_PRICE, MAX_SIZE, MAX_TS
from processors.signals import symbol
from processors.signals.news import Article
from processors.signals.symbol import Step, Symbol
from processors.signals.tape import MICROS, Trade
from processors.worker import Plan
from schemas.catalogue import CRYPTO_TRADES, NEWS_SENTIMENT, SIGNALS, STOCK_TRADES, Catalogue
from schemas.codec import Codec
from schemas.codec import Record as Decoded
from schemas.event_id import news_id
from schemas.trade_conditions import ALWAYS, update_rule
from tidewire import metrics
from tidewire.columns import Block
from tidewire.fence import REASON

APP_ID, STAGE = "tidewire-signals", "signals"
VERSION = 1
_THOUSANDTHS = 1000

Fold = Callable[[Symbol, int, Decoded], Step]


def plan(catalogue: Catalogue) -> Plan:
    """What the worker of signals is."""
    inputs = tuple(map(catalogue.name, (STOCK_TRADES, CRYPTO_TRADES, NEWS_SENTIMENT)))
    return Plan("signals", APP_ID, STAGE, inputs, (catalogue.name(SIGNALS),))


class Signals:
    """Wires the table between the topics into an app. `analyzer` is the one whose scores count."""

    def __init__(self, app: ColumnApp, catalogue: Catalogue, codec: Codec, analyzer: str | None) -> None:
        self._app, self._codec, self._analyzer = app, codec, analyzer
        self._encode, self._out = codec.encoder("signal"), catalogue.name(SIGNALS)
        self.table = app.record_table("signals", version=VERSION)
        folds: dict[str, tuple[str, Fold]] = {
            STOCK_TRADES: ("stock_trade", self._stock_trade),
            CRYPTO_TRADES: ("crypto_trade", self._crypto_trade),
            NEWS_SENTIMENT: ("news_sentiment", self._sentiment),
        }
        self._folds = {catalogue.name(topic): found for topic, found in folds.items()}
        self._short = dict(zip(self._folds, ("stocks", "crypto", "news"), strict=True))
        for topic in self._folds:
            name = "signals-of-" + topic.removeprefix(catalogue.prefix).replace(".", "-")
            app.batch_agent(app.batch_topic(topic, 2000), name, self._handle)

    async def _handle(self, tp: TP, blocks: list[Block], still_ours: StillOurs) -> None:
        stem, fold = self._folds[tp.topic]
        singles = read_singles(blocks, self._codec, stem)
        if not still_ours():
            return
        part = self.table.part(tp.partition)
        check_delivered(tp, part.expected.get(tp.topic), blocks)
        part.expected[tp.topic] = blocks[-1].last + 1
        found = self._fold(part, tp, singles, fold)  # no await since still_ours()
        if found:
            records = [(record["symbol"].encode(), self._encode(record)) for record in found]
            await self._app.output.send(self._out, tp.partition, records)
            for record in found:
                metrics.SIGNALS.labels(record["kind"]).inc()

    def _fold(self, part: Records, tp: TP, singles: list[Single], fold: Fold) -> list[dict[str, Any]]:
        """Fold a batch record by record; returns the signals that are to be sent."""
        symbols: dict[bytes, Symbol] = {}
        found: list[dict[str, Any]] = []
        fence, skipped = part.fences[tp.topic], metrics.RECORDS_SKIPPED
        for single in singles:
            key = single.key
            if single.record is None or key is None or key != single.record["symbol"].encode():
                skipped.labels(STAGE, tp.topic, "unreadable").inc()
                continue
            if "owner_epoch" in single.record and fence.stale(single.record, single.offset):
                skipped.labels(STAGE, tp.topic, REASON).inc()
                continue
            one = symbols.get(key)
            if one is None:
                one = symbols[key] = self._symbol(part, tp, key, single.offset)
            step = fold(one, single.offset, single.record)
            found += step.signals
            if step.verdict == "applied":
                metrics.RECORDS_APPLIED.labels(STAGE, tp.topic).inc()
            else:
                skipped.labels(STAGE, tp.topic, step.verdict).inc()
        for key, one in symbols.items():
            part.put(key, one.keep())
        return found

    def _symbol(self, part: Records, tp: TP, key: bytes, offset: int) -> Symbol:
        state = part.get(key) or symbol.empty()
        folded = state["next"].get(self._short[tp.topic], 0)
        if offset < folded:
            end = self._app.consumer.highwater(tp)
            check_same_topic(tp, folded, end, self.table.changelog_topic_name)
        return Symbol(key.decode(), state)

    def _stock_trade(self, one: Symbol, offset: int, record: Decoded) -> Step:
        sets_last = update_rule(tuple(record["conditions"]), record["tape"]).minute.last == ALWAYS
        return one.trade("stocks", offset, _trade(record) if sets_last else None)

    def _crypto_trade(self, one: Symbol, offset: int, record: Decoded) -> Step:
        return one.trade("crypto", offset, _trade(record))

    def _sentiment(self, one: Symbol, offset: int, record: Decoded) -> Step:
        score, sound = record["score"], 0 <= record["ts"] < MAX_TS
        if record["analyzer"] != self._analyzer or not sound or not math.isfinite(score) or abs(score) > 1:
            return one.filtered("news", offset)
        return one.article("news", offset, article(record))


def article(record: Decoded) -> Article:
    """What a decoded news_sentiment record says."""
    name = news_id(record["provider"], record["article_id"], 0).hex()  # the same for all revisions
    score = round(record["score"] * _THOUSANDTHS)
    return Article(name, record["ts"], score, record["received_ts"], record["source"])


def _trade(record: Decoded) -> Trade | None:
    """A trade in integers; None: its numbers cannot be true."""
    price, size, ts = record["price"], record["size"], record["ts"]
    if not (0 < price < MAX_PRICE and 0 <= size <= MAX_SIZE and 0 <= ts < MAX_TS):
        return None
    micros = round(price * MICROS)
    return (
        Trade(ts, micros, round(size * MICROS), record["received_ts"], record["source"]) if micros else None
    )
