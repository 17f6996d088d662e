"""A Faust app with batch topics, batch agents and column tables."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from functools import cached_property, partial
from typing import Any, TypeVar

import faust
from faust.exceptions import ConsumerNotStarted
from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from mode.utils.queues import FlowControlEvent

from processors.columns.consumer import ColumnConsumer
from processors.columns.output import Output
from processors.columns.pacing import DEFAULT_FETCH, Fetch
from processors.columns.table import BatchSchema, ColumnTable, PartTable, RecordTable
from tidewire.columns import Block, read_blocks

_FINISH_SECONDS = 3.0
"""Others wait for the rebalance meanwhile; the group hears the heartbeats of another thread."""

T = TypeVar("T", bound=PartTable[Any])

StillOurs = Callable[[], bool]
"""Whether a batch is still to be handled: false once a rebalance or a seek has made it void."""

BatchHandler = Callable[[TP, list[Block], StillOurs], Awaitable[None]]
"""Handles the blocks of one partition; it is called for one batch at a time, in offset order."""


class _ColumnTransport(driver.Transport):  # type: ignore[misc]  # Faust is untyped
    Consumer = ColumnConsumer


class _Flow(FlowControlEvent):  # type: ignore[misc]  # Faust is untyped
    """Lets records into Faust's queues, or not. Letting them in empties the queues first.

    At the end of a recovery Faust does that while it has begun to read the changelogs of the partitions that
    it stands by for: what was in their queue would never come again, and a standby would have a hole.
    """

    def __init__(self, changelogs: Callable[[], Any], loop: Any) -> None:
        super().__init__(loop=loop)
        self._changelogs = changelogs

    def resume(self) -> None:
        """Let records in; what flows already is left in the changelogs' queue."""
        if not self.is_active():
            super().resume()
            return
        for queue in self._queues:
            if queue is not self._changelogs():
                queue.clear()


class ColumnApp(faust.App):  # type: ignore[misc]  # Faust is untyped
    """`output` sends the changelogs; it is settled before each commit. `fetch` may be another at any time.

    Each of `before_commit` is awaited first at a commit: what a handler has put off is sent there.
    """

    mundane_level = "debug"  # of "Starting...", "Stopping..." in the log

    def __init__(self, *args: Any, output: Output, fetch: Fetch = DEFAULT_FETCH, **kwargs: Any) -> None:
        self.fetch = fetch
        self.batch_topics: dict[str, int] = {}
        self.first_topics: set[str] = set()
        self.column_tables: list[PartTable[Any]] = []
        self.changelogs: set[str] = set()
        self.output = output
        self._running = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self.before_commit: list[Callable[[], Awaitable[None]]] = []
        super().__init__(*args, **kwargs)

    def batch_topic(
        self, name: str, max_records: int = 8000, max_batches: int = 8, *, first: bool = False
    ) -> Any:
        """A topic delivered in batches of about `max_records`; at most `max_batches` are queued.

        `first`: after each start, rebalance and seek its partitions are read to where they end before the
        partitions of the same number of other batch topics are.
        """
        if first:
            self.first_topics.add(name)
        self.batch_topics[name] = max_records
        read_blocks([name])
        topic = self.topic(name, schema=BatchSchema())
        topic.maxsize = max_batches  # app.topic(maxsize=) is silently dropped by Faust
        return topic

    def column_table(self, name: str, *, width: int, version: tuple[int, int], **kwargs: Any) -> ColumnTable:
        """A table of `width` words a key; `version`: the word that says the layout, and its value."""
        return self._add_table(ColumnTable, name=name, width=width, version=version, **kwargs)

    def record_table(self, name: str, *, version: int, **kwargs: Any) -> RecordTable:
        """A table of JSON objects; `version` is that of their layout."""
        return self._add_table(RecordTable, name=name, version=version, **kwargs)

    def _add_table(self, kind: type[T], **kwargs: Any) -> T:
        table = kind(self, output=self.output, beacon=self.tables.beacon, **kwargs)
        self.tables.add(table)
        self.column_tables.append(table)
        self.changelogs.add(table.changelog_topic_name)
        read_blocks([table.changelog_topic_name])
        return table

    def batch_agent(self, topic: Any, name: str, handler: BatchHandler) -> None:
        """Handle a batch topic. A batch is done when the handler returns; if it raises, the app crashes.

        Faust's own agents acknowledge a failed event; here the batch is read again after a restart. The
        handler folds without an await in between, or a commit would see half a batch; and it asks after
        each await whether the batch is still ours: the table's partition may have been given away.
        """

        async def actor(stream: Any) -> None:
            async for event in stream.noack().events():
                self._running += 1
                self._idle.clear()
                try:
                    still_ours = partial(self.consumer.is_delivered, event.message)
                    await handler(event.message.tp, event.value, still_ours)
                except Exception as error:
                    await self.crash(error)
                    raise
                finally:
                    self._running -= 1
                    if not self._running:
                        self._idle.set()
                event.ack()

        actor.__name__ = name
        self.agent(topic, name=name)(actor)

    def lags(self) -> Iterator[tuple[TP, int]]:
        """End offset minus the next offset to handle, for each input partition of ours."""
        try:
            assigned = sorted(self.consumer.assignment())
        except ConsumerNotStarted:
            return
        for tp in assigned:
            end = self.consumer.highwater(tp) if tp.topic in self.batch_topics else None
            if end is not None:
                yield tp, max(0, end - self._next_offset(tp))

    def _next_offset(self, tp: TP) -> int:
        parts = (t.parts[tp.partition] for t in self.column_tables if tp.partition in t.parts)
        handled: list[int] = [part.expected[tp.topic] for part in parts if tp.topic in part.expected]
        return max(handled) if handled else int(self.consumer.committed(tp))

    async def finish_batches(self) -> None:
        """Let running handlers end and commit what they did, within a few seconds.

        Faust waits for messages to be garbage-collected instead, and swallows its own cancellation there.
        """
        try:
            async with asyncio.timeout(_FINISH_SECONDS):
                await self._idle.wait()
                await self.consumer.commit()
        except TimeoutError:
            self.log.warning("batches still run; what they do is void and is done again")

    async def _consumer_wait_empty(self, consumer: Any, logger: Any) -> None:
        await self.finish_batches()

    @cached_property
    def flow_control(self) -> FlowControlEvent:
        """Faust's, but see `_Flow`."""
        return _Flow(lambda: self.tables.changelog_queue, self.loop)

    def _new_transport(self) -> _ColumnTransport:
        return _ColumnTransport(self.conf.broker_consumer, self)
