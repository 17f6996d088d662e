"""Follows the topics: seeks to what PostgreSQL holds, fetches, and keeps the writer busy.

While one batch is being written (a thread), the next is fetched and decoded (another thread); there are
never more. So a batch grows with the load: under little of it a transaction is small and soon, under much of
it as large as what arrived during the last one, up to MOST_ROWS.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import KafkaError, NoOffsetForPartitionError, OffsetOutOfRangeError

from sinks.postgres.batches import Batch, Feed, prepare
from sinks.postgres.epochs import Epochs
from sinks.postgres.offsets import Log, Place
from sinks.postgres.progress import Progress
from sinks.postgres.records import RecordFeed
from sinks.postgres.spans import Span
from sinks.postgres.topic_ids import topic_ids
from sinks.postgres.writer import Counts, FencedError, Writer
from tidewire import log
from tidewire.columns import as_blocks
from tidewire.config import Settings
from tidewire.kafka import client_arguments, start

MOST_ROWS = 50_000
"""Rows after which a batch is closed (one fetched piece may go over it)."""
MOST_BYTES = 64 * 1024 * 1024
"""Bytes of fetched record batches after which it is closed as well: news carries whole articles."""
LINGER = 0.05
"""Seconds that the first record of a batch waits for others when the writer is idle."""
CHECK_TOPICS = 5.0
"""Seconds between looks whether a topic was deleted and made again."""
_BLOCKS_AT_ONCE = 8
_FETCH_MS = 50

_log = log.get(__name__)


class Consumer:
    """One membership of the consumer group, from joining to leaving; made anew after an error of Kafka.

    The group only shares out partitions; nothing is ever committed to Kafka.
    """

    def __init__(
        self,
        settings: Settings,
        group: str,
        instance: str,
        feeds: Sequence[Feed | RecordFeed],
        writer: Writer,
        progress: Progress,
    ) -> None:
        self._settings, self._feeds, self._writer, self._progress = settings, feeds, writer, progress
        self._topics = [feed.topic for feed in feeds]
        self._kafka = AIOKafkaConsumer(
            **client_arguments(settings),
            group_id=group,
            group_instance_id=instance,
            enable_auto_commit=False,
            auto_offset_reset="none",
            session_timeout_ms=10_000,
            heartbeat_interval_ms=2_000,
            metadata_max_age_ms=15_000,
            retry_backoff_ms=500,
            fetch_min_bytes=512 * 1024,  # fewer, fuller answers; none is held back for more than this:
            fetch_max_wait_ms=1_000,  # marks, totals and commits come once a second
        )
        self._epoch = 0  # counts changes of what we own: a batch of an older one is void
        self._placed: dict[TopicPartition, Span] = {}  # where the next batch of each partition begins
        self._unplaced, self._shared_out = True, False
        self._ids: dict[str, str] = {}
        self._epochs = Epochs()
        self._writing: asyncio.Future[dict[str, Counts]] | None = None
        self._batch: Batch | None = None
        self._decode = ThreadPoolExecutor(1, "sink-decode")

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop`, then write what was fetched.

        Raises:
            KafkaError: the membership is over; make another Consumer.
            TidewireError, StoppedError: as Writer.write.
        """
        stopped = asyncio.create_task(stop.wait())
        watch = None
        try:
            self._kafka.subscribe(self._topics, listener=_Listener(self))
            await start(self._kafka)
            watch = asyncio.create_task(self._watch())
            while not stop.is_set():
                if self._unplaced:
                    # It asks Kafka, which may be away: a stop must come through.
                    placing = asyncio.create_task(self._place())
                    await asyncio.wait({placing, stopped}, return_when=asyncio.FIRST_COMPLETED)
                    if not placing.done():
                        placing.cancel()
                        await asyncio.wait({placing})
                        continue
                    placing.result()
                await self._step(stopped)
                await self._tidy()
            await self._written()
        finally:
            stopped.cancel()
            if watch is not None:
                watch.cancel()
                await asyncio.wait({watch})  # it closes its client
            self._decode.shutdown(wait=False)
            await _within(10, self._kafka.stop())

    async def _tidy(self) -> None:
        """Have dropped what is past its retention although nothing comes in."""
        if self._writing is None and self._writer.keeper.due:
            await asyncio.wrap_future(self._writer.thread.submit(self._writer.tidy))

    async def _step(self, stopped: asyncio.Task[bool]) -> None:
        """Fetch a batch, decode it while the one before is being written, then have it written."""
        epoch = self._epoch
        spans = await self._gather(stopped)
        batch = None
        if spans:
            loop = asyncio.get_running_loop()
            given = (self._feeds, spans, self._epochs, self._writer.keeper.kept_from)
            batch = await loop.run_in_executor(self._decode, prepare, *given)
        await self._written()
        if batch is not None and epoch == self._epoch:
            self._batch = batch
            self._writing = asyncio.wrap_future(self._writer.thread.submit(self._writer.write, batch))

    # -- fetching

    async def _gather(self, stopped: asyncio.Task[bool]) -> list[Span]:
        """The next records of our partitions; empty when there is something else to do first."""
        epoch, spans = self._epoch, dict[TopicPartition, Span]()
        rows, size, first = 0, 0, 0.0
        while not stopped.done():
            writing = self._writing is not None and not self._writing.done()
            if rows >= MOST_ROWS or size >= MOST_BYTES:
                break
            if rows and not writing and time.monotonic() - first >= LINGER:
                break
            fetched = await self._fetch(stopped, idle=not rows and not writing)
            if epoch != self._epoch or self._unplaced:
                return []
            for tp, values in fetched.items():
                blocks = as_blocks(values)
                begin = self._placed.get(tp)
                if begin is None or blocks[0].start < begin.next:
                    self.replace()  # records from before a seek
                    return []
                spans[tp] = spans.get(tp, _from_here(begin)).extend(blocks)
                self._placed[tp] = _from_here(spans[tp])
                first = first or time.monotonic()
                rows += sum(block.count for block in blocks)
                size += sum(len(block.raw) for block in blocks)
            if not rows and self._writing is not None and not writing:
                break  # learn soon what became of the last batch
            if not rows and not writing and self._writer.keeper.due:
                break  # nothing comes in: nobody else would have old days dropped
        return list(spans.values())

    async def _fetch(self, stopped: asyncio.Task[bool], *, idle: bool) -> Mapping[TopicPartition, list[Any]]:
        wait = 250 if idle else _FETCH_MS
        fetch = asyncio.create_task(self._kafka.getmany(timeout_ms=wait, max_records=_BLOCKS_AT_ONCE))
        # getmany waits without end while the group is being shared out: then a stop must come through.
        await asyncio.wait({fetch, stopped}, return_when=asyncio.FIRST_COMPLETED)
        if not fetch.done():
            fetch.cancel()
            await asyncio.wait({fetch})
            return {}
        try:
            fetched: Mapping[TopicPartition, list[Any]] = fetch.result()
            return fetched
        except (NoOffsetForPartitionError, OffsetOutOfRangeError):
            self.replace()
            return {}

    # -- writing

    async def _written(self) -> None:
        """Wait for the batch that is being written, if any."""
        if self._writing is None or self._batch is None:
            return
        writing, batch = self._writing, self._batch
        try:
            counts = await asyncio.shield(writing)
        except FencedError:
            _log.warning("another sink has moved the offsets: reading them again")
            self.replace()
            return
        finally:
            if writing.done():
                self._writing = self._batch = None
        self._progress.written(batch, counts)

    # -- where to go on

    def replace(self) -> None:
        """What was fetched is void; read the stored offsets again and seek there."""
        self._epoch += 1
        self._unplaced = True
        self._placed.clear()

    async def revoked(self) -> None:
        """The group is being shared out anew: let the running transaction land, so that nobody repeats it."""
        self.replace()
        if self._writing is not None:
            await asyncio.wait({self._writing}, timeout=5)

    def assigned(self) -> None:
        """The group has been shared out."""
        self._shared_out = True
        self.replace()

    async def _place(self) -> None:
        await self._written()
        epoch, owned = self._epoch, sorted(self._kafka.assignment())
        self._unplaced = False  # unless a change comes meanwhile
        if not owned:
            if self._shared_out:  # more sinks than partitions: standing by is all there is to do
                self._progress.placed({}, {})
            return
        ids = self._ids = await topic_ids(self._settings, self._topics)
        beginnings = await self._kafka.beginning_offsets(owned)
        ends = await self._kafka.end_offsets(owned)
        logs = {
            (tp.topic, tp.partition): Log(ids.get(tp.topic, ""), beginnings[tp], ends[tp]) for tp in owned
        }
        places = await asyncio.wrap_future(self._writer.thread.submit(self._writer.place, logs))
        if epoch != self._epoch:
            return
        for tp in owned:
            self._go_to(tp, places[tp.topic, tp.partition])
        self._progress.placed({tp: ends[tp] for tp in owned}, self._placed)

    def _go_to(self, tp: TopicPartition, place: Place) -> None:
        if place.note:
            _log.error(place.note, topic=tp.topic, partition=tp.partition, offset=place.offset)
            self._progress.expired(tp.topic, place.expired)
        self._kafka.seek(tp, place.offset)
        self._epochs.load((tp.topic, tp.partition), place.epochs)
        self._placed[tp] = Span(tp.topic, tp.partition, place.topic_id, place.offset, place.offset)

    async def _watch(self) -> None:
        """Keep the lag up to date, and notice topics that were made again."""
        checked = time.monotonic()
        while True:
            await asyncio.sleep(1)
            owned = self._kafka.assignment()
            self._progress.highwater({tp: self._kafka.highwater(tp) for tp in owned})
            if time.monotonic() - checked < CHECK_TOPICS:
                continue
            checked = time.monotonic()
            try:
                ids = await topic_ids(self._settings, self._topics)
            except (KafkaError, OSError) as error:
                self._progress.kafka(f"Kafka: {error!r}")
                continue
            self._progress.kafka(None)
            if any(ids[topic] != self._ids.get(topic, ids[topic]) for topic in ids):
                _log.warning("a topic was deleted and made again")
                self.replace()


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc]
    def __init__(self, consumer: Consumer) -> None:
        self._consumer = consumer

    async def on_partitions_revoked(self, revoked: object) -> None:
        await self._consumer.revoked()

    async def on_partitions_assigned(self, assigned: object) -> None:
        self._consumer.assigned()


def _from_here(span: Span) -> Span:
    """An empty span that begins where this one ends."""
    return Span(span.topic, span.partition, span.topic_id, span.next, span.next)


async def _within(seconds: float, work: Awaitable[object]) -> None:
    """Wait for the end of a client whose server may be gone."""
    try:
        await asyncio.wait_for(work, seconds)
    except (TimeoutError, KafkaError) as error:
        _log.warning("left the consumer group without saying so", reason=repr(error))
