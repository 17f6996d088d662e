"""How Faust's consumer asks the brokers: in a thread of its own, for all that is there, and not too often."""

from __future__ import annotations

import time
from collections.abc import Mapping, Set
from typing import Any

import uvloop
from faust.transport.drivers import aiokafka as driver
from faust.types import TP

from processors.columns.pacing import Pacer
from tidewire.kafka import fetch_in_order, fetch_only_when_read, pace_fetches

_WAIT_MS = 300
"""How long the broker may hold a fetch when it has nothing. A partition that we have not read is not in the
fetch, as one is in flight per broker, and what comes for it waits for the end of that."""
_UNREAD_SECONDS = 0.3
"""So long the next fetch waits until all is read. Faust leaves partitions unread on purpose in a recovery:
these must not hold up the others for longer."""


class Readable:
    """The partitions whose records a fetch may take, at each moment of its wait.

    Faust passes the set that it changes as it pauses and resumes partitions, and aiokafka takes an empty set
    for "all". At the end of a recovery it is empty, after the seek of the changelogs that a worker stands by
    for and before they are resumed: a fetch that waited then took their records, nobody was to have them,
    and the standby had a hole.
    """

    def __init__(self, active: Set[TP], later: Set[TP]) -> None:
        """`active`: as it changes; `later`: of these, what this fetch is not to take."""
        self._active, self._later = active, later

    def __bool__(self) -> bool:
        return True

    def __contains__(self, tp: object) -> bool:
        return tp in self._active and tp not in self._later


class ColumnConsumerThread(driver.AIOKafkaConsumerThread):  # type: ignore[misc]  # Faust is untyped
    """The thread that fetches."""

    mundane_level = "debug"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, thread_loop=uvloop.new_event_loop(), **kwargs)
        self._close_thread_loop_on_stop = True  # as of a loop that it makes itself
        self._pacers: dict[int, Pacer] = {}

    def _create_worker_consumer(self, transport: Any) -> Any:
        consumer = super()._create_worker_consumer(transport)
        consumer._fetch_max_wait_ms = _WAIT_MS
        return consumer

    async def on_start(self) -> None:
        """Connect."""
        await super().on_start()
        consumer = self._ensure_consumer()
        fetch_only_when_read(consumer, _UNREAD_SECONDS)
        fetch_in_order(consumer, list(self.app.batch_topics))
        pace_fetches(consumer, self._pause)

    def _pause(self, node: int) -> float:
        """Seconds between this broker's answer, which has just come, and the next question to it."""
        now, used = time.monotonic(), time.process_time()
        if node not in self._pacers:
            self._pacers[node] = Pacer(now, used)
        return self._pacers[node].pause(self.app.fetch, now, used)

    def close(self) -> None:
        """Leave the client to the thread, which closes it as it stops.

        Faust calls this when a rebalance comes while the app stops, and would close the client from the main
        thread. uvloop's connections are not made for that: the process died of it now and then (SIGSEGV).
        """

    async def seek_to_committed(self) -> Mapping[Any, int | None]:
        """Seek to where each partition goes on."""
        topics: set[str] = set(self.app.batch_topics)
        found: Mapping[Any, int | None] = await self.call_thread(seek_back, self._ensure_consumer(), topics)
        return found

    def place(self, tp: Any) -> tuple[int, int] | None:
        """Up to where a partition was read, and where it ended at the brokers' last answer; None: unknown."""
        assignment = self._ensure_consumer()._subscription.subscription.assignment
        state = assignment.state_value(tp) if assignment is not None else None
        if state is None or state.highwater is None or not state.has_valid_position:
            return None
        return state.position, state.highwater

    async def is_member(self) -> bool | None:
        """Ask the group whether we are still in it; None: it does not answer now."""
        answer: bool | None = await self.call_thread(self._is_member)
        return answer

    async def _is_member(self) -> bool | None:
        coordinator = self._ensure_consumer()._coordinator
        generation = coordinator.generation
        confirmed = generation >= 0 and await coordinator._do_heartbeat()
        if generation < 0 or coordinator.generation != generation:
            return False
        return True if confirmed else None


async def seek_back(consumer: Any, topics: Set[str]) -> Mapping[Any, int | None]:
    """Seek an aiokafka consumer to its committed offsets, or to the beginning of what has none of `topics`.

    aiokafka leaves a partition without a committed offset where it is: what was fetched of it and made void
    by the seek would never be read again. Other topics (changelogs) stay where their reader has them.
    """
    committed: Mapping[Any, int | None] = await consumer.seek_to_committed()
    fresh = [tp for tp, offset in committed.items() if tp.topic in topics and not offset]
    if fresh:
        await consumer.seek_to_beginning(*fresh)
    return committed
