"""The state of one connection to Alpaca, told to everybody: records of control.connections.

`Announcer.state` never waits: a task of its own writes each change, and every ten seconds where the
connection stands. While Kafka is away changes are kept, the oldest given up first; what a reader of the
compacted topic wants is the newest.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from producers.session import close
from schemas import event_id
from schemas.catalogue import CONNECTIONS, Catalogue
from schemas.codec import Codec
from tidewire import kafka, log
from tidewire.clock import NS_PER_SECOND, Clock, now_ns
from tidewire.config import Settings

EVERY_SECONDS = 10.0
"""So often the state is written when nothing changes."""
MOST_CHANGES = 100
"""Changes that wait for Kafka."""
FAREWELL_SECONDS = 1.0
"""How long the end waits for Kafka to take the last state."""
_PAUSE_SECONDS = 1.0

_log = log.get("announce")


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a connection stands. `state` is one of connection.State; times are ns since 1970 UTC."""

    state: str
    reason: str | None
    last_message_ts: int | None
    reconnects: int


class Announcer:
    """Writes for one feed (`stocks:iex`, `crypto:us`, `news`, `trading:<account>`).

    `producer` must be started and may be shared. Call `start`, then `state` as often as there is something
    to say, then `stop`.
    """

    def __init__(
        self,
        settings: Settings,
        codec: Codec,
        producer: AIOKafkaProducer,
        feed: str,
        *,
        owner_epoch: int | None = None,
        clock: Clock = now_ns,
        every_seconds: float = EVERY_SECONDS,
    ) -> None:
        self._topic = Catalogue(settings.tidewire_topic_prefix, 1).name(CONNECTIONS)
        self._codec, self._producer, self._feed = codec, producer, feed
        self._epoch = clock() // NS_PER_SECOND if owner_epoch is None else owner_epoch
        self._clock, self._every = clock, every_seconds
        self._standing = Standing("DISCONNECTED", "not yet connected", None, 0)
        self._changes: deque[tuple[int, Standing]] = deque(maxlen=MOST_CHANGES)
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._stopping = False

    def start(self) -> None:
        """Begin to write; the first record says that there is no connection yet."""
        # Without this aiokafka forgets the topic when it is idle, and a send may stall for minutes.
        self._producer.client.add_topic(self._topic)
        self._change()
        self._task = asyncio.get_running_loop().create_task(self._forever())

    def state(
        self, state: str, reason: str | None = None, last_message_ts: int | None = None, reconnects: int = 0
    ) -> None:
        """Say where the connection stands; never waits.

        A new state, reason or count is written at once; a new `last_message_ts` (ns) alone with the next
        regular record.
        """
        former, self._standing = self._standing, Standing(str(state), reason, last_message_ts, reconnects)
        now = self._standing
        if (former.state, former.reason, former.reconnects) != (now.state, now.reason, now.reconnects):
            self._change()

    async def stop(self, reason: str = "stopped") -> None:
        """Write that the connection is gone, wait a moment for Kafka to take it, and end."""
        if self._task is None:
            return
        self._stopping = True
        self._standing = replace(self._standing, state="DISCONNECTED", reason=reason)
        self._change()
        await asyncio.wait((self._task,), timeout=FAREWELL_SECONDS)
        self._task.cancel()
        await asyncio.wait((self._task,))

    def _change(self) -> None:
        self._changes.append((self._clock(), self._standing))
        self._changed.set()

    async def _forever(self) -> None:
        while self._changes or not self._stopping:
            if not self._changes:
                self._changed.clear()
                try:
                    await asyncio.wait_for(self._changed.wait(), self._every)
                except TimeoutError:
                    self._changes.append((self._clock(), self._standing))
            await self._write()

    async def _write(self) -> None:
        failing = False
        while self._changes:
            change = self._changes[0]
            try:
                await self._producer.send_and_wait(
                    self._topic, key=self._feed.encode(), value=self._record(*change)
                )
            except (KafkaError, AssertionError, TypeError) as error:  # see session.py
                if not failing:
                    _log.warning("connection state not written", feed=self._feed, error=repr(error))
                failing = True
                await asyncio.sleep(_PAUSE_SECONDS)
                continue
            failing = False
            if self._changes and self._changes[0] is change:  # else it was given up for newer ones
                self._changes.popleft()

    def _record(self, ts: int, standing: Standing) -> bytes:
        record = {
            "feed": self._feed,
            "ts": ts,
            "state": standing.state,
            "reason": None if standing.reason is None else _plain(standing.reason),
            "last_message_ts": standing.last_message_ts,
            "reconnects": standing.reconnects,
            "owner_epoch": self._epoch,
            "received_ts": ts if standing.last_message_ts is None else standing.last_message_ts,
            "source": "ws",
            "event_id": event_id.connection_id(self._feed, ts, standing.state),
        }
        return self._codec.encode("connection", record)


def _plain(reason: str) -> str:
    """Valid UTF-8, whatever the other side sent."""
    return reason.encode("utf-8", "backslashreplace").decode()


@asynccontextmanager
async def small_producer(settings: Settings) -> AsyncIterator[AIOKafkaProducer]:
    """A started producer for a few records a second, acks=all; closed at the end in any case.

    Not idempotent: a state written twice says the same, and there is no sequence to lose.

    Raises:
        KafkaError: no broker answers at the start.
    """
    producer = AIOKafkaProducer(**kafka.client_arguments(settings), acks="all", request_timeout_ms=15_000)
    try:
        await kafka.start(producer)
        yield producer
    finally:
        await close(producer, FAREWELL_SECONDS)
