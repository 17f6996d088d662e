"""The processor service: features of stocks, sentiment of news and marks of what is held, in one app.

Signals, if they are asked for, are made by a second app beside it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import partial

from processors import side_by_side
from processors.columns.app import ColumnApp
from processors.marks.crypto import CryptoPrices
from processors.marks.positions import Positions
from processors.marks.sender import STAGE as MARKS_STAGE
from processors.marks.sender import Marks
from processors.marks.stocks import StockPrices
from processors.sentiment import hooks
from processors.sentiment.articles import NewsSentiment
from processors.sentiment.calls import Calls
from processors.sentiment.scores import WatchlistScores
from processors.signals import app as signals
from processors.stock_features import STAGE, StockFeatures
from processors.worker import Plan, Worker
from schemas import catalogue as topics
from schemas.catalogue import Catalogue
from schemas.codec import Codec
from tidewire import service
from tidewire.clock import now_ns
from tidewire.config import Settings
from tidewire.health import Health
from tidewire.metrics import SENTIMENT_HANGING

APP_ID = "tidewire-processor"
INPUTS = (
    topics.STOCK_TRADES,
    topics.STOCK_QUOTES,
    topics.CRYPTO_TRADES,
    topics.CRYPTO_QUOTES,
    topics.NEWS,
    topics.NEWS_SENTIMENT,
)
OUTPUTS = (topics.STOCK_FEATURES, topics.WATCHLIST_SCORES, topics.PORTFOLIO_MARKS)
OTHERS = (topics.PORTFOLIO_POSITIONS,)
_HOUR_NS = 3_600_000_000_000


def main(settings: Settings) -> int:
    """Run the processor until SIGINT or SIGTERM; returns its exit code."""
    processor = Processor(settings)
    return service.run("processor", settings, processor.run, processor.details)


class Processor:
    """One run of the service."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._catalogue = Catalogue(settings.tidewire_topic_prefix, settings.tidewire_partitions or 4)
        self._worker = Worker(settings, self._plan(), self._build)
        self._signals: Worker | None = None
        if settings.tidewire_signals:
            self._signals = Worker(settings, signals.plan(self._catalogue), self._build_signals)
        self._analyzers: tuple[Calls, ...] = ()
        self._marks: Marks | None = None

    async def run(self, health: Health, stop: asyncio.Event) -> None:
        """Fold until `stop` is set.

        Raises:
            ConfigError: an analyzer of news cannot be used.
            UnreachableError: Kafka was never there.
            TidewireError: the worker crashed; the message says of what.
        """
        found = hooks.load(self._settings.tidewire_sentiment)
        seconds = self._settings.tidewire_sentiment_seconds
        self._analyzers = tuple(Calls(analyzer, seconds) for analyzer in found)
        for calls in self._analyzers:
            SENTIMENT_HANGING.labels(calls.name).set_function(partial(getattr, calls, "hanging"))
        if self._signals is None:
            await self._worker.run(health, stop)
        else:
            await side_by_side.run(health, stop, self._worker.run, self._signals.run)

    def _plan(self) -> Plan:
        name = self._catalogue.name
        return Plan(
            name="processor",
            app_id=APP_ID,
            stage=STAGE,
            inputs=tuple(map(name, INPUTS)),
            outputs=tuple(map(name, OUTPUTS)),
            others=tuple(map(name, OTHERS)),
        )

    def _build(self, app: ColumnApp, codec: Codec) -> None:
        features = StockFeatures(app, self._catalogue, codec, now_ns)  # the first table: see Worker.details
        self._build_marks(app, codec, features)
        self._build_sentiment(app, codec)

    def _build_marks(self, app: ColumnApp, codec: Codec, features: StockFeatures) -> None:
        self._marks = marks = Marks(app, self._catalogue, codec)
        CryptoPrices(app, self._catalogue, codec, marks)
        StockPrices(features, marks)
        app.before_commit.append(marks.flush)  # after that of the features, whose last marks may wait
        topic = self._catalogue.name(topics.PORTFOLIO_POSITIONS)
        positions = Positions(self._settings, topic, codec, MARKS_STAGE, marks.position)

        async def read_positions() -> None:
            await positions.run(marks.greet)

        app.task(read_positions)

    def _build_sentiment(self, app: ColumnApp, codec: Codec) -> None:
        NewsSentiment(app, self._catalogue, codec, self._analyzers)
        half_life = max(1, round(self._settings.tidewire_score_half_life_hours * _HOUR_NS))
        WatchlistScores(app, self._catalogue, codec, self._feeding(), half_life)

    def _build_signals(self, app: ColumnApp, codec: Codec) -> None:
        signals.Signals(app, self._catalogue, codec, self._feeding())

    def _feeding(self) -> str | None:
        """The analyzer whose scores count: the first one."""
        return self._analyzers[0].name if self._analyzers else None

    def details(self) -> Mapping[str, object]:
        """For /health: what the worker says, which analyzers hang, and the marks."""
        found = self._worker.details()
        if not found or self._marks is None:
            return found
        hanging = {calls.name: calls.hanging for calls in self._analyzers}
        marks = {"held": len(self._marks.holders), "sent": self._marks.sent}
        found = {**found, "analyzers": hanging, "marks": marks}
        return found if self._signals is None else {**found, "signals": self._signals.details()}
