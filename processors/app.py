"""The processor service: a Faust app that folds the stock streams into the features table."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Coroutine
from typing import Any

import faust
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from processors.columns.app import ColumnApp
from processors.columns.output import Output, new_producer, track
from processors.stock_features import STAGE, StockFeatures
from schemas.catalogue import STOCK_FEATURES, STOCK_QUOTES, STOCK_TRADES, Catalogue
from schemas.codec import load_codec
from tidewire import log, service
from tidewire.clock import now_ns
from tidewire.config import Settings
from tidewire.dead_letters import SUFFIX
from tidewire.errors import SchemaError, TidewireError
from tidewire.health import Health
from tidewire.kafka import bootstrap, check_reachable, client_arguments
from tidewire.metrics import CONSUMER_LAG, TABLE_KEYS

APP_ID = "tidewire-processor"
_FOLDER = "processor"  # Faust wants one, although the table is in memory and on Kafka
_MAX_REPLICAS = 3
_STOP_SECONDS = 4.0
_WATCH_SECONDS = 0.5
_CONTACT_SECONDS = 5.0

_log = log.get(__name__)


def main(settings: Settings) -> int:
    """Run the processor until SIGINT or SIGTERM; returns its exit code."""
    processor = Processor(settings)
    return service.run("processor", settings, processor.run, processor.details)


class Processor:
    """One run of the service."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._catalogue = Catalogue(settings.tidewire_topic_prefix, settings.tidewire_partitions or 4)
        self._features: StockFeatures | None = None
        self._kafka_lost: str | None = None

    async def run(self, health: Health, stop: asyncio.Event) -> None:
        """Fold until `stop` is set.

        Raises:
            UnreachableError: Kafka was never there.
            TidewireError: the worker crashed; the message says of what.
        """
        await check_reachable(self._settings)
        codec = await asyncio.to_thread(load_codec, self._settings)
        producer = new_producer(self._settings)
        await producer.start()
        try:
            partitions, brokers = await self._look_at(producer)
            (self._settings.tidewire_home / _FOLDER).mkdir(parents=True, exist_ok=True)
            app = new_app(self._settings, Output(producer), partitions, min(brokers, _MAX_REPLICAS))
            self._features = StockFeatures(app, self._catalogue, codec, now_ns)
            await self._work(app, producer, health, stop)
        finally:
            await _stop_in_time(producer.stop(), sys.exc_info()[1])

    async def _look_at(self, producer: AIOKafkaProducer) -> tuple[int, int]:
        """Partition count of the topics and number of brokers; the producer then tracks the topics.

        Raises:
            SchemaError: a topic is missing, or they are not partitioned alike.
        """
        cluster = await producer.client.fetch_all_metadata()
        names = [self._catalogue.name(topic) for topic in (STOCK_TRADES, STOCK_QUOTES, STOCK_FEATURES)]
        needed = [*names, names[0] + SUFFIX, names[1] + SUFFIX]
        missing = [name for name in needed if not cluster.partitions_for_topic(name)]
        if missing:
            raise SchemaError(f"no such topic: {', '.join(missing)}. `tidewire topics apply` creates them.")
        counts = {name: len(cluster.partitions_for_topic(name)) for name in names}
        if len(set(counts.values())) > 1:
            raise SchemaError(
                "topics with the same key need the same number of partitions, but there are "
                + ", ".join(f"{count} of {name}" for name, count in counts.items())
            )
        await track(producer, needed)
        return counts[names[0]], len(cluster.brokers())

    async def _work(
        self, app: ColumnApp, producer: AIOKafkaProducer, health: Health, stop: asyncio.Event
    ) -> None:
        start = asyncio.create_task(app.start())  # returns when the table is recovered
        watch = asyncio.create_task(self._watch(app, health))
        contact = asyncio.create_task(self._keep_contact(producer))
        stopped = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait([start, watch, stopped], return_when=asyncio.FIRST_COMPLETED)
            if not (start.done() and start.exception()):
                await asyncio.wait([watch, stopped], return_when=asyncio.FIRST_COMPLETED)
        finally:
            health.ready("stopping")
            for task in (watch, contact, stopped):
                task.cancel()
            await asyncio.sleep(0)
            failure = app.crash_reason or _error(start) or _error(watch)
            await _stop_in_time(app.stop(), failure)
            start.cancel()
        _raise_crash(failure)

    async def _watch(self, app: ColumnApp, health: Health) -> None:
        """Keep /readyz and the gauges up to date; return when the app has crashed."""
        while not app.crashed:  # set by several threads, so there is no event to wait for
            health.ready(self._kafka_lost or _not_ready(app))
            if self._features is not None:
                for tp, lag in self._features.lags():
                    CONSUMER_LAG.labels(STAGE, tp.topic, tp.partition).set(lag)
                TABLE_KEYS.labels(self._features.table.name).set(self._features.table.key_count())
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

    def details(self) -> dict[str, object]:
        """For /health: partitions by topic, lag by topic, keys of the table."""
        if self._features is None:
            return {}
        partitions: dict[str, list[int]] = {}
        lags: dict[str, int] = {}
        for tp, lag in self._features.lags():
            partitions.setdefault(tp.topic, []).append(tp.partition)
            lags[tp.topic] = lags.get(tp.topic, 0) + lag
        return {"partitions": partitions, "lag": lags, "keys": self._features.table.key_count()}


def new_app(settings: Settings, output: Output, partitions: int, replicas: int) -> ColumnApp:
    """A Faust app for these settings, with nothing in it yet; it runs in the current event loop."""
    return ColumnApp(
        settings.tidewire_topic_prefix + APP_ID,
        output=output,
        broker=[f"kafka://{address}" for address in bootstrap(settings).split(",")],
        broker_credentials=_credentials(settings),
        broker_commit_interval=1.0,
        broker_session_timeout=10.0,  # so long a killed worker's partitions wait for the next
        broker_heartbeat_interval=2.0,
        consumer_auto_offset_reset="earliest",
        consumer_max_fetch_size=8 * 1024 * 1024,
        store="memory://",
        topic_partitions=partitions,
        topic_replication_factor=replicas,
        table_standby_replicas=0,
        stream_recovery_delay=0,
        stream_wait_empty=True,  # see ColumnApp.finish_batches
        datadir=settings.tidewire_home / _FOLDER,
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
