"""What the log holds of an interval, on a real Kafka: found wherever it stands, and a stale owner's not."""

from __future__ import annotations

import pytest

from producers import log_tail
from producers.backfill.difference import Events
from producers.backfill.held import HeldLog
from producers.backfill.target import target
from producers.encoder import Encoder
from producers.entrance import Bars, Window
from producers.publisher import Publisher
from producers.session import Session
from schemas import cluster, gaps
from schemas.catalogue import STOCK_TRADES
from schemas.codec import load_codec
from tidewire import kafka
from tidewire.clock import NS_PER_MS, NS_PER_SECOND, now_ns
from tidewire.config import Settings

pytestmark = pytest.mark.kafka
STEP_NS = 2 * NS_PER_SECOND
COUNT = 3_000


class Written:
    """A topic of trades, one every two seconds, that ended an hour ago."""

    def __init__(self, settings: Settings) -> None:
        self.settings, self.codec = settings, load_codec(settings)
        self.topic = settings.tidewire_topic_prefix + STOCK_TRADES
        self.start = now_ns() - 3600 * NS_PER_SECOND - COUNT * STEP_NS
        self.publisher = Publisher(Session(kafka.client_arguments(settings)))
        self.read = 0

    def at(self, number: int) -> int:
        """Event time of a trade."""
        return self.start + number * STEP_NS

    async def write(
        self, numbers: range, *, epoch: int = 7, source: str = "ws", at: int | None = None
    ) -> None:
        """These trades of A, received at `at` or at once."""
        encoder = Encoder(self.codec, Window(), Bars(), owner_epoch=epoch, source=source)
        add = self.publisher.adder(self.topic)
        for number in numbers:
            received = at or self.at(number)
            encoder.frame(received)
            record = encoder.trade(
                {"T": "t", "S": "A", "i": number, "x": "V", "p": 1.5, "s": 1, "c": [], "z": "C",
                 "t": self.at(number)}
            )  # fmt: skip
            assert record is not None
            add(*record, received // NS_PER_MS)
        await self.publisher.flush()

    async def held(self, first: int, last: int) -> int:
        """How many events of an interval are found."""
        (gap,) = gaps.opened("stocks:iex", "trades", ["A"], "request", self.at(first), now_ns(),
                             until_ts=self.at(last))  # fmt: skip
        wanted = target(gap, self.codec)
        async with log_tail.reader(kafka.client_arguments(self.settings)) as consumer:
            partitions = self.publisher.partitions(self.topic)
            log = HeldLog(consumer, self.codec, wanted, partitions, frozenset({"A"}))
            await log.begin(gap.opened_ts)
            await log.catch_up()
        assert isinstance(wanted.difference, Events)
        self.read = log.records
        return len(wanted.difference.held)


async def test_an_old_interval_is_found_behind_what_came_since(settings: Settings) -> None:
    """Missed, all of it would be published a second time."""
    await cluster.apply(settings)
    written = Written(settings)
    await written.publisher.start([written.topic], [])
    await written.write(range(COUNT))
    assert await written.held(500, 599) == 100
    assert await written.held(COUNT - 50, COUNT + 100) == 50
    assert written.read < COUNT, "a gap of the end does not read the whole topic"
    # a backfill of something older, of yesterday's size, stands at the end of the log now
    await written.write(range(-1_500, 0), source="rest", at=now_ns())
    assert await written.held(500, 599) == 100
    assert await written.held(-100, -1) == 100
    await written.publisher.stop()


async def test_what_a_stale_owner_wrote_is_not_held(settings: Settings) -> None:
    """Nobody folds it: it must come again, from REST."""
    await cluster.apply(settings)
    written = Written(settings)
    await written.publisher.start([written.topic], [])
    await written.write(range(10), epoch=7)
    await written.write(range(10, 20), epoch=8)
    await written.write(range(20, 25), epoch=7)
    await written.write(range(25, 30), epoch=1, source="rest")
    assert await written.held(0, 100) == 25
    await written.publisher.stop()
