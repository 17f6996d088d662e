"""The way out of the exits service: a trigger is durable first, then its intent is published.

::

    pending  to the table's changelog and exits.triggers   acknowledged: whatever dies, it is found again
    intent   to orders.intents, the account's partition    acknowledged: the executor will see it
    sent     to exits.triggers, then to the table          lost in a crash: all is said again, same ids

What fires while rows become durable shares the next write; intents go out beside it, over a connection of
their own, so one stop does not wait for another's. The agents do not wait for any of it.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from processors.columns.app import ColumnApp
from processors.columns.changelog_writer import DeposedError
from processors.columns.output import Output, Sent, new_producer, track
from processors.columns.table import RecordTable
from processors.exits.desk import Desk, Trigger
from processors.exits.intents import intent_of
from schemas.catalogue import EXIT_EVENTS, EXIT_TRIGGERS, ORDER_INTENTS, Catalogue
from schemas.codec import Codec
from tidewire import kafka, metrics
from tidewire.clock import Clock
from tidewire.config import Settings
from tidewire.placing import partition_of

_CONFIRMED_SECONDS = 2.0
"""So long a confirmed membership is believed: well below the group's patience with a silent worker."""


Fired = list[tuple[Desk, list[Trigger]]]


class Publisher:
    """Sends what the desks hold. `desks` gives those whose partitions are ours now."""

    def __init__(
        self,
        app: ColumnApp,
        settings: Settings,
        table: RecordTable,
        catalogue: Catalogue,
        codec: Codec,
        clock: Clock,
        desks: Callable[[], Iterable[Desk]],
    ) -> None:
        self._app, self._table, self._clock, self._desks = app, table, clock, desks
        self._triggers = catalogue.name(EXIT_TRIGGERS), codec.encoder("exit_trigger")
        self._intents = catalogue.name(ORDER_INTENTS), codec.encoder("order_intent")
        self._events = catalogue.name(EXIT_EVENTS), codec.encoder("exit_event")
        self._settings = settings
        self._lane: Output | None = None
        self._busy = False
        self._flying: set[str] = set()  # triggers on their way
        self._confirmed = float("-inf")
        self.published = 0
        """Intents in the log."""

    async def start(self) -> None:
        """Open the way of the intents.

        Raises:
            KafkaError: Kafka is not there.
        """
        producer = new_producer(self._settings, "tidewire-exits-intents")
        await kafka.start(producer)
        await track(producer, [self._intents[0]])
        self._lane = Output(producer)

    async def stop(self) -> None:
        """Close it."""
        if self._lane is not None:
            await self._lane.producer.stop()

    def soon(self) -> None:
        """Send what fired beside the agents, or have the round that is under way be followed by another."""
        if not self._busy and self._waiting():
            self._busy = True
            self._app.add_future(self._send_while_any())

    async def flush_events(self) -> None:
        """Queue every event that waits; awaited before each commit, which then waits for Kafka."""
        for desk in self._desks():
            self._collect(desk)
            await self._send_events(desk)
        self.soon()

    def _waiting(self) -> bool:
        for desk in self._desks():
            self._collect(desk)
        return any(desk.turns.urgent() for desk in self._desks()) or bool(self._fired())

    def _fired(self) -> Fired:
        """What is not on its way yet, once there is a way."""
        found: Fired = []
        for desk in self._desks() if self._lane is not None else ():
            if triggers := [t for name, t in desk.unsent.items() if name not in self._flying]:
                found.append((desk, triggers))
        return found

    async def _send_while_any(self) -> None:
        try:
            while self._waiting():
                for desk in self._desks():
                    if desk.turns.urgent():
                        await self._send_events(desk)
                if fired := self._fired():
                    if not await self._write_through(fired):
                        return
                    self._flying |= _names(fired)
                    self._app.add_future(self._publish(fired))
        except Exception as error:
            await self._app.crash(error)
            raise
        finally:
            self._busy = False

    def _collect(self, desk: Desk) -> None:
        triggers, events = desk.collect()
        for trigger in triggers:
            metrics.EXIT_TRIGGERS.labels(trigger["kind"]).inc()
        for event in events:
            metrics.EXIT_EVENTS.labels(event["event"], event["gate"]).inc()

    # ---------------------------------------------------------------- triggers

    async def _write_through(self, fired: Fired) -> bool:
        """Make triggers durable; false: nothing was sent, as the group took this worker for dead, or gave out
        its partitions anew: they are folded again, and fire again.
        """
        term = self._app.consumer.term
        if not await self._is_member() or term != self._app.consumer.term:
            return False
        pending = await self._tell(fired, "pending")
        if term != self._app.consumer.term:
            return False
        try:
            await self._table.write_through({desk.partition: desk.take_rows() for desk, _ in fired})
        except DeposedError:
            self._app.consumer.forget_parts(term)
            return False
        await _arrived(pending)
        return True

    async def _publish(self, fired: Fired) -> None:
        """Publish the intents of durable triggers, then say so."""
        try:
            ours = self._still_ours(fired)
            await _arrived(await self._order(ours))
            self._observe(ours)
            await _arrived(await self._tell(ours, "sent"))
            for desk, triggers in ours:
                desk.published(triggers)
        except Exception as error:
            await self._app.crash(error)
            raise
        finally:
            self._flying -= _names(fired)
        self.soon()  # the turns that this has led to

    async def _is_member(self) -> bool:
        """A worker that stood still may not own what it folds: its rows would stand behind the owner's."""
        # Each commit asks as well: while prices come there is nothing to wait for.
        self._confirmed = max(self._confirmed, self._app.consumer.confirmed_at)
        if time.monotonic() - self._confirmed < _CONFIRMED_SECONDS:
            return True
        asked, term = time.monotonic(), self._app.consumer.term
        if not await self._app.consumer.is_member():
            self._app.consumer.forget_parts(term)  # what fired here is for its partitions' owner
            return False
        self._confirmed = asked
        return True

    def _still_ours(self, fired: Fired) -> Fired:
        """Without the partitions that a rebalance took: their rows were perhaps not written."""
        ours = {id(desk) for desk in self._desks()}
        return [(desk, triggers) for desk, triggers in fired if id(desk) in ours]

    async def _tell(self, fired: Fired, state: str) -> list[Sent]:
        topic, encode = self._triggers
        sent: list[Sent] = []
        for desk, triggers in fired:
            pairs = [
                (f"{t['account']}:{t['symbol']}".encode(), encode({**t, "state": state})) for t in triggers
            ]
            sent += await self._app.output.write(topic, desk.partition, pairs)
        return sent

    async def _order(self, fired: Fired) -> list[Sent]:
        topic, encode = self._intents
        lanes: defaultdict[int, list[tuple[bytes, bytes]]] = defaultdict(list)
        for trigger in (trigger for _, triggers in fired for trigger in triggers):
            account = trigger["account"].encode()
            lane = partition_of(account, self._app.conf.topic_partitions)
            lanes[lane].append((account, encode(intent_of(trigger))))
        assert self._lane is not None
        sent: list[Sent] = []
        for partition, pairs in lanes.items():
            sent += await self._lane.write(topic, partition, pairs)
        return sent

    def _observe(self, fired: Fired) -> None:
        now = self._clock()
        for trigger in (trigger for _, triggers in fired for trigger in triggers):
            self.published += 1
            metrics.EXIT_LATENCY.observe(max(0, now - trigger["received_ts"]) / 1e9)

    # ---------------------------------------------------------------- events

    async def _send_events(self, desk: Desk) -> None:
        topic, encode = self._events
        conflated, desk.turns.conflated = desk.turns.conflated, 0
        if conflated:
            metrics.EXIT_EVENTS_CONFLATED.inc(conflated)
        await self._app.output.send(topic, desk.partition, [_keyed(e, encode) for e in desk.turns.take()])


def _keyed(event: Mapping[str, Any], encode: Callable[[Mapping[str, Any]], bytes]) -> tuple[bytes, bytes]:
    return f"{event['account']}:{event['symbol']}".encode(), encode(event)


def _names(fired: Fired) -> set[str]:
    return {trigger["trigger_id"] for _, triggers in fired for trigger in triggers}


async def _arrived(sent: Iterable[Sent]) -> None:
    """Wait until Kafka has acknowledged these very batches, whoever else waits for some of them."""
    for batch in sent:
        await batch.answer
