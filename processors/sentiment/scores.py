"""news.sentiment -> watchlist.scores: the `watchlist_scores` table, a row a symbol.

Each row holds the offset up to which it is folded, so a record that is read again is skipped. A symbol whose
records are only repeats is sent again: the send may be what the crash before the repeat prevented. Only the
first configured analyzer feeds the scores; records of others are filtered.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from faust.types import TP

from processors.columns.app import ColumnApp, StillOurs
from processors.columns.continuity import check_delivered, check_same_topic
from processors.columns.records import Records
from processors.columns.single import Single, bury, read_singles
from processors.features.row import MAX_TS
from processors.sentiment import watchlist
from processors.sentiment.articles import STAGE
from processors.sentiment.watchlist import Contribution
from schemas.catalogue import NEWS_SENTIMENT, WATCHLIST_SCORES, Catalogue
from schemas.codec import Codec, Record
from schemas.event_id import news_id, score_id
from tidewire import metrics
from tidewire.columns import Block
from tidewire.columns.poison import PoisonLimit

VERSION = 1


class WatchlistScores:
    """Wires the table between the two topics into an app. `analyzer` is the one that feeds it."""

    def __init__(
        self, app: ColumnApp, catalogue: Catalogue, codec: Codec, analyzer: str | None, half_life_ns: int
    ) -> None:
        self._app, self._codec = app, codec
        self._analyzer, self._half_life = analyzer, half_life_ns
        self._encode = codec.encoder("watchlist_score")
        self._topic, self._out = catalogue.name(NEWS_SENTIMENT), catalogue.name(WATCHLIST_SCORES)
        self._poison = PoisonLimit(self._topic)
        self.table = app.record_table("watchlist_scores", version=VERSION)
        app.batch_agent(app.batch_topic(self._topic, 2000), "fold-sentiment", self._handle)

    async def _handle(self, tp: TP, blocks: list[Block], still_ours: StillOurs) -> None:
        singles = [_sound(single) for single in read_singles(blocks, self._codec, "news_sentiment")]
        await bury(self._app.output.producer, tp, STAGE, singles, self._poison)
        if not still_ours():
            return
        part = self.table.part(tp.partition)
        check_delivered(tp, part.expected.get(tp.topic), blocks)
        part.expected[tp.topic] = blocks[-1].last + 1
        touched = self._fold(part, tp, singles)  # no await since still_ours()
        records = [(key, self._encode(self._record(key, part))) for key in touched]
        await self._app.output.send(self._out, tp.partition, records)

    def _fold(self, part: Records, tp: TP, singles: Sequence[Single]) -> list[bytes]:
        """Fold the sound records; returns the keys of the symbols that they are about, each once."""
        touched: dict[bytes, None] = {}
        for single in singles:
            if single.record is None:
                continue
            if single.record["analyzer"] != self._analyzer:
                metrics.RECORDS_SKIPPED.labels(STAGE, tp.topic, "filtered").inc()
                continue
            assert single.key is not None
            touched[single.key] = None
            verdict = self._fold_one(part, tp, single.key, single.offset, single.record)
            if verdict == "applied":
                metrics.RECORDS_APPLIED.labels(STAGE, tp.topic).inc()
            else:
                metrics.RECORDS_SKIPPED.labels(STAGE, tp.topic, verdict).inc()
        return list(touched)

    def _fold_one(self, part: Records, tp: TP, key: bytes, offset: int, record: Record) -> watchlist.Verdict:
        state = part.get(key) or watchlist.empty() | {"next": 0}
        if offset < state["next"]:
            end = self._app.consumer.highwater(tp)
            check_same_topic(tp, state["next"], end, self.table.changelog_topic_name)
            return "duplicate"
        verdict = watchlist.add(state, contribution(record), self._half_life)
        state["next"] = offset + 1
        if verdict == "applied":
            state["received_ts"], state["source"] = record["received_ts"], record["source"]
            state["event_id"] = record["event_id"].hex()
        part.put(key, state)
        return verdict

    def _record(self, key: bytes, part: Records) -> dict[str, Any]:
        state = part.get(key)
        assert state is not None
        symbol = key.decode()
        return {
            "symbol": symbol,
            "ts": watchlist.newest_ts(state),
            "score": watchlist.score(state, self._half_life),
            "half_life_ns": self._half_life,
            "articles": watchlist.articles(state),
            "received_ts": state["received_ts"],
            "source": state["source"],
            "event_id": score_id(symbol, bytes.fromhex(state["event_id"])),
        }


def contribution(record: Record) -> Contribution:
    """What a decoded news_sentiment record adds to its symbol's score."""
    article = news_id(record["provider"], record["article_id"], 0).hex()  # the same for all revisions
    return Contribution(article, record["revision"], record["ts"], record["score"])


def _sound(single: Single) -> Single:
    record = single.record
    if record is None:
        return single
    if single.key != record["symbol"].encode():
        return single.refuse(f"the key is not the symbol {record['symbol']!r}")
    if not (math.isfinite(record["score"]) and -1 <= record["score"] <= 1):
        return single.refuse(f"score {record['score']} is not between -1 and 1")
    if not 0 <= record["ts"] < MAX_TS:
        return single.refuse(f"event time {record['ts']} is not between 1970 and 2100")
    return single
