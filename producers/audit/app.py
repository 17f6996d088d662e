"""The auditor service: what the log holds of each final minute, beside what Alpaca's history says of it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from contextlib import AsyncExitStack

from aiohttp import ClientSession
from aiokafka.errors import KafkaError

from producers import contact
from producers.announce import small_producer
from producers.audit.asking import Asking
from producers.audit.board import Gaps
from producers.audit.daily import DailyRounds
from producers.audit.decoding import sampler
from producers.audit.news import NewsAudit
from producers.audit.outbox import Outbox
from producers.audit.reading import Reader
from producers.audit.rounds import Rounds
from producers.audit.scope import Audited, audited
from producers.audit.station import limit_age
from producers.contact import START_SECONDS
from producers.history.client import History, pace_of
from producers.history.errors import HistoryError
from schemas import admin
from schemas.catalogue import AUDITS, GAPS, NEWS, Catalogue
from schemas.codec import Codec, load_codec
from tidewire import log, service
from tidewire.clock import NS_PER_DAY, NS_PER_SECOND, Clock, now_ns
from tidewire.config import Settings
from tidewire.endings import end
from tidewire.health import Health
from tidewire.metrics import AUDIT_FAILURES, AUDIT_GIVEN_UP, AUDIT_LAG

ROUND_SECONDS = 1.0
SHARE = 0.3
"""Of the rate limit; the rest is the backfiller's and the watchdog's."""
_PAUSE_SECONDS = 5.0
_REFUSED_SECONDS = 60.0

_log = log.get("auditor")


def main(settings: Settings, *, start_seconds: float = START_SECONDS) -> int:
    """Run until SIGINT or SIGTERM; returns the exit code."""
    auditor = Auditor(settings, start_seconds=start_seconds)
    return service.run("auditor", settings, auditor.run, auditor.details)


class Auditor:
    """The parts of the service and their order of start and end."""

    def __init__(
        self, settings: Settings, *, clock: Clock = now_ns, start_seconds: float = START_SECONDS
    ) -> None:
        self._settings, self._clock, self._start_seconds = settings, clock, start_seconds
        self._scopes = audited(settings)
        self._epoch = clock() // NS_PER_SECOND
        self._reader: Reader | None = None
        self._trouble: dict[str, str] = {}

    def details(self) -> Mapping[str, object]:
        """For /health."""
        reader = self._reader
        stations = [] if reader is None else list(reader.stations.values())
        return {
            "feeds": [scope.feed for scope in self._scopes],
            "lanes": len(stations),
            "minutes_open": sum(len(station.cases) for station in stations),
            "minutes_given_up": sum(station.lane.given_up for station in stations),
            "trouble": dict(self._trouble),
        }

    async def run(self, health: Health, stop: asyncio.Event) -> None:
        """The body of the service.

        Raises:
            ConfigError, UnreachableError, SchemaError: see the messages.
        """
        settings = self._settings
        await contact.reach(settings, stop, self._start_seconds)
        if stop.is_set():
            return
        codec = load_codec(settings)
        name = Catalogue(settings.tidewire_topic_prefix, 1).name
        topics = [name(topic) for scope in self._scopes for topic, _ in scope.topics.values()]
        await contact.check_topics(settings, (*topics, name(GAPS), name(AUDITS), name(NEWS)))
        async with admin.connect(settings) as cluster:
            counts = {t.name: t.partitions for t in (await cluster.topics([name(NEWS)])).values()}
        async with AsyncExitStack() as ending:
            session = await ending.enter_async_context(ClientSession())
            history = History(settings, session, pace_of(settings, SHARE))
            outbox = Outbox(settings, codec, await ending.enter_async_context(small_producer(settings)))
            gaps = Gaps(settings, codec)
            tasks = [
                asyncio.create_task(gaps.run()),
                asyncio.create_task(self._audit(codec, history, outbox, gaps)),
            ]
            if settings.tidewire_news_symbols and settings.tidewire_feed != "test":
                news = NewsAudit(
                    settings, codec, counts[name(NEWS)], history, gaps, outbox.put, self._first, self._market,
                    self._clock, self._epoch,
                )  # fmt: skip
                tasks.append(asyncio.create_task(news.run()))
            stopped = asyncio.create_task(stop.wait())
            showing = asyncio.create_task(self._show_health(health))
            try:
                await asyncio.wait((*tasks, stopped), return_when=asyncio.FIRST_COMPLETED)
                _raise_first(tasks)
            finally:
                await end(*tasks, showing, stopped)

    def _first(self) -> bool:
        """Whether this auditor looks after the news: the one with the stocks' first partition does."""
        return self._reader is not None and any(number == 0 for _, number in self._reader.stations)

    def _market(self) -> int | None:
        stocks = None if self._reader is None else self._reader.market.get("stocks")
        return None if stocks is None else stocks.time(self._clock())

    async def _audit(self, codec: Codec, history: History, outbox: Outbox, gaps: Gaps) -> None:
        """Reader after reader: one whose membership of the group is over is replaced."""
        await gaps.current.wait()
        if not self._scopes:
            _log.warning("Alpaca keeps no history of the configured feeds: only news are audited")
            await asyncio.get_running_loop().create_future()
        while True:
            reader = self._reader = Reader(
                self._settings,
                codec,
                self._scopes,
                sampler(self._settings.tidewire_audit_quotes),
                self._clock,
            )
            reading = asyncio.create_task(reader.run())
            rounds = [
                asyncio.create_task(self._rounds(scope, reader, history, outbox, gaps))
                for scope in self._scopes
            ]
            committing = asyncio.create_task(self._commit(reader, outbox))
            try:
                await asyncio.wait((reading, *rounds, committing), return_when=asyncio.FIRST_COMPLETED)
                _raise_first((reading, *rounds, committing))
            except (KafkaError, OSError) as error:
                _log.warning("waiting for Kafka", reason=repr(error))
                self._trouble["kafka"] = f"Kafka: {error!r}"
            finally:
                await end(*rounds, committing)
                await _last_words(outbox, reader)
                await end(reading)
            await asyncio.sleep(_PAUSE_SECONDS)
            self._trouble.pop("kafka", None)

    async def _rounds(
        self, scope: Audited, reader: Reader, history: History, outbox: Outbox, gaps: Gaps
    ) -> None:
        rounds = Rounds(
            scope.feed, Asking(history, scope.kind), gaps, outbox.put, reader.position, self._clock,
            self._epoch, has_bars="bars" in scope.topics,
        )  # fmt: skip
        daily = DailyRounds(
            scope.feed,
            Asking(history, scope.kind),
            gaps,
            outbox.put,
            reader.position,
            self._clock,
            self._epoch,
        )
        sampled = sampler(self._settings.tidewire_audit_quotes)
        pause = ROUND_SECONDS
        while True:
            await asyncio.sleep(pause)
            stations = reader.of_kind(scope.kind)
            self._look_at(scope, reader, gaps)
            for station in stations:
                before = station.due_before(reader.market[scope.kind], self._clock())
                if before is not None:
                    station.open_cases(before, sampled)
            try:
                await rounds.run(stations, reader.read_on)
                if "bars" in scope.topics:
                    await daily.run(stations, reader.market[scope.kind], reader.read_on)
            except HistoryError as error:
                _log.warning("no answer from the history", feed=scope.feed, reason=str(error))
                AUDIT_FAILURES.labels(scope.kind).inc()
                self._trouble[scope.feed] = str(error)
                pause = _PAUSE_SECONDS if error.passes else _REFUSED_SECONDS
                continue
            self._trouble.pop(scope.feed, None)
            pause = ROUND_SECONDS

    def _look_at(self, scope: Audited, reader: Reader, gaps: Gaps) -> None:
        """Bring quiet lanes along, give up what is too old, and show the lag."""
        now, stations = self._clock(), reader.of_kind(scope.kind)
        floors = [station.lane.floor for station in stations if station.lane.floor is not None]
        if not floors:
            return
        longest = int(self._settings.tidewire_backfill_days * NS_PER_DAY)
        for station in stations:
            if station.caught_up:
                station.lane.begin(min(floors))
            before = station.due_before(reader.market[scope.kind], now)
            if before is not None:
                limit_age(station, before, longest)
            AUDIT_GIVEN_UP.labels(scope.kind).inc(station.newly_given_up())
        AUDIT_LAG.labels(scope.kind).set(max(station.lag_ns(now) for station in stations) / NS_PER_SECOND)
        gaps.board.forget(min(floors) - NS_PER_DAY)

    async def _commit(self, reader: Reader, outbox: Outbox) -> None:
        while True:
            await asyncio.sleep(ROUND_SECONDS)
            await outbox.flush()
            await reader.commit()

    async def _show_health(self, health: Health) -> None:
        while True:
            health.ready("; ".join(f"{what}: {why}" for what, why in self._trouble.items()) or None)
            await asyncio.sleep(0.5)


def _raise_first(tasks: Iterable[asyncio.Task[None]]) -> None:
    for task in tasks:
        if task.done() and (error := task.exception()) is not None:
            raise error


async def _last_words(outbox: Outbox, reader: Reader) -> None:
    """Tell what was found and how far it went, if Kafka takes it; else it is compared again."""
    try:
        async with asyncio.timeout(contact.FLUSH_SECONDS):
            await outbox.flush()
            await reader.commit()
    except (TimeoutError, KafkaError) as error:
        _log.warning("some minutes will be compared again", reason=repr(error))
