"""One lane a partition: the batch being filled, and the full ones that wait for Kafka, in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.structs import TopicPartition

Header = tuple[str, bytes]
_NO_HEADERS: list[Header] = []  # aiokafka wants a list; nobody changes it


@dataclass(slots=True)
class Batch:
    """Records for one partition. `continuations` of them are further parts of a record that was cut."""

    builder: BatchBuilder
    continuations: int = 0

    @property
    def records(self) -> int:
        """Records in it."""
        return int(self.builder.record_count())

    @property
    def size(self) -> int:
        """Bytes."""
        return int(self.builder.size())


class Lane:
    """The batches of one partition.

    `make` gives an empty builder; `opened` is told that a batch has its first record, `closed` that one is
    complete.
    """

    def __init__(
        self,
        partition: TopicPartition,
        make: Callable[[], BatchBuilder],
        opened: Callable[[Lane], None],
        closed: Callable[[Lane, Batch], None],
    ) -> None:
        self.partition = partition
        self.waiting: deque[Batch] = deque()
        self.sending = False
        self.next_offset: int | None = None
        """Where Kafka will put the next record, as far as we know."""
        self._make, self._opened, self._closed = make, opened, closed
        self._open: Batch | None = None

    def add(
        self,
        key: bytes | None,
        value: bytes,
        timestamp_ms: int,
        headers: list[Header] = _NO_HEADERS,
        continuation: bool = False,
    ) -> None:
        """Append one record; never waits."""
        batch = self._open
        taken = None
        if batch is not None:
            taken = batch.builder.append(timestamp=timestamp_ms, key=key, value=value, headers=headers)
        if batch is None or taken is None:
            self.close()
            batch = self._open = Batch(self._make())
            # The first record is always taken, even one that is longer than a batch.
            batch.builder.append(timestamp=timestamp_ms, key=key, value=value, headers=headers)
            self._opened(self)
        if continuation:
            batch.continuations += 1

    def close(self) -> None:
        """Nothing more goes into the open batch, if there is one."""
        batch, self._open = self._open, None
        if batch is not None:
            self.waiting.append(batch)
            self._closed(self, batch)

    @property
    def open_bytes(self) -> int:
        """Bytes in the batch being filled."""
        return 0 if self._open is None else self._open.size

    @property
    def idle(self) -> bool:
        """Whether nothing is open, waiting or on its way."""
        return self._open is None and not self.waiting and not self.sending
