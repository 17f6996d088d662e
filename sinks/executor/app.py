"""The executor service: order intents to the broker, each account by one process at a time.

Nothing else of this installation orders with the accounts' keys.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack

from aiohttp import ClientSession, TCPConnector
from aiokafka.errors import KafkaError

from schemas.catalogue import ORDER_INTENTS, ORDER_RESULTS, SIGNALS, TRADE_UPDATES, Catalogue
from schemas.codec import Codec, Record, load_codec
from sinks.executor import failpoints
from sinks.executor.desks import Desks
from sinks.executor.intake import Intake, News
from sinks.executor.kill_switch import KillSwitch
from sinks.executor.last_look import PostTimer, kernel
from sinks.executor.late_orders import LateOrders
from sinks.executor.ledger import Ledger
from sinks.executor.results import Relay
from sinks.executor.signals import Follower, Signals
from sinks.executor.worker import Ground
from sinks.postgres import connection, migrate
from sinks.postgres.topic_ids import topic_ids
from tidewire import accounts, log, service
from tidewire.clock import Clock, now_ns
from tidewire.config import Settings
from tidewire.endings import end
from tidewire.errors import SchemaError, TidewireError, UnreachableError
from tidewire.health import Health
from tidewire.kafka import check_reachable
from tidewire.metrics import EXECUTOR_WORKING
from tidewire.slots import Slot

GROUP = "tidewire-executor"
PATIENCE = 30.0
"""Seconds that servers and topics may take to appear at the start."""
FLUSH = 3.0
"""Seconds that a stop waits for Kafka to take the results; the rest goes out with the next start."""
NO_ACCOUNTS = "no accounts: name them in accounts.toml (`tidewire accounts example`), or set APCA_API_KEY_ID"

_log = log.get("executor")


def main(settings: Settings) -> int:
    """Run until SIGINT or SIGTERM; returns the exit code."""
    executor = Executor(settings, timer=PostTimer(kernel))
    return service.run("executor", settings, executor.run, executor.details)


class Executor:
    """The parts of the service and their order of start and end."""

    def __init__(self, settings: Settings, clock: Clock = now_ns, timer: PostTimer | None = None) -> None:
        self._settings, self._clock = settings, clock
        self._timer = timer or PostTimer()
        self._catalogue = Catalogue(settings.tidewire_topic_prefix, 1)
        self._desks: Desks | None = None
        self._intake: Intake | None = None
        self._relay: Relay | None = None
        self._ledger: Ledger | None = None

    def details(self) -> Mapping[str, object]:
        """For /health."""
        desks, relay = self._desks, self._relay
        return {
            "accounts": {} if desks is None else desks.details(),
            "results": (relay.trouble if relay else None) or "ok",
        }

    async def run(self, health: Health, stop: asyncio.Event) -> None:
        """The body of the service.

        Raises:
            ConfigError, UnreachableError, SchemaError: see the messages.
        """
        settings = self._settings
        failpoint = failpoints.from_environment()
        found = accounts.load(settings)
        if not found:
            _log.warning(NO_ACCOUNTS)
            health.ready()
            await stop.wait()
            return
        url = connection.url(settings)
        names = [self._catalogue.name(topic) for topic in (ORDER_INTENTS, ORDER_RESULTS, TRADE_UPDATES)]
        if not await self._prepare(url, names, stop):
            return
        codec = await asyncio.to_thread(load_codec, settings)
        async with AsyncExitStack() as ending:
            slot = Slot(settings.tidewire_home / "run", "executor")
            ending.callback(slot.release)
            ledger = self._ledger = Ledger(url, slot.instance)
            ending.push_async_callback(ledger.close)
            relay = self._relay = Relay(settings, names[1], ledger, lambda: desks.ours)
            encode = codec.encoder("order_result")
            ground = Ground(
                ledger,
                encode,
                lambda value: codec.decode(value)[1],
                self._clock,
                failpoint,
                relay.poke,
                self._timer,
            )
            session = await ending.enter_async_context(ClientSession(connector=TCPConnector(limit=0)))
            switch = KillSwitch(settings.tidewire_home, url)
            ending.push_async_callback(switch.close)
            signals = Signals()
            desks = self._desks = Desks(settings, found, ground, session, switch, signals)
            if any(account.risk.block_entries_on for account in found):
                topic = self._catalogue.name(SIGNALS)
                following = Follower(settings, codec, topic, signals, self._clock)
                ending.push_async_callback(end, asyncio.create_task(following.run()))
            await self._work(codec, slot.instance, names, desks, health, stop, failpoint)

    async def _work(
        self,
        codec: Codec,
        instance: str,
        names: list[str],
        desks: Desks,
        health: Health,
        stop: asyncio.Event,
        failpoint: failpoints.Failpoint,
    ) -> None:
        settings, relay = self._settings, self._relay
        assert relay is not None
        intake = self._intake = Intake(
            settings, codec, names[0], self._catalogue.name(GROUP), instance,
            settle=desks.settle, take=desks.take, replayed=desks.replayed, belongs=desks.belongs,
            failpoint=failpoint,
        )  # fmt: skip
        desks.on_fenced = intake.rejoin
        assert self._ledger is not None
        late = LateOrders(self._ledger)

        def tell(update: Record) -> None:
            desks.nudge(update["order_id"])
            late.see(update)

        news = News(settings, codec, names[2], tell)
        reading = asyncio.create_task(intake.run())
        others = [
            asyncio.create_task(each) for each in (relay.run(), news.run(), late.run(), self._show(health))
        ]
        ended = asyncio.create_task(stop.wait())
        try:
            done, _ = await asyncio.wait({reading, *others, ended}, return_when=asyncio.FIRST_COMPLETED)
            for task in done - {ended}:
                task.result()
        finally:
            await end(reading)
            await desks.stop()
            try:
                await asyncio.wait_for(relay.flush(), FLUSH)
            except (TimeoutError, TidewireError):
                _log.warning("results stay in the outbox until the next start")
            await end(*others, ended)

    async def _prepare(self, url: str, topics: list[str], stop: asyncio.Event) -> bool:
        """Wait for both servers, bring the tables up to date; False: told to stop meanwhile.

        Raises:
            UnreachableError, SchemaError: a server or topic was not there within PATIENCE.
        """
        deadline = asyncio.get_running_loop().time() + PATIENCE
        while not stop.is_set():
            try:
                await check_reachable(self._settings)
                await asyncio.to_thread(migrate.apply, url)
                if missing := sorted(set(topics) - (await topic_ids(self._settings, topics)).keys()):
                    raise SchemaError(
                        f"no such topics: {', '.join(missing)}. Create them with `tidewire topics apply`."
                    )
                return True
            except (UnreachableError, SchemaError, KafkaError) as error:
                if asyncio.get_running_loop().time() >= deadline:
                    raise
                _log.info("waiting", reason=str(error))
                await asyncio.sleep(0.5)
        return False

    async def _show(self, health: Health) -> None:
        assert self._desks is not None
        assert self._intake is not None
        assert self._ledger is not None
        while True:
            EXECUTOR_WORKING.set(self._desks.working)
            health.ready(self._ledger.trouble or self._intake.trouble or self._desks.trouble)
            await asyncio.sleep(0.1)
