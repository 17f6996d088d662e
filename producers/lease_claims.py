"""Claims: control.leases, followed whole. Who owns a feed is whoever wrote the first claim of its greatest
epoch; so even two that claim at once agree on one owner.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from aiokafka.structs import ConsumerRecord, TopicPartition

from producers.log_follow import LogFollower
from schemas import event_id
from schemas.codec import Codec
from tidewire import kafka, log
from tidewire.clock import NS_PER_SECOND, Clock
from tidewire.config import Settings
from tidewire.errors import RecordError

_PAUSE_SECONDS = 0.5

_log = log.get("lease-claims")


@dataclass(frozen=True, slots=True)
class Claim:
    """`where` is its partition and offset."""

    epoch: int
    owner: str
    where: tuple[int, int]


class Claims:
    """`changed` is called after claims were read. `producer` must be started, with acks=all."""

    def __init__(
        self,
        settings: Settings,
        topic: str,
        codec: Codec,
        producer: AIOKafkaProducer,
        clock: Clock,
        changed: Callable[[], None],
    ) -> None:
        self._topic = topic
        self._log = LogFollower(kafka.client_arguments(settings), (topic,), pause_seconds=_PAUSE_SECONDS)
        self._codec, self._producer, self._clock, self._changed = codec, producer, clock, changed
        self._greatest = 0
        self._mine: dict[str, Claim] = {}
        self._again: set[asyncio.Task[None]] = set()
        self.me = f"{socket.gethostname()}:{os.getpid()}"
        self.newest: dict[str, Claim] = {}
        """Feed -> the claim that counts."""

    async def run(self) -> None:
        """Follow until cancelled; Kafka's absence is waited out."""
        try:
            await self._log.run(self._read)
        finally:
            for task in self._again:
                task.cancel()

    async def claim(self, feed: str) -> int:
        """Become the owner; returns the epoch: greater than that of any claim before, of other feeds too.

        (Feeds that follow one another in a topic, as iex and sip do, must not take each other for stale when
        the clock was wrong once.) Waits while Kafka is away.
        """
        while True:
            try:
                epoch = await self._try(feed)
            except (KafkaError, OSError, AssertionError, TypeError) as error:  # see session.py
                _log.warning("feed not claimed yet", feed=feed, error=repr(error))
                await asyncio.sleep(_PAUSE_SECONDS)
            else:
                if epoch is not None:
                    return epoch

    def release(self, feed: str) -> None:
        """It is not ours any longer."""
        self._mine.pop(feed, None)

    async def _try(self, feed: str) -> int | None:
        await self._log.read_to_end()
        epoch = max(self._clock() // NS_PER_SECOND, self._greatest + 1)
        sent = await self._producer.send_and_wait(
            self._topic, key=feed.encode(), value=self._record(feed, epoch)
        )
        where = TopicPartition(self._topic, sent.partition)
        await self._log.reached({where: sent.offset + 1})
        claim = self.newest[feed]
        if claim.where != (sent.partition, sent.offset):
            return None  # somebody else was first
        self._mine[feed] = claim
        return epoch

    async def _read(self, records: Sequence[ConsumerRecord]) -> None:
        for record in records:
            self._take(record)
        self._changed()

    def _take(self, record: ConsumerRecord) -> None:
        try:
            stem, content = self._codec.decode(record.value)
            if stem != "lease":
                raise RecordError(f"a {stem} record")
        except RecordError as error:
            _log.warning("unreadable claim", offset=record.offset, reason=str(error))
            return
        feed, epoch = content["feed"], content["epoch"]
        self._greatest = max(self._greatest, epoch)
        known = self.newest.get(feed)
        if known is None or epoch > known.epoch:
            self.newest[feed] = Claim(epoch, content["owner"], (record.partition, record.offset))
        elif epoch < known.epoch and self._mine.get(feed) == known:
            # A stale owner's last word. Compaction would keep it and not ours, and the next owner's epoch
            # might then be smaller than ours.
            task = asyncio.get_running_loop().create_task(self._write_again(feed, known.epoch))
            self._again.add(task)
            task.add_done_callback(self._again.discard)

    async def _write_again(self, feed: str, epoch: int) -> None:
        try:
            await self._producer.send_and_wait(
                self._topic, key=feed.encode(), value=self._record(feed, epoch)
            )
        except KafkaError as error:
            _log.warning("claim not written again", feed=feed, error=repr(error))

    def _record(self, feed: str, epoch: int) -> bytes:
        now = self._clock()
        record = {
            "feed": feed,
            "ts": now,
            "epoch": epoch,
            "owner": self.me,
            "received_ts": now,
            "source": "ws",
            "event_id": event_id.lease_id(feed, epoch),
        }
        return self._codec.encode("lease", record)
