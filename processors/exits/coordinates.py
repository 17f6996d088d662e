"""Where an input stands in Kafka."""

from __future__ import annotations

from typing import NamedTuple


class Coordinates(NamedTuple):
    """One record of one topic-partition."""

    topic: str
    partition: int
    offset: int
