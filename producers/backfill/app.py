"""The backfiller service: fills the gaps of alpaca.gaps. More processes of it share the gaps and the rate."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping
from contextlib import AsyncExitStack

from aiohttp import ClientSession
from aiokafka.errors import KafkaError

from producers import contact
from producers.backfill import order
from producers.backfill.board import Follower
from producers.backfill.membership import Membership
from producers.backfill.placing import PlacingPublisher
from producers.backfill.work import SETTLE_SECONDS, Means, RevokedError, fill
from producers.contact import START_SECONDS
from producers.history.client import History, keys, pace_of
from producers.history.errors import HistoryError
from producers.session import Session
from schemas import catalogue
from schemas.catalogue import GAPS, Catalogue
from schemas.codec import load_codec
from schemas.gaps import Gap
from tidewire import kafka, log, service
from tidewire.clock import NS_PER_SECOND, Clock, now_ns
from tidewire.config import Settings
from tidewire.dead_letters import SUFFIX
from tidewire.endings import end
from tidewire.health import Health
from tidewire.metrics import BACKFILL_GAPS, BACKFILL_WAITING

TOPICS = (
    catalogue.STOCK_TRADES,
    catalogue.STOCK_QUOTES,
    catalogue.STOCK_BARS,
    catalogue.OPTION_TRADES,
    catalogue.CRYPTO_TRADES,
    catalogue.CRYPTO_QUOTES,
    catalogue.CRYPTO_BARS,
    catalogue.NEWS,
)
AT_ONCE = 4
"""Gaps of different channels that are filled side by side: most of the time is waiting."""
LONGEST_WAIT_SECONDS = 60.0
_LOOK_SECONDS = 1.0

_log = log.get("backfiller")


def main(settings: Settings, *, start_seconds: float = START_SECONDS) -> int:
    """Run until SIGINT or SIGTERM; returns the exit code."""
    backfiller = Backfiller(settings, start_seconds=start_seconds)
    return service.run("backfiller", settings, backfiller.run, backfiller.details)


class Backfiller:
    """The parts of the service and their order of start and end."""

    def __init__(
        self,
        settings: Settings,
        *,
        clock: Clock = now_ns,
        start_seconds: float = START_SECONDS,
        settle_seconds: float = SETTLE_SECONDS,
    ) -> None:
        self._settings, self._clock, self._start_seconds = settings, clock, start_seconds
        self._settle_seconds = settle_seconds
        self._name = Catalogue(settings.tidewire_topic_prefix, 1).name
        self._codec = load_codec(settings)
        self._news = asyncio.Event()
        self._follower = Follower(settings, self._codec, self._news.set)
        self._members = Membership(settings, self._follower.topic, self._regrouped)
        self._current: frozenset[int] = frozenset()
        """Partitions that are ours and whose gaps are all known."""
        self._working: dict[asyncio.Task[None], Gap] = {}
        self._not_before: dict[str, float] = {}
        self._failures: dict[str, int] = {}
        self._trouble: str | None = None

    def details(self) -> Mapping[str, object]:
        """For /health."""
        return {
            "partitions": sorted(self._current),
            "waiting_gaps": len(self._mine_waiting()),
            "working_on": sorted(gap.id for gap in self._working.values()),
            "failing_gaps": dict(sorted(self._failures.items())[:20]),
            "trouble": self._trouble,
        }

    async def run(self, health: Health, stop: asyncio.Event) -> None:
        """The body of the service.

        Raises:
            ConfigError, UnreachableError, SchemaError: see the messages.
        """
        keys(self._settings)
        await contact.reach(self._settings, stop, self._start_seconds)
        if stop.is_set():
            return
        topics = [self._name(topic) for topic in TOPICS]
        gaps = self._name(GAPS)
        await contact.check_topics(self._settings, [*topics, gaps, *(topic + SUFFIX for topic in topics)])
        async with AsyncExitStack() as ending:
            arguments = kafka.client_arguments(self._settings)
            publisher = PlacingPublisher(Session(arguments))
            ending.push_async_callback(publisher.stop)
            await publisher.start([*topics, gaps], topics)
            session = await ending.enter_async_context(ClientSession())
            history = History(self._settings, session, pace_of(self._settings))
            means = Means(
                history, publisher, self._codec, self._name, arguments, self._clock,
                self._settings.tidewire_backfill_days, self._settle_seconds,
            )  # fmt: skip
            for body in (self._follower.run(), self._members.run(), self._stay_current()):
                ending.push_async_callback(_end, asyncio.create_task(body))
            try:
                await self._serve(health, stop, means)
            finally:
                await self._break_off()

    async def _serve(self, health: Health, stop: asyncio.Event, means: Means) -> None:
        stopped = asyncio.create_task(stop.wait())
        try:
            while not stop.is_set():
                self._news.clear()
                means.history.pace.share = len(self._current) / max(self._follower.partitions, 1)
                self._begin(means)
                waiting = len(self._mine_waiting())
                BACKFILL_WAITING.set(waiting)
                health.ready(self._not_ready(means, waiting))
                news = asyncio.create_task(self._news.wait())
                await asyncio.wait(
                    {stopped, news, *self._working},
                    timeout=_LOOK_SECONDS,
                    return_when=asyncio.FIRST_COMPLETED,
                )
                news.cancel()
                for task in [task for task in self._working if task.done()]:
                    del self._working[task]
                    task.result()
        finally:
            stopped.cancel()

    def _not_ready(self, means: Means, waiting: int) -> str | None:
        if means.publisher.trouble is not None:
            return means.publisher.trouble
        if not self._members.joined:
            return "joining the group of backfillers"
        if self._members.mine - self._current:
            return "reading the gaps"
        return self._trouble

    def _mine_waiting(self) -> list[Gap]:
        return [gap for gap in order.waiting(self._follower.board.open()) if self._is_mine(gap)]

    def _is_mine(self, gap: Gap) -> bool:
        return self._follower.partition(gap) in self._current

    def _begin(self, means: Means) -> None:
        now = asyncio.get_running_loop().time()
        known = self._follower.board.open()
        while len(self._working) < AT_ONCE:
            gap = order.following(
                known,
                self._is_mine,
                self._working.values(),
                lambda gap: self._not_before.get(gap.id, 0) <= now,
            )
            if gap is None:
                return
            self._working[asyncio.create_task(self._fill(gap, means))] = gap

    async def _fill(self, gap: Gap, means: Means) -> None:
        try:
            closed = await fill(gap, means, lambda: self._is_mine(gap))
        except RevokedError:
            BACKFILL_GAPS.labels("revoked").inc()
            _log.info("another worker has the gap", gap=gap.id)
        except (HistoryError, KafkaError) as error:
            self._put_off(gap, error)
        else:
            self._follower.board.put(closed)  # before it comes back over the log
            self._failures.pop(gap.id, None)
            self._not_before.pop(gap.id, None)
            self._trouble = None
            BACKFILL_GAPS.labels("unrecoverable" if closed.unrecoverable else "closed").inc()
            _log.info("gap closed", gap=gap.id, found=closed.found, published=closed.published,
                      unrecoverable=list(closed.unrecoverable), detail=closed.detail)  # fmt: skip

    def _put_off(self, gap: Gap, error: HistoryError | KafkaError) -> None:
        failures = self._failures[gap.id] = self._failures.get(gap.id, 0) + 1
        seconds = min(2.0 ** (failures - 1), LONGEST_WAIT_SECONDS) * (0.5 + random.random() / 2)
        if isinstance(error, HistoryError) and error.again_ns is not None:
            seconds = max(seconds, (error.again_ns - self._clock()) / NS_PER_SECOND)
        else:
            self._trouble = f"gap {gap.id}: {error}"
        self._not_before[gap.id] = asyncio.get_running_loop().time() + seconds
        BACKFILL_GAPS.labels("failed").inc()
        _log.warning("gap not filled", gap=gap.id, error=str(error), again_in_seconds=round(seconds, 1))

    def _regrouped(self) -> None:
        self._current &= self._members.mine
        self._news.set()

    async def _stay_current(self) -> None:
        """What is newly ours is begun once everything is known that its former owner wrote."""
        while True:
            wanted = self._members.mine
            if wanted - self._current:
                await self._follower.caught_up()
                self._current = wanted & self._members.mine
                self._news.set()
            await asyncio.sleep(0.1)

    async def _break_off(self) -> None:
        await end(*self._working)
        self._working.clear()


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait((task,))
