"""alpaca.news -> news.sentiment: each article is given to every analyzer; one record a symbol that it scores.

Nothing is kept: an article that is read again after a crash is analyzed again, and its records have the same
event ids as before.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from faust.types import TP

from processors.columns.app import ColumnApp, StillOurs
from processors.columns.single import Single, bury, read_singles
from processors.features.row import MAX_TS
from processors.sentiment.answers import detail_json
from processors.sentiment.article import Article, Score, article_of
from processors.sentiment.calls import THREADS, AnalyzerError, Calls
from schemas.catalogue import NEWS, NEWS_SENTIMENT, Catalogue
from schemas.codec import Codec, Record
from schemas.event_id import sentiment_id
from tidewire import dead_letters, metrics
from tidewire.columns import Block
from tidewire.columns.poison import PoisonLimit
from tidewire.dead_letters import DeadLetter
from tidewire.fence import REASON, LogFence
from tidewire.placing import partition_of

STAGE = "sentiment"
_WHOLE_FETCH = 1 << 40

Keyed = tuple[bytes, bytes]


@dataclass(frozen=True, slots=True)
class _Failure:
    analyzer: str
    single: Single
    reason: str


class NewsSentiment:
    """Wires the analyzers between the two topics into an app."""

    def __init__(
        self, app: ColumnApp, catalogue: Catalogue, codec: Codec, analyzers: Sequence[Calls]
    ) -> None:
        self._app, self._codec, self.analyzers = app, codec, tuple(analyzers)
        self._encode = codec.encoder("news_sentiment")
        self._topic, self._out = catalogue.name(NEWS), catalogue.name(NEWS_SENTIMENT)
        self._poison = PoisonLimit(self._topic)
        self._fences: defaultdict[TP, LogFence] = defaultdict(LogFence)
        # A full queue would hold up the fetches of all topics, the trades' too. So a fetch of a partition is
        # one batch, and the queue, which stops fetching at 4/5, has room left for one of each partition.
        room = 5 * (int(app.conf.topic_partitions) + 1)
        app.batch_agent(app.batch_topic(self._topic, _WHOLE_FETCH, room), "analyze-news", self._handle)

    async def _handle(self, tp: TP, blocks: list[Block], still_ours: StillOurs) -> None:
        started = time.perf_counter()
        singles = [_sound(single) for single in read_singles(blocks, self._codec, "news")]
        await bury(self._app.output.producer, tp, STAGE, singles, self._poison)
        readable = [s for s in singles if s.record is not None]
        fence = self._fences[tp]
        owned = [s for s in readable if s.record is not None and not fence.stale(s.record, s.offset)]
        if len(owned) < len(readable):
            metrics.RECORDS_SKIPPED.labels(STAGE, tp.topic, REASON).inc(len(readable) - len(owned))
        wanted = [s for s in owned if s.record is not None and self.analyzers and any(s.record["symbols"])]
        left_out = len(owned) - len(wanted)
        if left_out:  # without symbols, or nobody to ask
            metrics.RECORDS_SKIPPED.labels(STAGE, tp.topic, "filtered").inc(left_out)
        for begin in range(0, len(wanted), THREADS):
            if not still_ours():
                return
            await self._analyze(tp, wanted[begin : begin + THREADS])
        metrics.BATCH_SECONDS.labels(STAGE, tp.topic).observe(time.perf_counter() - started)

    async def _analyze(self, tp: TP, singles: Sequence[Single]) -> None:
        """A few articles at once, each with all analyzers at once; what follows from them in their order."""
        articles = await asyncio.to_thread(_articles, singles)  # a long page takes a while
        outcomes = await asyncio.gather(
            *(self._one(calls, *article) for article in articles for calls in self.analyzers)
        )
        lanes: defaultdict[int, list[Keyed]] = defaultdict(list)
        failures = [outcome for outcome in outcomes if isinstance(outcome, _Failure)]
        for outcome in outcomes:
            if not isinstance(outcome, _Failure):
                for key, value in outcome:
                    lanes[self._partition(key)].append((key, value))
        for partition, records in lanes.items():
            metrics.SENTIMENT_RECORDS.inc(await self._app.output.send(self._out, partition, records))
        if failures:
            await dead_letters.publish(self._app.output.producer, [_letter(tp, f) for f in failures])
        metrics.RECORDS_APPLIED.labels(STAGE, tp.topic).inc(len(singles))

    async def _one(self, calls: Calls, single: Single, article: Article) -> list[Keyed] | _Failure:
        assert single.record is not None
        try:
            scores = await calls.ask(article)
        except AnalyzerError as error:
            return _Failure(calls.name, single, str(error))
        metrics.RECORDS_APPLIED.labels(f"{STAGE}:{calls.name}", self._topic).inc()
        return [
            (symbol.encode(), self._encode(sentiment_record(single.record, symbol, calls.name, score)))
            for symbol, score in scores.items()
        ]

    def _partition(self, key: bytes) -> int:
        return partition_of(key, self._app.conf.topic_partitions)


def _articles(singles: Sequence[Single]) -> list[tuple[Single, Article]]:
    return [(single, article_of(single.record)) for single in singles if single.record is not None]


def _sound(single: Single) -> Single:
    record = single.record
    if record is None:
        return single
    if single.key != record["id"].encode():
        return single.refuse(f"the key is not the article's id {record['id']!r}")
    if not 0 <= record["ts"] < MAX_TS:
        return single.refuse(f"event time {record['ts']} is not between 1970 and 2100")
    return single


def sentiment_record(news: Record, symbol: str, analyzer: str, score: Score) -> dict[str, Any]:
    """The news_sentiment record of one symbol of a decoded article."""
    return {
        "symbol": symbol,
        "ts": news["ts"],
        "provider": news["provider"],
        "article_id": news["id"],
        "revision": news["revision"],
        "analyzer": analyzer,
        "score": score.score,
        "confidence": score.confidence,
        "detail": detail_json(score),
        "received_ts": news["received_ts"],
        "source": news["source"],
        "event_id": sentiment_id(news["provider"], news["id"], news["revision"], symbol, analyzer),
    }


def _letter(tp: TP, failure: _Failure) -> DeadLetter:
    single, stage = failure.single, f"{STAGE}:{failure.analyzer}"
    return DeadLetter(
        tp.topic,
        tp.partition,
        single.offset,
        single.key,
        single.value or b"",
        stage,
        "AnalyzerError",
        failure.reason,
    )
