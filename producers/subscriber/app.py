"""The subscriber service: open positions and movers -> entries of control.subscriptions."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack

from aiohttp import ClientSession
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from aiokafka.structs import ConsumerRecord

from producers import contact
from producers.announce import small_producer
from producers.contact import START_SECONDS
from producers.corporate_actions.poller import SHARE as ACTIONS_SHARE
from producers.corporate_actions.poller import TOPICS as ACTIONS_TOPICS
from producers.corporate_actions.poller import CorporateActions
from producers.history.client import History, pace_of
from producers.interest import Entry
from producers.lease import Leases
from producers.log_follow import LogFollower
from producers.subscriber.entries import Change
from producers.subscriber.rising import Rising
from producers.subscriber.standing import Book
from schemas.catalogue import LEASES, PORTFOLIO_POSITIONS, SUBSCRIPTIONS, Catalogue
from schemas.codec import Codec, load_codec
from schemas.fills import underlying
from schemas.unchanged import Unchanged
from tidewire import kafka, log, service
from tidewire.clock import NS_PER_SECOND, Clock, now_ns
from tidewire.config import Settings
from tidewire.errors import ConfigError, RecordError
from tidewire.health import Health
from tidewire.metrics import SUBSCRIPTION_CHANGES, SUBSCRIPTION_REPAIRS

GROUP = "tidewire-subscriber"
FEED = "subscriber"
"""The name of its lease: one process is active, others stand by."""
TURN_SECONDS = 1.0
"""So often what stands is compared with what should, though nothing has been read."""
MOVERS_SHARE = 0.1
"""Of the rate limit of REST; backfill and audits need the rest."""
_SEND_SECONDS = 15.0
_PAUSE_SECONDS = 2.0

_log = log.get("subscriber")


def main(settings: Settings, *, start_seconds: float = START_SECONDS) -> int:
    """Run until SIGINT or SIGTERM; returns the exit code."""
    subscriber = Subscriber(settings, start_seconds=start_seconds)
    return service.run("subscriber", settings, subscriber.run, subscriber.details)


class Subscriber:
    """Follows portfolio.positions and control.subscriptions, whole and without a group, and writes what is
    missing to the latter.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        clock: Clock = now_ns,
        start_seconds: float = START_SECONDS,
    ) -> None:
        self._settings, self._clock = settings, clock
        self._start_seconds = start_seconds
        name = Catalogue(settings.tidewire_topic_prefix, 1).name
        self._positions, self._subscriptions = name(PORTFOLIO_POSITIONS), name(SUBSCRIPTIONS)
        self._leases_topic = name(LEASES)
        self._leases: Leases | None = None
        self._grace_ns = int(settings.tidewire_position_grace_seconds * NS_PER_SECOND)
        self._book = Book(self._grace_ns)
        self._unchanged: Callable[[bytes, bytes | None], bool] = lambda key, value: False
        self._rising: Rising | None = None
        self._actions: CorporateActions | None = None
        self._actions_history: History | None = None
        self._trouble: str | None = "starting"
        self._compared_at: float | None = None
        self._unreadable = 0

    def details(self) -> Mapping[str, object]:
        """For /health."""
        rising, compared = self._rising, self._compared_at
        return {
            "active": bool(self._leases and self._leases.owned),
            "held_symbols": len(self._book.holdings.held(self._clock())),
            "entries": self._book.standing(),
            "movers": None if rising is None else rising.found(),
            "movers_trouble": None if rising is None else rising.trouble,
            "corporate_actions": None if self._actions is None else self._actions.details(),
            "seconds_since_comparison": None if compared is None else round(time.monotonic() - compared, 1),
            "unreadable_records": self._unreadable,
        }

    async def run(self, health: Health, stop: asyncio.Event) -> None:
        """The body of the service.

        Raises:
            ConfigError, UnreachableError, SchemaError: see the messages.
        """
        await contact.reach(self._settings, stop, self._start_seconds)
        if stop.is_set():
            return
        await contact.check_topics(self._settings, (self._positions, self._subscriptions, self._leases_topic))
        codec = load_codec(self._settings)
        async with AsyncExitStack() as ending:
            producer = await ending.enter_async_context(small_producer(self._settings))
            producer.client.add_topic(self._subscriptions)
            session = await ending.enter_async_context(ClientSession())
            if self._settings.tidewire_movers:
                history = History(self._settings, session, pace_of(self._settings, MOVERS_SHARE))
                self._rising = Rising(history, self._universe, self._clock)
            self._actions_history = await self._prepare_actions(session)

            async def owned(_feed: str, epoch: int) -> None:
                await self._own(codec, producer, epoch)

            leases = self._leases = Leases(self._settings, codec, producer, GROUP, (FEED,), owned)
            showing = asyncio.create_task(self._show_health(health, leases))
            ending.callback(showing.cancel)
            await leases.run(stop)

    async def _prepare_actions(self, session: ClientSession) -> History | None:
        """The client that looks for corporate actions; None: there are no keys to look with.

        Raises:
            SchemaError: a topic is missing.
        """
        try:
            history = History(self._settings, session, pace_of(self._settings, ACTIONS_SHARE))
        except ConfigError as error:
            _log.warning("nobody looks for corporate actions", reason=str(error))
            return None
        name = Catalogue(self._settings.tidewire_topic_prefix, 1).name
        await contact.check_topics(self._settings, tuple(map(name, ACTIONS_TOPICS)))
        return history

    async def _own(self, codec: Codec, producer: AIOKafkaProducer, epoch: int) -> None:
        """The work, while the lease is ours; entries of a former owner are ours, it had the same holders."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._forever(codec, producer))
                if self._rising is not None:
                    tasks.create_task(self._rising.run())
                if self._actions_history is not None:
                    self._actions = CorporateActions(
                        self._settings,
                        codec,
                        producer,
                        self._actions_history,
                        self._stocks,
                        self._clock,
                        epoch,
                    )
                    tasks.create_task(self._actions.run())
        finally:
            self._actions = None
            self._book, self._trouble = Book(self._grace_ns), "starting"

    # -- reading

    async def _forever(self, codec: Codec, producer: AIOKafkaProducer) -> None:
        while True:
            try:
                await self._follow(codec, producer)
            except (KafkaError, OSError, AssertionError, TypeError) as error:  # see session.py for the last
                self._trouble = f"Kafka: {error!r}"
                _log.warning("positions and subscriptions cannot be followed", error=repr(error))
            await asyncio.sleep(_PAUSE_SECONDS)

    async def _follow(self, codec: Codec, producer: AIOKafkaProducer) -> None:
        """Read both topics from their beginning, and write what is missing, until Kafka is away: what became
        of our own last records is then not known, and the whole is read again.
        """
        book, self._unchanged = Book(self._grace_ns), Unchanged(codec)
        log = LogFollower(
            kafka.client_arguments(self._settings),
            (self._positions, self._subscriptions),
            poll_seconds=TURN_SECONDS,
        )
        write_at = time.monotonic()

        async def take(records: Sequence[ConsumerRecord]) -> None:
            nonlocal write_at
            news = self._take(records, codec, book)
            # Nothing is decided before both are known whole: half of them would look like closed positions.
            if log.behind:
                return
            self._book, self._trouble = book, None
            if news or time.monotonic() >= write_at:  # otherwise only prices have moved
                await self._write(codec, producer, book)
                self._compared_at = time.monotonic()
                write_at = self._compared_at + TURN_SECONDS

        await log.follow(take)

    def _take(self, records: Sequence[ConsumerRecord], codec: Codec, book: Book) -> bool:
        """Take over what was read; returns whether any of it may change what is wanted."""
        news = False
        for record in records:
            if record.topic == self._positions:
                news |= self._position(codec, book, record)
            else:
                self._entry(codec, book, record)
                news = True
        return news

    def _position(self, codec: Codec, book: Book, record: ConsumerRecord) -> bool:
        key, now = record.key or b"", self._clock()
        if self._unchanged(key, record.value):
            return False
        content = None
        if record.value is not None:
            content = self._content(codec, record, "portfolio_position")
            if content is None:  # what was known of the position stands
                return False
        book.position(key, content, now)
        return True

    def _entry(self, codec: Codec, book: Book, record: ConsumerRecord) -> None:
        content = None if record.value is None else self._content(codec, record, "subscription")
        book.entry(record.key or b"", None if content is None else Entry.of(content))

    def _content(self, codec: Codec, record: ConsumerRecord, stem: str) -> Mapping[str, object] | None:
        try:
            found, content = codec.decode(record.value)
            if found != stem:
                raise RecordError(f"a {found} record")
        except RecordError as error:
            self._unreadable += 1
            _log.warning("unreadable", topic=record.topic, offset=record.offset, reason=str(error))
            return None
        return content

    # -- writing

    async def _write(self, codec: Codec, producer: AIOKafkaProducer, book: Book) -> None:
        rising = self._rising.found() if self._rising is not None else ()
        positions = self._settings.tidewire_subscribe_positions
        changes = book.changes(self._clock(), positions=positions, rising=rising)
        if not changes:
            return
        async with asyncio.timeout(_SEND_SECONDS):
            sent = [
                await producer.send(
                    self._subscriptions,
                    key=change.key,
                    value=None if change.record is None else codec.encode("subscription", change.record),
                )
                for change in changes
            ]
            await asyncio.gather(*sent)
        for change in changes:
            book.entry(change.key, None if change.record is None else Entry.of(change.record))
        _count(changes, sum(map(book.is_repair, changes)))

    def _universe(self) -> set[str]:
        return (self._book.stocks() | set(self._settings.symbols)) - {"*"}

    def _stocks(self) -> set[str]:
        """Stocks that somebody holds, also as an option's underlying, watches, or follows."""
        options = (
            s for s, of_class in self._book.holdings.held(self._clock()).items() if of_class == "us_option"
        )
        return self._universe() | {underlying(symbol) for symbol in options}

    async def _show_health(self, health: Health, leases: Leases) -> None:
        while True:
            health.ready(
                leases.trouble or (self._trouble if leases.ours else None)
            )  # standing by is no trouble
            await asyncio.sleep(0.1)


def _count(changes: list[Change], repairs: int) -> None:
    counted = Counter((change.holder, change.what) for change in changes)
    for (holder, what), number in counted.items():
        SUBSCRIPTION_CHANGES.labels(holder, what).inc(number)
    SUBSCRIPTION_REPAIRS.inc(repairs)
    _log.info("subscriptions changed", **{f"{holder}_{what}": n for (holder, what), n in counted.items()})
