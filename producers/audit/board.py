"""Follows alpaca.gaps: which minutes wait for a repair, and what became of those that were asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from aiokafka.structs import ConsumerRecord

from producers.log_follow import LogFollower
from schemas.catalogue import GAPS, Catalogue
from schemas.codec import Codec
from schemas.gaps import Board, Gap
from tidewire import kafka, log
from tidewire.config import Settings
from tidewire.errors import RecordError

Position = Callable[[str, int], int | None]
"""Topic and partition -> the next offset that we shall read; None: not ours."""

_log = log.get("audit-gaps")


class Gaps:
    """The board of gaps, kept up to date by `run`. All partitions are read, from their beginning."""

    def __init__(self, settings: Settings, codec: Codec) -> None:
        self._codec = codec
        name = Catalogue(settings.tidewire_topic_prefix, 1).name(GAPS)
        # Whatever goes wrong: audits go on with what was known last.
        self._log = LogFollower(kafka.client_arguments(settings), (name,), away=(Exception,))
        self.board = Board()
        self.current = self._log.caught_up
        """Set once everything was read that was there at the start."""
        self._unread: dict[str, Gap] = {}

    def put(self, gap: Gap) -> None:
        """Take one state over, read or just written by ourselves."""
        if self.board.put(gap) and gap.placed:
            self._unread[gap.id] = gap

    def waiting(self, feed: str, channel: str, position: Position) -> list[Gap]:
        """Gaps for whose end a comparison has to wait: not closed, or closed with records that we have not
        read yet.
        """
        for gap in list(self._unread.values()):
            if all(_was_read(place, position) for place in gap.placed):
                del self._unread[gap.id]
        found = [*self.board.open(), *self._unread.values()]
        return [gap for gap in found if gap.feed == feed and gap.channel == channel]

    def known(self, feed: str, channel: str) -> list[Gap]:
        """All gaps of a channel."""
        return [
            gap
            for gap in (*self.board.open(), *self.board.closed())
            if gap.feed == feed and gap.channel == channel
        ]

    async def run(self) -> None:
        """Work until cancelled; Kafka's absence is waited out."""
        await self._log.run(self._take)

    async def _take(self, records: Sequence[ConsumerRecord]) -> None:
        for record in records:
            try:
                stem, content = self._codec.decode(record.value)
                if stem != "gap":
                    raise RecordError(f"a {stem} record")
            except RecordError as error:
                _log.warning("unreadable gap", offset=record.offset, reason=str(error))
            else:
                self.put(Gap.of(content))


def _was_read(place: str, position: Position) -> bool:
    """Whether topic:partition:first:last lies behind us, or is another's to read."""
    topic, partition, _, last = place.rsplit(":", 3)
    at = position(topic, int(partition))
    return at is None or at > int(last)
