"""The accounts service: order events and snapshots of every account into Kafka.

Several processes share the accounts: each has one owner at a time (lease.py).
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack
from functools import partial

from aiohttp import ClientSession

from producers import contact
from producers.accounts import keys, requests
from producers.accounts.keys import Keyed
from producers.accounts.owned import Ground, feed_of, own
from producers.accounts.watch import Watch
from producers.announce import small_producer
from producers.contact import START_SECONDS
from producers.lease import Leases
from producers.publisher import Publisher
from producers.session import Session
from schemas.catalogue import (
    ACCOUNT_SNAPSHOTS,
    ACTIVITIES,
    AUDITS,
    CONNECTIONS,
    GAPS,
    LEASES,
    REQUESTS,
    TRADE_UPDATE_FRAMES,
    TRADE_UPDATES,
    Catalogue,
)
from schemas.codec import load_codec
from tidewire import kafka, log, service
from tidewire.clock import Clock, now_ns
from tidewire.config import Settings
from tidewire.dead_letters import SUFFIX
from tidewire.endings import end
from tidewire.health import Health

GROUP = "tidewire-accounts"
"""The consumer group whose members share the accounts, without the topics' prefix."""
NO_ACCOUNTS = "no accounts: name them in accounts.toml (`tidewire accounts example`), or set APCA_API_KEY_ID"

_log = log.get("accounts")


def main(settings: Settings, *, start_seconds: float = START_SECONDS) -> int:
    """Run until SIGINT or SIGTERM; returns the exit code."""
    watcher = Accounts(settings, start_seconds=start_seconds)
    return service.run("accounts", settings, watcher.run, watcher.details)


class Accounts:
    """The parts of the service and their order of start and end."""

    def __init__(
        self, settings: Settings, *, clock: Clock = now_ns, start_seconds: float = START_SECONDS
    ) -> None:
        self._settings, self._clock, self._start_seconds = settings, clock, start_seconds
        self._name = Catalogue(settings.tidewire_topic_prefix, 1).name
        self._feeds: tuple[str, ...] = ()
        self._watches: dict[str, Watch] = {}
        self._publisher: Publisher | None = None
        self._leases: Leases | None = None

    @property
    def watches(self) -> list[Watch]:
        """Of the accounts that are ours, by their names."""
        return [watch for _, watch in sorted(self._watches.items())]

    def details(self) -> Mapping[str, object]:
        """For /health."""
        publisher = self._publisher
        return {
            "accounts": {watch.account.name: watch.details() for watch in self.watches},
            "ingest": self._settings.tidewire_account_mode,
            "buffered_bytes": 0 if publisher is None else publisher.buffered_bytes,
            "kafka": (publisher.trouble if publisher else None) or "ok",
        }

    async def run(self, health: Health, stop: asyncio.Event) -> None:
        """The body of the service.

        Raises:
            ConfigError, UnreachableError, SchemaError: see the messages.
        """
        keyed = keys.load(self._settings)
        if not keyed:
            _log.warning(NO_ACCOUNTS)
            health.ready()
            await stop.wait()
            return
        await contact.reach(self._settings, stop, self._start_seconds)
        if stop.is_set():
            return
        # Order events are few and urgent: nothing is gained by waiting for more of them.
        session = Session(kafka.client_arguments(self._settings))
        publisher = self._publisher = Publisher(session, linger=0.0)
        async with AsyncExitStack() as ending:
            ending.push_async_callback(publisher.stop)
            leases = await self._assemble(ending, publisher, keyed)
            ending.push_async_callback(contact.flush, publisher, "accounts")
            health_task = asyncio.create_task(self._show_health(health, publisher, leases))
            try:
                await leases.run(stop)
            finally:
                health_task.cancel()

    async def _assemble(
        self, ending: AsyncExitStack, publisher: Publisher, keyed: tuple[Keyed, ...]
    ) -> Leases:
        settings, codec = self._settings, load_codec(self._settings)
        written = [*map(self._name, (TRADE_UPDATES, ACCOUNT_SNAPSHOTS, ACTIVITIES, GAPS, AUDITS))]
        others = [*map(self._name, (CONNECTIONS, LEASES, REQUESTS))]
        frames = self._name(TRADE_UPDATE_FRAMES)
        await contact.check_topics(settings, (*written, *others, frames + SUFFIX))
        await publisher.start(written, (frames,))
        rest = await ending.enter_async_context(ClientSession())
        teller = await ending.enter_async_context(small_producer(settings))
        following = asyncio.create_task(requests.follow(settings, codec, self._name(REQUESTS), self._asked))
        ending.push_async_callback(end, following)
        ground = Ground(settings, codec, publisher, rest, teller, self._clock)
        feeds = {feed_of(one.account.name): one for one in keyed}
        self._feeds = tuple(feeds)

        async def on_owned(feed: str, epoch: int) -> None:
            await own(feeds[feed], epoch, ground, partial(self._show, feeds[feed].account.name))

        self._leases = Leases(settings, codec, teller, GROUP, feeds, on_owned, clock=self._clock)
        return self._leases

    def _show(self, account: str, watch: Watch | None) -> None:
        if watch is None:
            self._watches.pop(account, None)
        else:
            self._watches[account] = watch

    def _asked(self, target: str) -> None:
        for watch in self.watches:
            if target in (requests.EVERYBODY, watch.account.name):
                watch.reconcile()

    async def _show_health(self, health: Health, publisher: Publisher, leases: Leases) -> None:
        joined = False
        while True:
            if not joined and leases.trouble is None:
                joined = True
                _log.info("sharing the accounts", ours=len(leases.ours))
            # Ours and not yet followed, or nobody's: it is about to be taken by some process.
            starting = [
                feed
                for feed in self._feeds
                if feed.partition(":")[2] not in self._watches
                and (feed in leases.ours or leases.owner(feed) is None)
            ]
            reasons = [reason for watch in self.watches if (reason := watch.reason)]
            reasons += [f"{feed}: starting" for feed in starting]
            health.ready(publisher.trouble or leases.trouble or ("; ".join(reasons) or None))
            for watch in self.watches:
                watch.count()
            await asyncio.sleep(0.1)
