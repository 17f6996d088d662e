"""Follows alpaca.gaps, all of it: gaps are few, and a worker must know of those of the others."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from aiokafka.structs import ConsumerRecord

from producers.log_follow import LogFollower
from schemas.catalogue import GAPS, Catalogue
from schemas.codec import Codec
from schemas.gaps import Board, Gap
from tidewire import kafka
from tidewire.config import Settings
from tidewire.errors import RecordError
from tidewire.placing import partition_of


class Follower:
    """The board of all gaps, kept up to date by `run`. `changed` is called after every news."""

    def __init__(self, settings: Settings, codec: Codec, changed: Callable[[], None]) -> None:
        self._codec, self._changed = codec, changed
        self.topic = Catalogue(settings.tidewire_topic_prefix, 1).name(GAPS)
        self.board = Board()
        self._log = LogFollower(kafka.client_arguments(settings), (self.topic,))

    def partition(self, gap: Gap) -> int:
        """Where a gap's records are."""
        return partition_of(gap.key, self.partitions) if self.partitions else -1

    @property
    def partitions(self) -> int:
        """How many there are; 0: not known yet."""
        return len(self._log.positions)

    async def run(self) -> None:
        """Follow until cancelled."""
        await self._log.run(self._take)

    async def caught_up(self) -> None:
        """Return when everything is known that stands in the log now."""
        await self._log.read_to_end()

    async def _take(self, records: Sequence[ConsumerRecord]) -> None:
        for record in records:
            self._put(record.value)
        if records:
            self._changed()

    def _put(self, value: bytes | None) -> None:
        try:
            stem, record = self._codec.decode(value)
        except RecordError:  # not ours to judge: whoever stores the topic dead-letters it
            return
        if stem == "gap" and record["id"]:
            self.board.put(Gap.of(record))
