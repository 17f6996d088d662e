"""One owner per feed: a process runs a feed while the consumer group gives it to it, under its own epoch.

A rebalance interrupts no feed that stays: what is to be stopped is decided after the feeds are shared out
anew. A feed is given up when the group gives it to another, takes us for dead, or another has claimed a
greater epoch; when this process was stopped for so long that another may own it; and, where another process
stands by, when Kafka has not confirmed us for a while. Alone, a process goes on while Kafka is away: nobody
could take over, and what it receives is kept until Kafka is back.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass

from aiokafka import AIOKafkaProducer

from producers.lease_claims import Claims
from producers.lease_group import HEARTBEAT_SECONDS, SESSION_SECONDS, Group
from producers.lease_share import Member
from schemas.catalogue import LEASES, Catalogue
from schemas.codec import Codec
from tidewire import log
from tidewire.clock import Clock, now_ns
from tidewire.config import Settings
from tidewire.endings import end
from tidewire.metrics import LEASES_GIVEN_UP, LEASES_HELD, LEASES_TAKEN
from tidewire.slots import Slot

ASLEEP_SECONDS = SESSION_SECONDS - HEARTBEAT_SECONDS
"""A process that did not run for so long may be taken for dead."""
AWAY_SECONDS = 15.0
"""So long a feed is kept without a word from Kafka where another process stands by."""
STOP_SECONDS = 6.0
"""How long a feed's end is waited for."""
_LOOK_SECONDS = 0.25

_log = log.get("leases")

OnOwned = Callable[[str, int], Awaitable[None]]
"""Runs a feed under an epoch until it is cancelled; returning early means that the feed is over for good."""


def uptime() -> float:
    """Seconds that go on while the process is stopped and, where the system can tell, the machine sleeps."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def _slot(settings: Settings, group: str) -> Slot | None:
    try:
        return Slot(settings.tidewire_home / "run", group)
    except OSError as error:
        _log.warning("no lasting name in the group: a restart takes some seconds longer", reason=str(error))
        return None


@dataclass(slots=True)
class _Hold:
    """`epoch` None: not claimed yet. `ending`: cancelled, and not yet over."""

    task: asyncio.Task[None]
    epoch: int | None = None
    ending: bool = False


class Leases:
    """Runs those of `feeds` that are ours. `group` is the consumer group without the topics' prefix.

    `producer` must be started, with acks=all (announce.small_producer).
    """

    def __init__(
        self,
        settings: Settings,
        codec: Codec,
        producer: AIOKafkaProducer,
        group: str,
        feeds: Iterable[str],
        on_owned: OnOwned,
        *,
        clock: Clock = now_ns,
    ) -> None:
        self._feeds, self._on_owned = tuple(feeds), on_owned
        self._changed = asyncio.Event()
        topic = Catalogue(settings.tidewire_topic_prefix, 1).name(LEASES)
        self._claims = Claims(settings, topic, codec, producer, clock, self._changed.set)
        name = settings.tidewire_topic_prefix + group
        self._slot = _slot(settings, group)
        instance = None if self._slot is None else self._slot.instance
        self._group = Group(settings, name, topic, self._me, self._changed.set, uptime, instance)
        self._holds: dict[str, _Hold] = {}
        self._confirm_after: dict[str, float] = {}  # feed -> nothing before this moment counts
        self._label = group

    # ---------------------------------------------------------------- what others ask

    @property
    def owned(self) -> Mapping[str, int]:
        """The feeds that run here, with their epochs."""
        return {f: h.epoch for f, h in self._holds.items() if h.epoch is not None and not h.ending}

    @property
    def ours(self) -> frozenset[str]:
        """The feeds that run here, with those that are being claimed."""
        return frozenset(feed for feed, hold in self._holds.items() if not hold.ending)

    @property
    def trouble(self) -> str | None:
        """Why it is not known whose the feeds are; None: it is."""
        return None if self._group.confirmed_at is not None else "joining the consumer group of the feeds"

    def owner(self, feed: str) -> str | None:
        """Who claimed a feed last, as host:process id."""
        claim = self._claims.newest.get(feed)
        return None if claim is None else claim.owner

    # ---------------------------------------------------------------- work

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop` is set; then our feeds are ended and the group is left, in this order.

        Raises:
            Exception: what `on_owned` raised.
        """
        stopped = asyncio.create_task(stop.wait())
        helpers = [asyncio.create_task(self._claims.run()), asyncio.create_task(self._group.run())]
        try:
            await self._keep(stopped, helpers)
        finally:
            stopped.cancel()
            for feed in list(self._holds):
                self._give_up(feed, "stopped")
            await self._ended([hold.task for hold in self._holds.values()])
            await end(*helpers)
            if self._slot is not None:
                self._slot.release()

    async def _keep(self, stopped: asyncio.Task[bool], helpers: list[asyncio.Task[None]]) -> None:
        looked = uptime()
        while not stopped.done():
            now = uptime()
            if now - looked > ASLEEP_SECONDS:
                _log.warning("this process did not run", seconds=round(now - looked, 1))
                self._confirm_after |= dict.fromkeys(self._feeds, now)
            looked = now
            self._look(now)
            self._changed.clear()
            changed = asyncio.create_task(self._changed.wait())
            watched = {stopped, changed, *helpers, *(hold.task for hold in self._holds.values())}
            await asyncio.wait(watched, timeout=_LOOK_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            changed.cancel()
            for helper in helpers:
                if helper.done():  # they work until they are cancelled: it failed
                    helper.result()

    def _look(self, now: float) -> None:
        """Bring what runs here in line with what is ours."""
        for feed, hold in list(self._holds.items()):
            if hold.task.done():
                self._over(feed, hold)
        reasons = {feed: self._why_not(feed, now) for feed in self._feeds}
        for feed, reason in reasons.items():
            if reason is not None and feed in self._holds:
                self._give_up(feed, reason)
            elif reason is None and feed not in self._holds:
                self._holds[feed] = _Hold(asyncio.create_task(self._own(feed)))

    def _why_not(self, feed: str, now: float) -> str | None:
        """Why a feed must not run here; None: it is ours."""
        group, hold, claim = self._group, self._holds.get(feed), self._claims.newest.get(feed)
        if hold is not None and hold.epoch is not None and claim is not None and claim.epoch > hold.epoch:
            self._confirm_after[feed] = now  # another thinks that it is the owner: only the group knows
            return "superseded"
        if feed not in group.given.feeds or group.confirmed_at is None:
            return "reassigned"
        if group.confirmed_at < self._confirm_after.get(feed, 0):
            return "asleep"
        if not group.given.alone and now - group.confirmed_at > AWAY_SECONDS:
            return "unconfirmed"
        return None

    async def _own(self, feed: str) -> None:
        epoch = await self._claims.claim(feed)
        self._holds[feed].epoch = epoch
        LEASES_TAKEN.labels(self._label).inc()
        self._show()
        _log.info("the feed is ours", feed=feed, epoch=epoch)
        await self._on_owned(feed, epoch)
        await asyncio.get_running_loop().create_future()  # over for good: nobody else shall try it again

    def _give_up(self, feed: str, reason: str) -> None:
        hold = self._holds[feed]
        if hold.ending or hold.task.done():
            return
        hold.ending = True
        self._claims.release(feed)
        hold.task.cancel()
        if hold.epoch is not None:
            LEASES_GIVEN_UP.labels(self._label, reason).inc()
            tell = _log.info if reason == "stopped" else _log.warning
            tell("the feed is given up", feed=feed, epoch=hold.epoch, reason=reason)
        self._show()

    def _over(self, feed: str, hold: _Hold) -> None:
        del self._holds[feed]
        self._show()
        if not hold.task.cancelled():
            hold.task.result()

    async def _ended(self, tasks: list[asyncio.Task[None]]) -> None:
        if not tasks:
            return
        ended, late = await asyncio.wait(tasks, timeout=STOP_SECONDS)
        for task in ended:
            if not task.cancelled() and (error := task.exception()) is not None:
                _log.error("a feed ended with an error", error=repr(error))
        if late:
            _log.error("feeds did not end in time; leaving them", feeds=len(late))

    def _show(self) -> None:
        LEASES_HELD.labels(self._label).set(len(self.owned))

    def _me(self) -> Member:
        return Member(self._feeds, self.owned)
