"""The fences of the partitions that the sink follows, as they are kept beside the stored offsets."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import orjson

from schemas.fenced import WHOLE_PARTITION, fence_key
from sinks.postgres.offsets import Key
from tidewire.fence import LogFence

NOTHING = "{}"


class Epochs:
    """By partition and, in topics of accounts, by account."""

    def __init__(self) -> None:
        self._fences: defaultdict[Key, defaultdict[str, LogFence]] = defaultdict(_empty)

    def load(self, place: Key, kept: Mapping[str, Any]) -> None:
        """Take over what is stored of a partition."""
        self._fences[place] = _empty()
        for name, rises in kept.items():
            self._fences[place][name] = LogFence(rises)

    def whole(self, place: Key) -> LogFence:
        """The fence of a partition whose records have one owner."""
        return self._fences[place][WHOLE_PARTITION]

    def stale(self, place: Key, topic: str, record: Mapping[str, Any], offset: int) -> bool:
        """Whether a record of a fenced catalogue topic is a stale owner's."""
        return self._fences[place][fence_key(topic, record)].stale(record, offset)

    def kept(self, place: Key) -> str:
        """What is to be stored of a partition, as JSON."""
        fences = self._fences.get(place)
        if not fences:
            return NOTHING
        return orjson.dumps({name: fence.rises for name, fence in fences.items() if fence.rises}).decode()


def _empty() -> defaultdict[str, LogFence]:
    return defaultdict(LogFence)
