"""The accounts service: order events and snapshots of every account into Kafka."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping
from contextlib import AsyncExitStack

from aiohttp import ClientSession

from producers import contact
from producers.accounts import keys
from producers.accounts.journal import Journal
from producers.accounts.keys import Keyed
from producers.accounts.link import Link
from producers.accounts.recall import Recalled, recall
from producers.accounts.redaction import Redactor
from producers.accounts.rest import TradingApi
from producers.accounts.rounds import Rounds
from producers.accounts.stream import TradeUpdateStream
from producers.accounts.watch import Watch
from producers.announce import Announcer, small_producer
from producers.connection import Connection
from producers.contact import START_SECONDS
from producers.publisher import Publisher
from producers.session import Session
from schemas.catalogue import ACCOUNT_SNAPSHOTS, CONNECTIONS, TRADE_UPDATE_FRAMES, TRADE_UPDATES, Catalogue
from schemas.codec import load_codec
from tidewire import kafka, log, service
from tidewire.clock import NS_PER_SECOND, Clock, now_ns
from tidewire.config import Settings
from tidewire.dead_letters import SUFFIX
from tidewire.health import Health

SETTLE_SECONDS = 10.0
"""How long a snapshot waits for the events before it to be acknowledged."""
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
        self.watches: list[Watch] = []
        self._publisher: Publisher | None = None

    def details(self) -> Mapping[str, object]:
        """For /health."""
        publisher = self._publisher
        return {
            "accounts": {watch.account.name: watch.details() for watch in self.watches},
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
            await self._assemble(ending, publisher, keyed)
            ending.push_async_callback(contact.flush, publisher, "accounts")
            health_task = asyncio.create_task(self._show_health(health, publisher))
            try:
                async with asyncio.TaskGroup() as tasks:
                    for watch in self.watches:
                        tasks.create_task(watch.run(stop))
                    tasks.create_task(stop.wait())  # with every account refused it still says so
            finally:
                health_task.cancel()

    async def _assemble(self, ending: AsyncExitStack, publisher: Publisher, keyed: tuple[Keyed, ...]) -> None:
        settings = self._settings
        codec = load_codec(settings)
        updates, snapshots, frames, connections = map(
            self._name, (TRADE_UPDATES, ACCOUNT_SNAPSHOTS, TRADE_UPDATE_FRAMES, CONNECTIONS)
        )
        await contact.check_topics(settings, (updates, snapshots, connections, frames + SUFFIX))
        await publisher.start((updates, snapshots), (frames,))
        recalled = await recall(
            kafka.client_arguments(settings),
            codec,
            [k.account.name for k in keyed],
            updates=publisher.partitions(updates),
            snapshots=publisher.partitions(snapshots),
        )
        publisher.expect(recalled.ends)
        rest = await ending.enter_async_context(ClientSession())
        teller = await ending.enter_async_context(small_producer(settings))
        # Seconds since 1970: greater at every start, until leases hand out epochs.
        epoch = self._clock() // NS_PER_SECOND
        for one in keyed:
            name = one.account.name
            redactor = Redactor(one.key, one.secret)
            journal = Journal(
                name, codec, publisher, recalled.memories[name], redactor,
                updates_topic=updates, snapshots_topic=snapshots, frames_topic=frames, owner_epoch=epoch,
            )  # fmt: skip
            announcer = Announcer(
                settings, codec, teller, f"trading:{name}", owner_epoch=epoch, clock=self._clock
            )
            self.watches.append(self._watch(one, journal, redactor, recalled, rest, announcer, publisher))

    def _watch(
        self,
        one: Keyed,
        journal: Journal,
        redactor: Redactor,
        recalled: Recalled,
        rest: ClientSession,
        announcer: Announcer,
        publisher: Publisher,
    ) -> Watch:
        settings, account = self._settings, one.account
        rounds = Rounds(
            TradingApi(rest, account.trading_url(settings), one.key, one.secret),
            journal,
            recalled.last.get(account.name),
            redactor,
            lambda: asyncio.wait_for(publisher.flush(), SETTLE_SECONDS),
            self._clock,
            settings.tidewire_snapshot_seconds,
        )
        url = account.trading_stream_url(settings)
        link = Link(
            url,
            TradeUpdateStream(url, one.key.get_secret_value(), one.secret.get_secret_value()),
            journal,
            publisher,
            Connection(random.random),
            rounds,
            announcer.state,
            redactor,
            self._clock,
        )
        return Watch(account, link, rounds, announcer)

    async def _show_health(self, health: Health, publisher: Publisher) -> None:
        while True:
            reasons = [reason for watch in self.watches if (reason := watch.reason)]
            health.ready(publisher.trouble or ("; ".join(reasons) or None))
            await asyncio.sleep(0.1)
