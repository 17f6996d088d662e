"""What goes along with a feed while it is ours: who is told of its connection, and what runs beside it."""

from __future__ import annotations

from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

from aiokafka import AIOKafkaProducer

from producers.channel import Encoder
from producers.feed import Feed, Observer
from producers.gaps import keeper
from producers.gaps.keeper import Keeper
from producers.plans import Plan
from producers.publisher import Publisher
from producers.warm_start import Recalled
from producers.watchdog.watch import Watch
from schemas.catalogue import Catalogue
from schemas.codec import Codec
from tidewire.clock import Clock
from tidewire.config import Settings


@dataclass(frozen=True, slots=True)
class Ground:
    """What the feeds of a process share. `teller` writes small records (acks=all)."""

    settings: Settings
    codec: Codec
    publisher: Publisher
    teller: AIOKafkaProducer
    keys: tuple[str, str]
    clock: Clock


@dataclass(frozen=True, slots=True)
class Ownership:
    """One feed under one epoch; `recalled` is what the log held of it when it became ours, `encoder` what its
    messages go through.
    """

    plan: Plan
    epoch: int
    recalled: Recalled
    encoder: Encoder


def observers_of(ground: Ground, owned: Ownership) -> Sequence[Observer]:
    """Who is told of the feed's connection from its beginning; made anew for each epoch."""
    times = {channel.name: channel.time for channel in owned.encoder.channels().values()}
    publisher = ground.publisher
    return _keeper(ground, owned), Watch(
        ground.settings, owned.plan.name, times, ground.clock, lambda: publisher.full
    )


async def begin(ground: Ground, owned: Ownership, observers: Sequence[Observer]) -> None:
    """What must be in Kafka before the feed connects: the gap since the last event of the log."""
    name = Catalogue(ground.settings.tidewire_topic_prefix, 1).name
    topics = {channel.name: name(channel.topic) for channel in owned.encoder.channels().values()}
    recalled = owned.recalled
    end = keeper.log_end(topics, recalled.newest_ts, recalled.newest_received_ts)
    for observer in observers:
        if isinstance(observer, Keeper):
            await observer.begin(keeper.by_topic(owned.encoder.tails(), name), recalled.ends, end)


def companions(
    ground: Ground, owned: Ownership, feed: Feed, observers: Sequence[Observer]
) -> Sequence[Coroutine[Any, Any, None]]:
    """What runs beside the feed, from before it connects until it has ended; then it is cancelled."""
    keepers = [observer.run() for observer in observers if isinstance(observer, Keeper)]
    watches = [
        observer.run(feed.sample, feed.break_off) for observer in observers if isinstance(observer, Watch)
    ]
    return [*keepers, *watches]


def _keeper(ground: Ground, owned: Ownership) -> Keeper:
    plan = owned.plan
    channels = (*plan.channels, *plan.automatic)
    wanted = {channel: plan.symbols[: plan.limits.get(channel)] for channel in channels}
    settings, codec, teller, publisher = ground.settings, ground.codec, ground.teller, ground.publisher
    return Keeper(settings, codec, teller, publisher, plan.name, owned.epoch, wanted, ground.clock)
