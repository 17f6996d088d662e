"""Prices of held symbols -> portfolio.marks: conflated, and at once where a symbol is newly held.

A mark goes to each partition whose accounts hold the symbol. Marks of a symbol may be repeated after a
restart or a rebalance; whoever reads them keeps the one with the greatest ts.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from faust.exceptions import ConsumerNotStarted
from faust.types import TP

from processors.columns.app import ColumnApp
from processors.marks.holders import Holders
from processors.marks.pace import Pace
from processors.marks.price import Price, mark
from schemas.catalogue import PORTFOLIO_MARKS, Catalogue
from schemas.codec import Codec
from tidewire import metrics
from tidewire.placing import partition_of

STAGE = "marks"

Current = Callable[[str], Price | None]
"""The newest price of a symbol, None: not known here."""


class Marks:
    """Takes prices from wherever they are folded. `current` are asked, in turn, for a newly held symbol."""

    def __init__(self, app: ColumnApp, catalogue: Catalogue, codec: Codec) -> None:
        self._app, self._encode = app, codec.encoder("mark")
        self._topic = catalogue.name(PORTFOLIO_MARKS)
        self._paces: defaultdict[str, Pace[TP]] = defaultdict(Pace)  # by input topic: each has its own time
        self._fresh: defaultdict[str, set[int]] = defaultdict(set)
        self.holders = Holders(lambda account: partition_of(account.encode(), app.conf.topic_partitions))
        self.current: list[Current] = []
        self.sent = 0

    def position(self, key: bytes, record: Mapping[str, Any] | None) -> None:
        """The newest record of a position."""
        held_before = len(self.holders)
        fresh = self.holders.take(key, record)
        if fresh is not None:
            self._fresh[fresh[0]].add(fresh[1])
        elif len(self.holders) < held_before:
            for pace in self._paces.values():
                pace.forget(key.decode().partition(":")[2])
        metrics.SYMBOLS_HELD.set(len(self.holders))

    async def take(self, where: TP, prices: Iterable[Price]) -> None:
        """Newest prices of symbols that somebody holds (others are left out), out of one input partition."""
        pace, due = self._paces[where.topic], False
        for price in prices:
            if price.symbol in self.holders:
                due = pace.offer(where, price) or due
        if due:
            await self._leave(pace)

    async def flush(self) -> None:
        """What the pace has held back; awaited at each commit."""
        for pace in list(self._paces.values()):
            await self._leave(pace)

    async def _leave(self, pace: Pace[TP]) -> None:
        ours = self.assignment()
        prices = pace.leave(lambda where: where in ours)
        await self._send([(price, self.holders.partitions(price.symbol)) for price in prices])

    async def greet(self) -> None:
        """Send the current mark of each newly held symbol, if it is known here, to where it is new."""
        if not self._fresh or self._app.rebalancing or not self._app.tables.recovery.completed.is_set():
            return
        fresh, self._fresh = self._fresh, defaultdict(set)
        found = []
        for symbol, partitions in fresh.items():
            price = next((p for p in (ask(symbol) for ask in self.current) if p is not None), None)
            if price is not None:
                found.append((price, self.holders.partitions(symbol) & partitions))
        await self._send(found)

    def assignment(self) -> frozenset[TP]:
        """The input partitions that are ours."""
        try:
            return frozenset(self._app.consumer.assignment())
        except ConsumerNotStarted:
            return frozenset()

    async def _send(self, prices: list[tuple[Price, frozenset[int]]]) -> None:
        lanes: defaultdict[int, list[tuple[bytes, bytes]]] = defaultdict(list)
        for price, partitions in prices:
            record = mark(price) if partitions else None
            if record is not None:
                value = self._encode(record)
                for partition in partitions:
                    lanes[partition].append((price.symbol.encode(), value))
        for partition, records in lanes.items():
            count = await self._app.output.send(self._topic, partition, records)
            self.sent += count
            metrics.MARKS_SENT.inc(count)
