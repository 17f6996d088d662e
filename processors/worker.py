"""One Faust worker as a service: topics checked, started, watched, stopped. What it folds is passed in."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

import faust
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from processors.columns.app import ColumnApp
from processors.columns.changelog_writer import DeposedError
from processors.columns.changelogs import create_missing
from processors.columns.output import Output, new_producer, track
from processors.columns.pacing import DEFAULT_FETCH, Fetch
from processors.standstill import Standstill
from schemas.codec import Codec, load_codec
from tidewire import log
from tidewire.config import Settings
from tidewire.dead_letters import SUFFIX
from tidewire.errors import SchemaError, TidewireError
from tidewire.health import Health
from tidewire.kafka import bootstrap, check_reachable, client_arguments, start
from tidewire.metrics import CONSUMER_LAG, TABLE_KEYS

SESSION_SECONDS = 6.0
"""So long a killed worker's partitions wait for the next; Kafka allows no less by default."""
HEARTBEAT_SECONDS = 1.5
_MAX_REPLICAS = 3
_STOP_SECONDS = 4.0
_WATCH_SECONDS = 0.5
_CONTACT_SECONDS = 5.0
_BEHIND_SECONDS = 10.0
_SWITCH_SECONDS = 0.0005
"""The thread that fetches asks for the interpreter several times for each fetch, and with Python's 5 ms it
would wait so long each time that an agent is at work."""

_log = log.get(__name__)

Build = Callable[[ColumnApp, Codec], None]
"""Puts tables and agents into the app, before it starts and inside the running event loop."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What one worker is.

    `name` is its folder in the home and its client id; `app_id` (without prefix) its consumer group; `stage`
    stands in metrics and dead letters. Topics are real names: `inputs` are read, and have dead letters;
    `outputs` are written with the inputs' partitioning; both need one partition count. `others` are written
    with any number of partitions.
    """

    name: str
    app_id: str
    stage: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    others: tuple[str, ...] = ()
    fetch: Fetch = DEFAULT_FETCH


class Worker:
    """One run of a service. `build` is called once Kafka and its topics have been looked at."""

    def __init__(self, settings: Settings, plan: Plan, build: Build) -> None:
        self._settings, self._plan, self._build = settings, plan, build
        self._app: ColumnApp | None = None
        self._kafka_lost: str | None = None

    async def run(self, health: Health, stop: asyncio.Event) -> None:
        """Fold until `stop` is set.

        Raises:
            UnreachableError: Kafka was never there.
            TidewireError: the worker crashed; the message says of what.
        """
        sys.setswitchinterval(_SWITCH_SECONDS)
        await check_reachable(self._settings)
        codec = await asyncio.to_thread(load_codec, self._settings)
        producer = new_producer(self._settings, f"tidewire-{self._plan.name}")
        await start(producer)
        try:
            partitions, brokers = await self._look_at(producer)
            (self._settings.tidewire_home / self._plan.name).mkdir(parents=True, exist_ok=True)
            replicas = min(brokers, _MAX_REPLICAS)
            app = new_app(self._settings, self._plan, Output(producer), partitions, replicas)
            self._build(app, codec)
            await create_missing(self._settings, app.changelogs, partitions, replicas)
            self._app = app
            await self._work(app, producer, health, stop)
        finally:
            await _stop_in_time(producer.stop(), sys.exc_info()[1])

    async def _look_at(self, producer: AIOKafkaProducer) -> tuple[int, int]:
        """Partition count of the topics and number of brokers; the producer then tracks the topics.

        Raises:
            SchemaError: a topic is missing, or they are not partitioned alike.
        """
        cluster = await producer.client.fetch_all_metadata()
        plan = self._plan
        alike = [*plan.inputs, *plan.outputs]
        needed = [*alike, *plan.others, *(name + SUFFIX for name in plan.inputs)]
        missing = [name for name in needed if not cluster.partitions_for_topic(name)]
        if missing:
            raise SchemaError(f"no such topic: {', '.join(missing)}. `tidewire topics apply` creates them.")
        counts = {name: len(cluster.partitions_for_topic(name)) for name in alike}
        if len(set(counts.values())) > 1:
            raise SchemaError(
                "topics with the same key need the same number of partitions, but there are "
                + ", ".join(f"{count} of {name}" for name, count in counts.items())
            )
        await track(producer, needed)
        return counts[alike[0]], len(cluster.brokers())

    async def _work(
        self, app: ColumnApp, producer: AIOKafkaProducer, health: Health, stop: asyncio.Event
    ) -> None:
        starting = asyncio.create_task(app.start())  # returns when the tables are recovered
        watch = asyncio.create_task(self._watch(app, health))
        contact = asyncio.create_task(self._keep_contact(producer))
        behind = asyncio.create_task(self._look_behind(app))
        stopped = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait([starting, watch, stopped], return_when=asyncio.FIRST_COMPLETED)
            if not (starting.done() and starting.exception()):
                await asyncio.wait([watch, stopped], return_when=asyncio.FIRST_COMPLETED)
        finally:
            health.ready("stopping")
            for task in (watch, contact, behind, stopped):
                task.cancel()
            await asyncio.sleep(0)
            failure = app.crash_reason or _error(starting) or _error(watch)
            await _stop_in_time(app.stop(), failure)
            starting.cancel()
        _raise_crash(failure)

    async def _watch(self, app: ColumnApp, health: Health) -> None:
        """Keep /readyz and the gauges up to date; return when the app has crashed.

        Raises:
            TidewireError: it stands still before it serves, though Kafka answers.
        """
        standstill = Standstill()
        while not app.crashed:  # set by several threads, so there is no event to wait for
            waits = _not_ready(app)
            health.ready(self._kafka_lost or waits)
            if standstill.look(waits is None or self._kafka_lost is not None, _progress(app)):
                raise TidewireError(
                    f"no progress for minutes, though Kafka answers: {waits}. Ending, so that the next start "
                    "joins and recovers anew."
                )
            for tp, lag in app.lags():
                CONSUMER_LAG.labels(self._plan.stage, tp.topic, tp.partition).set(lag)
            for table in app.column_tables:
                TABLE_KEYS.labels(table.name).set(table.key_count())
            await asyncio.sleep(_WATCH_SECONDS)

    async def _keep_contact(self, producer: AIOKafkaProducer) -> None:
        """Notice a lost Kafka; the clients themselves wait and go on."""
        while True:
            try:
                reached = await producer.client.force_metadata_update()
            except (KafkaError, OSError):
                reached = False
            self._kafka_lost = None if reached else f"Kafka does not answer at {bootstrap(self._settings)}"
            await asyncio.sleep(_CONTACT_SECONDS)

    async def _look_behind(self, app: ColumnApp) -> None:
        """Has a worker that stood still written behind us? While records come, each commit asks too."""
        while True:
            await asyncio.sleep(_BEHIND_SECONDS)
            if _not_ready(app) is not None:
                continue
            term = app.consumer.term
            try:
                for table in app.column_tables:
                    await table.look_behind()
            except DeposedError:
                app.consumer.forget_parts(term)
            except (KafkaError, OSError) as error:
                _log.warning("the end of a changelog is not known; asking again", reason=repr(error))
            except Exception as error:
                await app.crash(error)
                raise

    def details(self) -> dict[str, object]:
        """For /health: partitions and lag by topic; keys of each table as far as served, and of the first.

        `standby`: by table, the partitions stood by for and how far each is behind its changelog; `read`: by
        table, the changelog records that recoveries of served partitions and standbys have read so far.
        """
        if self._app is None:
            return {}
        partitions: dict[str, list[int]] = {}
        lags: dict[str, int] = {}
        for tp, lag in self._app.lags():
            partitions.setdefault(tp.topic, []).append(tp.partition)
            lags[tp.topic] = lags.get(tp.topic, 0) + lag
        tables = {table.name: table.key_count() for table in self._app.column_tables}
        found = {"partitions": partitions, "lag": lags, "tables": tables}
        return found | {
            "keys": next(iter(tables.values()), 0),
            "standby": {table.name: table.behind() for table in self._app.column_tables},
            "read": {table.name: dict(table.read) for table in self._app.column_tables},
        }


def new_app(settings: Settings, plan: Plan, output: Output, partitions: int, replicas: int) -> ColumnApp:
    """A Faust app for these settings, with nothing in it yet; it runs in the current event loop."""
    return ColumnApp(
        settings.tidewire_topic_prefix + plan.app_id,
        output=output,
        fetch=plan.fetch,
        broker=[f"kafka://{address}" for address in bootstrap(settings).split(",")],
        broker_credentials=_credentials(settings),
        broker_commit_interval=1.0,
        broker_session_timeout=SESSION_SECONDS,
        broker_heartbeat_interval=HEARTBEAT_SECONDS,
        consumer_auto_offset_reset="earliest",
        consumer_max_fetch_size=8 * 1024 * 1024,
        store="memory://",
        topic_partitions=partitions,
        topic_replication_factor=replicas,
        topic_disable_leader=True,  # its topic is for timers that only one worker runs; there are none
        table_standby_replicas=1,  # of two workers or more; one alone has none
        stream_recovery_delay=0,
        stream_wait_empty=True,  # see ColumnApp.finish_batches
        datadir=settings.tidewire_home / plan.name,
        web_enabled=False,
        autodiscover=False,
    )


def _credentials(settings: Settings) -> Any:
    arguments = client_arguments(settings)
    if settings.kafka_security_protocol.startswith("SASL"):
        return faust.SASLCredentials(
            username=arguments["sasl_plain_username"],
            password=arguments["sasl_plain_password"],
            mechanism=arguments["sasl_mechanism"],
            ssl_context=arguments["ssl_context"],
        )
    if arguments["ssl_context"] is not None:
        return faust.SSLCredentials(arguments["ssl_context"])
    return None


def _error(task: asyncio.Task[None]) -> BaseException | None:
    return task.exception() if task.done() and not task.cancelled() else None


def _not_ready(app: ColumnApp) -> str | None:
    if not app.started or app.rebalancing or not app.tables.recovery.completed.is_set():
        return "joining the consumer group and recovering the table"
    return None


def _progress(app: ColumnApp) -> object:
    """What changes while a worker joins its group or recovers its tables."""
    read = [dict(table.read) for table in app.column_tables]
    return app.started, app.rebalancing, app.consumer_generation_id, read


def _raise_crash(reason: BaseException | None) -> None:
    if isinstance(reason, TidewireError):
        raise reason
    if reason is not None:
        _log.error("the worker crashed", exc_info=reason)
        raise TidewireError(
            f"the worker crashed: {reason!r}. Nothing is lost: what was not committed is read again at the "
            "next start."
        ) from reason


async def _stop_in_time(stopping: Coroutine[Any, Any, object], failure: BaseException | None) -> None:
    """Stop, or leave at once: a worker must not hang, and whatever is undone is done again."""
    task = asyncio.create_task(stopping)
    await asyncio.wait([task], timeout=_STOP_SECONDS)
    if not task.done():
        _log.error(
            "the worker does not stop; leaving. The rest is read again at the next start", cause=failure
        )
        sys.stderr.flush()
        os._exit(1 if failure else 0)
