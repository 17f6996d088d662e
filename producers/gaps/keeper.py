"""One feed's gaps under one owner: told by the connection, written to alpaca.gaps, ended, learned from.

`begin` before the feed connects, then `run` beside it. The methods of `feed.Observer` never wait.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.structs import TopicPartition

from producers.channel import Tail
from producers.gaps import times
from producers.gaps.follower import Follower
from producers.gaps.learning import Learner
from producers.gaps.teller import Teller
from producers.gaps.tracker import Held, LogEnd, Tracker
from producers.publisher import Publisher
from schemas.catalogue import GAPS, Catalogue
from schemas.codec import Codec
from schemas.gaps import Gap
from tidewire import kafka
from tidewire.clock import NS_PER_DAY, Clock
from tidewire.config import Settings
from tidewire.metrics import GAPS_LASTING

TICK_SECONDS = 0.25
FINISH_SECONDS = 1.0
"""How long the end waits for Kafka; what it does not take then is found by the next owner."""
DELAYS = {"stocks:delayed_sip": 14 * times.MINUTE_NS}
"""So much later than they happen (and a little less) does a feed send its events, ns."""


class Keeper:
    """`producer` must be started; `wanted` holds the configured symbols by channel."""

    def __init__(
        self,
        settings: Settings,
        codec: Codec,
        producer: AIOKafkaProducer,
        publisher: Publisher,
        feed: str,
        epoch: int,
        wanted: Held,
        clock: Clock,
    ) -> None:
        self._settings, self._codec, self._producer = settings, codec, producer
        self._feed, self._epoch, self._wanted, self._clock = feed, epoch, wanted, clock
        self._topic = Catalogue(settings.tidewire_topic_prefix, 1).name(GAPS)
        reach = int(settings.tidewire_backfill_days * NS_PER_DAY)
        self.tracker = Tracker(feed, epoch, delay_ns=DELAYS.get(feed, 0), reach_ns=reach)
        self._teller = Teller(producer, self._topic, codec, publisher.settle)
        self._newest: Mapping[str, int] = {}
        self._follower: Follower | None = None
        self._learner: Learner | None = None

    # ---------------------------------------------------------------- told by the feed

    def subscribed(self, confirmed: Held) -> None:
        """See feed.Observer."""
        self._tell(self.tracker.subscribed(confirmed, self._clock()))

    def settled(self) -> None:
        """See feed.Observer."""
        self.tracker.settled(self._clock())

    def data(self, newest: Mapping[str, int], received_ns: int) -> None:
        """See feed.Observer."""
        self._newest = newest
        self.tracker.data(newest, received_ns)

    def lost(self, kind: str, reason: str, at_ns: int) -> None:
        """See feed.Observer."""
        self._tell(self.tracker.lost(kind, at_ns))

    # ---------------------------------------------------------------- work

    async def begin(
        self,
        tails: Mapping[str, Tail],
        ends: Mapping[TopicPartition, int],
        log_end: LogEnd | None,
    ) -> None:
        """Take over what a former owner left, and open what was missed since; it is in Kafka at the return.

        `tails` are by real topic; `ends` is where the start's reading of the log ended.
        """
        arguments = kafka.client_arguments(self._settings)
        self._follower = Follower(arguments, self._codec, self._topic, self._feed)
        self._learner = Learner(self._codec, tails, ends, lambda: times.newest(self._newest))
        await self._follower.catch_up()
        now = self._clock()
        for gap in self._follower.board.open():
            self._tell(self.tracker.adopt(gap, now))
        self._tell(self.tracker.restart(log_end, self._wanted, now))
        await self._teller.write()

    async def run(self) -> None:
        """Write what is new, end what is over, and learn what was fetched, until cancelled; then a moment
        for the last words.
        """
        assert self._follower is not None
        following = asyncio.create_task(self._follower.run(self._hear))
        try:
            while True:
                await self._teller.write()
                # Only now: while Kafka is away no gap ends, so that what waits to be written stays small.
                self._tell(self.tracker.tick(self._clock()))
                await _either(self._teller.changed, TICK_SECONDS)
        finally:
            following.cancel()
            await asyncio.wait((following,))
            await self._finish()

    async def _finish(self) -> None:
        """Write the last states, if Kafka takes them at once."""
        writing = asyncio.create_task(self._teller.write())
        await asyncio.wait((writing,), timeout=FINISH_SECONDS)
        writing.cancel()
        await asyncio.wait((writing,))
        GAPS_LASTING.labels(self._feed).set(0)

    async def _hear(self, consumer: AIOKafkaConsumer, gap: Gap) -> None:
        assert self._learner is not None
        if gap.lasts and gap.owner_epoch < self._epoch:  # a former owner's last word
            self._tell(self.tracker.adopt(gap, self._clock()))
        await self._learner.learn(consumer, gap)

    def _tell(self, states: list[Gap]) -> None:
        self._teller.tell(states)
        if states:
            GAPS_LASTING.labels(self._feed).set(len(self.tracker.lasting))


async def _either(event: asyncio.Event, seconds: float) -> None:
    """Wait for the event, or for so long."""
    waiting = asyncio.create_task(event.wait())
    await asyncio.wait((waiting,), timeout=seconds)
    waiting.cancel()


def log_end(
    topics: Mapping[str, str], newest_ts: Mapping[str, int], newest_received_ts: Mapping[str, int]
) -> LogEnd | None:
    """What a start has read of the log, by channel. `topics` gives the real topic of each channel, the others
    the newest event and receive times (ns) of each topic that has records.
    """
    newest = {channel: newest_ts[topic] for channel, topic in topics.items() if topic in newest_ts}
    if not newest:
        return None
    return LogEnd(times.in_log(newest) or newest, max(newest_received_ts.values()))


def by_topic(tails: tuple[Tail, ...], name: Callable[[str], str]) -> dict[str, Tail]:
    """The tail of each real topic."""
    return {name(topic): tail for tail in tails for topic in tail.topics}
