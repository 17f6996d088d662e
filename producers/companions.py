"""What goes along with a feed while it is ours: who is told of its connection, and what runs beside it."""

from __future__ import annotations

from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

from aiokafka import AIOKafkaProducer

from producers.feed import Feed, Observer
from producers.plans import Plan
from producers.publisher import Publisher
from producers.warm_start import Recalled
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
    """One feed under one epoch; `recalled` is what the log held of it when it became ours."""

    plan: Plan
    epoch: int
    recalled: Recalled


def observers_of(ground: Ground, owned: Ownership) -> Sequence[Observer]:
    """Who is told of the feed's connection from its beginning; made anew for each epoch."""
    return ()


def companions(
    ground: Ground, owned: Ownership, feed: Feed, observers: Sequence[Observer]
) -> Sequence[Coroutine[Any, Any, None]]:
    """What runs beside the feed, from before it connects until it has ended; then it is cancelled."""
    return ()
