"""Faust's consumer, made to deliver whole record batches: one message is a list of Blocks of one partition.

Messages of a partition are acknowledged in the order of their delivery, so Faust's bookkeeping of single
offsets and gaps is replaced by a queue per partition. Rebalances are where a batch could be lost or folded
out of order; every override below is there because of one.
"""

from __future__ import annotations

import asyncio
import weakref
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any

from faust.transport.consumer import ensure_TP
from faust.types import TP, ConsumerMessage

from processors.columns.committing import CommittingConsumer
from processors.columns.fetching import ColumnConsumerThread, Readable
from processors.columns.precedence import Precedence
from tidewire.columns import Block, as_blocks


class _Delivered:
    """A message handed to an agent: its last offset and whether anybody still holds it."""

    __slots__ = ("first", "last", "message")

    def __init__(self, first: int, last: int, message: Any) -> None:
        self.first, self.last, self.message = first, last, weakref.ref(message)


class ColumnConsumer(CommittingConsumer):
    """Delivers Blocks for the app's batch topics and is Faust's own consumer for all others."""

    mundane_level = "debug"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._delivered: defaultdict[TP, deque[_Delivered]] = defaultdict(deque)
        self._epoch = 0  # bumped by every seek: older fetches are void
        self._fetching = asyncio.Lock()  # never seek while a fetch is in flight
        self._seek_over = asyncio.Event()  # clear from perform_seek() to resume_flow()
        self._seek_over.set()
        self._precedence = Precedence()
        self._sought_in: int | None = None  # the generation of the group in which the inputs were sought back

    def _new_consumer_thread(self) -> ColumnConsumerThread:
        return ColumnConsumerThread(self, loop=self.loop, beacon=self.beacon)

    # ---------------------------------------------------------------- delivery

    async def getmany(self, timeout: float) -> AsyncIterator[tuple[TP, Any]]:
        """Fetched records as messages; batch topics whole, round-robin over partitions, those first whose
        topic was named to the app first.
        """
        if not self._seek_over.is_set():
            await self.wait_first(self._seek_over.wait(), timeout=timeout)
        if not self._seek_over.is_set():
            return
        async with self._fetching:
            records, active = await self._wait_next_records(timeout)
        if records is None or self.should_stop:
            return
        if not self.flow_active:
            await self._seek_back()
            return
        generation, epoch = self.app.consumer_generation_id, self._epoch

        def void(tp: TP) -> bool:
            # A seek leaves changelogs where they are: what is left out of them never comes again, and a
            # standby would have a hole. Only the recovery of a new generation seeks them.
            sought = self._epoch != epoch and tp.topic not in self.app.changelogs
            return sought or self.app.consumer_generation_id != generation or not self.flow_active

        for tp, message in self._messages(records, generation):  # changelogs first
            if void(tp):
                return
            if tp.topic in self.app.batch_topics and self._sought_in != generation:
                continue  # a recovery lets the changelogs flow first: inputs are read again after their seek
            if active is None or tp in active or tp in self._buffered_partitions:
                self.app.monitor.track_tp_end_offset(tp, self.highwater(tp))
                if tp.topic in self.app.batch_topics:
                    first = message.value[0].start
                    self._delivered[tp].append(_Delivered(first, message.offset, message))
                if self._room_for(tp):
                    await self._hand_over(tp, message)
                else:
                    yield tp, message

    async def _getmany(self, active_partitions: set[TP] | None, timeout: float) -> Any:
        if active_partitions is None:
            return await super()._getmany(None, timeout)
        first, later = self.app.first_topics, set[TP]()
        if first:
            others = self.app.batch_topics.keys() - first
            due = self._precedence.due(active_partitions, first, others, self._thread.place)
            later = active_partitions - due
        return await super()._getmany(Readable(active_partitions, later), timeout)

    def _room_for(self, tp: TP) -> bool:
        """Whether a message of a batch topic goes into its agent's queue without any wait."""
        app = self.app
        if tp.topic not in app.batch_topics or self.suspend_flow.is_set() or not app.flow_control.is_active():
            return False
        channels = app.topics._topic_name_index[tp.topic]
        return not app.topics._tp_to_callback_lock.locked() and not any(c.queue.full() for c in channels)

    async def _hand_over(self, tp: TP, message: Any) -> None:
        """Do what Faust's own loop does with a message, without its three turns of the event loop for each.

        With agents at work each turn takes as long as a batch or two: the messages behind this one, and what
        came to the broker meanwhile, would wait for that.
        """
        read = self._read_offset[tp]
        if read is None or message.offset >= read:
            await self.callback(message)
            self._read_offset[tp] = message.offset

    def on_buffer_full(self, tp: TP) -> None:
        """Go on reading a batch topic: when its queue is full, delivery waits for its agent.

        Faust would leave its partitions unread instead, and no fetch leaves while anything is unread.
        """
        if tp.topic not in self.app.batch_topics:
            super().on_buffer_full(tp)

    async def _seek_back(self) -> None:
        try:
            await self._seek()
        except Exception as error:  # as Faust's own: the flow is stopped, a rebalance follows
            self.log.warning("seek while flow inactive: %r", error)

    def _messages(self, records: Mapping[Any, Any], generation: int) -> Iterator[tuple[TP, Any]]:
        sizes, changelogs = self.app.batch_topics, self.app.changelogs
        for tp, found in records.items():
            if tp.topic in changelogs and found:
                yield ensure_TP(tp), _batch_message(ensure_TP(tp), as_blocks(found), generation)
        whole = sizes.keys() | changelogs
        plain = {tp: found for tp, found in records.items() if tp.topic not in whole}
        for tp, record in self.scheduler.iterate(plain):  # Faust's own way
            yield tp, self._to_message(tp, record)
        order = {topic: number for number, topic in enumerate(sizes)}
        ours = sorted(
            (tp for tp, r in records.items() if tp.topic in sizes and r), key=lambda tp: order[tp.topic]
        )
        ring = deque((ensure_TP(tp), as_blocks(records[tp])) for tp in ours)
        while ring:
            tp, blocks = ring.popleft()
            taken = _count_of(blocks, sizes[tp.topic])
            if taken < len(blocks):
                ring.append((tp, blocks[taken:]))
            yield tp, _batch_message(tp, blocks[:taken], generation)

    async def _add_gap(self, tp: TP, offset_from: int, offset_to: int) -> None:
        if tp.topic not in self.app.batch_topics:  # the queue needs no gaps
            await super()._add_gap(tp, offset_from, offset_to)

    # ---------------------------------------------------------------- acknowledgement

    def is_delivered(self, message: Any) -> bool:
        """Whether a batch was handed out and neither committed nor made void since."""
        return any(delivered.message() is message for delivered in self._delivered[message.tp])

    def unhandled(self, tp: TP) -> bool:
        """Whether a batch of a partition was handed out and its handler is not through with it."""
        acked = self._acked_index.get(tp, ())
        return any(delivered.last not in acked for delivered in self._delivered.get(tp, ()))

    def ack(self, message: Any) -> bool:
        """Mark a message as handled, unless a rebalance has voided it: its offsets will be read again."""
        if message.topic in self.app.batch_topics and not self.is_delivered(message):
            self._unacked_messages.discard(message)
            message.acked = True
            return False
        return bool(super().ack(message))

    def _new_offset(self, tp: TP) -> int | None:
        if tp.topic not in self.app.batch_topics:
            offset: int | None = super()._new_offset(tp)
            return offset
        queue, acked, new = self._delivered[tp], self._acked_index[tp], None
        while queue and queue[0].last in acked:
            new = queue.popleft().last
            acked.discard(new)
        if new is not None:
            self._acked[tp][:] = acked
        if queue and queue[0].message() is None and queue[0].last not in acked and self._steady():
            lost = f"the batch at offsets {queue[0].first}-{queue[0].last} of {tp} was dropped unhandled"
            self.add_future(self.crash(RuntimeError(lost)))
        return None if new is None else new + 1

    def _steady(self) -> bool:
        return bool(self.flow_active and not self.app.rebalancing and not self.app.should_stop)

    def committed(self, tp: TP) -> int:
        """The next offset to handle as far as this consumer has read or committed it; 0: neither."""
        return int(self._committed_offset[tp] or 0)

    async def wait_empty(self) -> None:
        """Faust's wait before it stops; here by the app, which knows which handlers run."""
        await self.app.finish_batches()

    # ---------------------------------------------------------------- rebalance

    def _forget(self) -> None:
        self._precedence.begin()
        for tp in list(self._delivered):
            for kept in (self._delivered, self._acked, self._acked_index):
                kept.pop(tp, None)

    async def perform_seek(self) -> None:
        """Back to the committed offsets, at a recovery's end; what was fetched or delivered before is void.

        Inputs of a new generation are not delivered before. Faust lets them flow earlier, when what a fetch
        from before the rebalance took may be lost: a batch behind that hole would be folded, and what the
        hole held would then be taken for a repeat.
        """
        generation = self.app.consumer_generation_id
        await self._seek()
        self.term += 1  # who was asked on the way here answers for the former generation
        self._sought_in = generation

    async def _seek(self) -> None:
        self._seek_over.clear()
        async with self._fetching:
            self._epoch += 1
            await super().perform_seek()
            self._forget()

    def resume_flow(self) -> None:
        """Deliver again, after a seek."""
        super().resume_flow()
        self._seek_over.set()

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Finish the running batch, write and commit; queued batches are left to be read again."""
        self._sought_in = None
        if self._delivered and not self.app.should_stop:
            self.stop_flow()
            self.app.flow_control.suspend()
            self.app.flow_control.clear()
            try:
                await self.app.finish_batches()
            except Exception as error:  # aiokafka would log it and go on with the rebalance
                await self.crash(error)
        self.term += 1
        self._forget()
        for table in self.app.column_tables:
            table.forget_parts()
        await super().on_partitions_revoked(revoked)


def _count_of(blocks: list[Block], records: int) -> int:
    """How many blocks hold about that many records; at least one."""
    count = taken = 0
    while taken < len(blocks) and count < records:
        count, taken = count + blocks[taken].count, taken + 1
    return taken


def _batch_message(tp: TP, blocks: list[Block], generation: int) -> Any:
    last = blocks[-1]
    return ConsumerMessage(
        tp.topic,
        tp.partition,
        last.last,
        last.timestamp_ms / 1e3,
        0,
        None,
        None,
        blocks,
        None,
        0,
        0,
        tp,
        generation_id=generation,
    )
