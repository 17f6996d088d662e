"""Feature records on their way to features.stocks: the newest state of what changed, after what was closed.

A send takes as long as Kafka does; what is folded meanwhile waits for the next one, which sends each changed
symbol once. So many small batches cost few sends, and none waits for those before it.

States that were closed wait here between the fold, which awaits nothing, and the send. Nothing leaves the
waiting list before Kafka's producer has it; and a row goes to the changelog only when Kafka has acknowledged
what was closed before it: after a crash its records are repeats, and would not close anything again.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, Protocol

from processors.columns.matrix import Ints, Matrix
from processors.columns.output import Output
from processors.columns.table import ColumnTable
from processors.features import vector
from processors.features.folded import Closed, Folded
from tidewire import metrics
from tidewire.clock import NS_PER_SECOND, Clock

Rendered = tuple[bytes, dict[str, Any]]

Encode = Callable[[Sequence[bytes], Ints], list[bytes]]
"""Makes the values of rows, whose keys and words are given."""

_MOST_WAITING = 8
"""Folded batches that may have closed something before a send is through; then folding waits for it."""


class Watcher(Protocol):
    """Somebody who wants to know of some symbols' new features."""

    def wants(self) -> bool:
        """Whether there is any such symbol at all; if not, `take_features` is not called."""
        ...

    async def take_features(self, partition: int, rows: Sequence[Rendered]) -> None:
        """Key and record of each symbol whose features were just sent."""
        ...


@dataclass(slots=True)
class _Lane:
    """What waits for one partition: states of the rows of `matrix`, in the order of their folding."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    matrix: Matrix | None = None
    waiting: list[Closed] = field(default_factory=list)
    received_ns: int = 0
    """When the newest record was received that is folded and not sent; 0: there is none."""
    sending: asyncio.Task[None] | None = None

    def of(self, matrix: Matrix) -> list[Closed]:
        """What waits of this matrix; what waited of another was given away with it in a rebalance."""
        if self.matrix is not matrix:
            self.matrix, self.waiting = matrix, []
        return self.waiting


class FeatureSender:
    """Sends the features of one table, partition by partition, one send a partition at a time."""

    def __init__(self, table: ColumnTable, output: Output, topic: str, encode: Encode, clock: Clock) -> None:
        self._table, self._output, self._topic, self._encode = table, output, topic, encode
        self._clock = clock
        self._lanes: defaultdict[int, _Lane] = defaultdict(_Lane)
        self.watcher: Watcher | None = None
        table.before_write.append(self._settle_closed)

    def take(self, partition: int, folded: Folded) -> None:
        """Note what a batch has changed and closed; to be called without an await since it was folded."""
        matrix = self._table.part(partition)
        if folded.closed:
            self._lanes[partition].of(matrix).extend(folded.closed)
        matrix.announce(folded.touched)

    async def send_soon(self, partition: int, received_ns: int) -> None:
        """Have it sent with the loop's next turn, or when what is on its way has left, and return. It waits
        only while too much that was closed is not sent. `received_ns`: of the newest record folded.

        Raises:
            KafkaError: what such a send before ended with; all of it is sent again.
        """
        lane = self._lanes[partition]
        lane.received_ns = received_ns
        if lane.sending is not None and lane.sending.done():
            ended, lane.sending = lane.sending, None
            ended.result()
        if lane.sending is None:
            lane.sending = asyncio.create_task(self._send_on(partition, lane))
            lane.sending.add_done_callback(lambda task: task.cancelled() or task.exception())
        if len(lane.waiting) > _MOST_WAITING:
            await asyncio.wait((lane.sending,))

    async def _send_on(self, partition: int, lane: _Lane) -> None:
        """Until everything folded is sent."""
        while lane.received_ns:
            received_ns, lane.received_ns = lane.received_ns, 0
            await self.send(partition)
            metrics.FEATURE_LATENCY.observe(max(0, self._clock() - received_ns) / NS_PER_SECOND)

    async def send(self, partition: int) -> None:
        """Send what was closed, then the newest state of every row that was touched since the last call."""
        matrix = self._table.parts.get(partition)
        if matrix is None:
            return
        lane = self._lanes[partition]
        async with lane.lock:
            if self._table.parts.get(partition) is not matrix:
                return  # given away in a rebalance: its new owner sends
            closed = list(lane.of(matrix))
            # The rows are read only when it is this batch's turn: a symbol's last record is its newest row.
            rows = matrix.take_announced()
            newest = Closed(rows, matrix.values[rows])
            lane.waiting.append(newest)
            await self._queue(partition, lane, matrix, [*closed, newest])
            if self.watcher is not None and self.watcher.wants():
                rows_read = vector.read_out(_keys(matrix, newest), newest.words)
                await self.watcher.take_features(partition, list(rows_read))

    async def send_all(self) -> None:
        """The same for every partition of ours."""
        for partition in list(self._table.parts):
            await self.send(partition)

    async def send_closed(self, partition: int) -> None:
        """Send only what was closed; what has merely changed can wait for a newer state."""
        lane = self._lanes[partition]
        async with lane.lock:
            if lane.waiting and lane.matrix is not None and lane.matrix is self._table.parts.get(partition):
                await self._queue(partition, lane, lane.matrix, list(lane.waiting))

    async def _settle_closed(self) -> None:
        for partition in list(self._lanes):
            await self.send_closed(partition)
        await self._output.settle()

    async def _queue(self, partition: int, lane: _Lane, matrix: Matrix, states: Sequence[Closed]) -> None:
        waiting, count = lane.waiting, len(lane.waiting)  # more may come while this is sent
        records = chain.from_iterable(self._records(matrix, state) for state in states)
        metrics.FEATURE_RECORDS.inc(await self._output.send(self._topic, partition, records))
        del waiting[:count]  # after a failure or a cancellation all of it is sent again, in the same order

    def _records(self, matrix: Matrix, state: Closed) -> Iterator[tuple[bytes, bytes]]:
        keys = _keys(matrix, state)
        return zip(keys, self._encode(keys, state.words), strict=True)


def _keys(matrix: Matrix, state: Closed) -> list[bytes]:
    return [matrix.name(row) for row in state.rows.tolist()]
