"""Writes the states of gaps to alpaca.gaps: in order, after the events before them, until Kafka has them."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from itertools import islice

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from schemas.codec import Codec
from schemas.gaps import Gap
from tidewire import log
from tidewire.metrics import GAP_STATES

TOGETHER = 100
"""States that are on their way to Kafka at a time."""
_PAUSE_SECONDS = 1.0

_log = log.get("gaps")


class Teller:
    """`tell` never waits; `write` empties the queue.

    `settle` waits until Kafka has the feed's events so far: whoever reads of a gap finds in the log what was
    received before it. `producer` must be started, with acks=all; a state written twice says the same.
    """

    def __init__(
        self, producer: AIOKafkaProducer, topic: str, codec: Codec, settle: Callable[[], Awaitable[None]]
    ) -> None:
        self._producer, self._topic, self._codec, self._settle = producer, topic, codec, settle
        self._waiting: deque[Gap] = deque()
        self.changed = asyncio.Event()
        """Set when there is something to write."""
        # Without this aiokafka forgets the topic when it is idle, and a send may stall for minutes.
        producer.client.add_topic(topic)

    def tell(self, states: Iterable[Gap]) -> None:
        """These are new. The queue is bounded by what lasts: no gap ends while something waits here."""
        for gap in states:
            self._waiting.append(gap)
            self.changed.set()
            _log.warning(
                "gap",
                state="lasts" if gap.lasts else gap.state,
                reason=gap.reason,
                feed=gap.feed,
                channel=gap.channel,
                symbols=len(gap.symbols),
                unrecoverable=list(gap.unrecoverable),
            )

    @property
    def idle(self) -> bool:
        """Whether everything is in Kafka."""
        return not self._waiting

    async def write(self) -> None:
        """Return once Kafka has everything that was told; its absence is waited out."""
        while self._waiting:
            self.changed.clear()
            await self._settle()
            batch = list(islice(self._waiting, TOGETHER))
            # They may overtake one another on the way: a reader takes the furthest state of a gap.
            await asyncio.gather(*map(self._send, batch))
            for gap in batch:
                self._waiting.popleft()
                GAP_STATES.labels(gap.feed, gap.reason, "lasts" if gap.lasts else gap.state).inc()

    async def _send(self, gap: Gap) -> None:
        value = self._codec.encode("gap", gap.record())
        failing = False
        while True:
            try:
                await self._producer.send_and_wait(self._topic, key=gap.key, value=value)
            except (KafkaError, AssertionError, TypeError) as error:  # see session.py
                if not failing:
                    _log.warning("gap not written", gap=gap.id, error=repr(error))
                failing = True
                await asyncio.sleep(_PAUSE_SECONDS)
            else:
                return
