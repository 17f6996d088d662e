"""Exits folded anew from a merged log, by the very fold of the exits service: triggers come out. Pure."""

from __future__ import annotations

from collections.abc import Collection

from processors.columns.records import Records
from processors.exits import ticks
from processors.exits.coordinates import Coordinates
from processors.exits.fold import VERSION, PartitionExits
from processors.exits.hours import Hours
from processors.exits.outcome import APPLIED, DUPLICATE
from processors.exits.turns import Turns
from replay.inputs import PRICE_KINDS, TICK, WATCH, WHOLE_STEMS, Counts, Item
from replay.what_if import WhatIf
from schemas.codec import Record
from schemas.exit_rules import watch_key
from schemas.order_ids import trigger_name
from tidewire.placing import partition_of

LEFT_OUT, SPENT = "left out", "spent"
"""What becomes of watches that are not replayed: nobody asked for them; their exit was made before."""


class Exits:
    """The exits of so many partitions. `symbols`: of positions or of prices, empty: all; others are left out.

    `spent`: trigger ids of exits that fired on prices which are not replayed: they must not fire on others.
    Where there is a `what_if`, its rules take the place of all others.
    """

    def __init__(
        self,
        partitions: int,
        hours: Hours | None = None,
        symbols: Collection[str] = (),
        spent: Collection[str] = (),
        what_if: WhatIf | None = None,
    ) -> None:
        self._exits = [PartitionExits(Records(VERSION, partition=p), hours) for p in range(partitions)]
        self._symbols, self._spent = frozenset(symbols), frozenset(spent)
        self._what_if, self._to_open = what_if, what_if
        self._watches = 0
        self.counts = Counts()
        self.triggers: list[Record] = []
        """As they fired, in the total order; pending all of them: nobody orders anything here."""
        self.turns = Turns()
        """What became of rules on the way."""

    def fold(self, item: Item) -> None:
        """The next record of the total order."""
        partition = item.at.partition
        if item.stem == TICK:
            self._exits[partition].tick(item.ts, item.at)
        elif item.stem in WHOLE_STEMS:
            self.counts[self._everywhere(item)] += 1
        elif item.stem == WATCH:
            self.counts[self._watch(item)] += 1
        else:
            assert item.record is not None, "only ticks and watches can have none"
            self._open(item)
            self.counts[self._one(self._exits[partition], item, item.record)] += 1
        self._gather(partition)

    def _one(self, exits: PartitionExits, item: Item, record: Record) -> str:
        if item.stem == "stock_status":
            return exits.status(record, item.at)
        if item.stem == "stock_luld":
            return exits.luld(record, item.at)
        if item.stem == "corporate_action":
            return exits.corporate_action(record, item.at)
        if item.stem == "signal":
            return exits.signal(record, item.at)
        return ticks.fold(exits, item.stem, record, item.at)

    def _everywhere(self, item: Item) -> str:
        assert item.record is not None, "it is no watch"
        results = set()
        for partition, exits in enumerate(self._exits):
            results.add(exits.gap(item.record) if item.stem == "gap" else exits.connection(item.record))
            self._gather(partition)
        return APPLIED if APPLIED in results else DUPLICATE

    def _watch(self, item: Item) -> str:
        if self._what_if is not None or not concerns(item.key, self._symbols):
            return LEFT_OUT
        if item.record is not None and exit_of(item.record) in self._spent:
            return SPENT
        return self._place(item.at.partition, item.record, item.key)

    def _place(self, partition: int, record: Record | None, key: bytes) -> str:
        """Watches of two topics are counted in the order of this replay: their offsets cannot be compared."""
        self._watches += 1
        return self._exits[partition].watch(record, Coordinates("", partition, self._watches), key)

    def _open(self, item: Item) -> None:
        """The position that nobody had is opened with the first price that its rules watch."""
        made_up, record = self._to_open, item.record
        if made_up is None or record is None or ticks.kind_of(item.stem) not in PRICE_KINDS:
            return
        if record["symbol"] in made_up.symbols:
            self._to_open = None
            for watch in made_up.watches(item.ts):
                partition = partition_of(watch["symbol"].encode(), len(self._exits))
                self._place(partition, watch, watch_key(watch))

    def _gather(self, partition: int) -> None:
        exits = self._exits[partition]
        while outcome := exits.take():
            self.turns.add(outcome.events)
            for trigger in outcome.triggers:
                if trigger["state"] == "pending":
                    self.triggers.append(trigger)
                    exits.result_published(trigger["trigger_id"])


def concerns(key: bytes, symbols: Collection[str]) -> bool:
    """Whether a watch's key names one of these, as the symbol of its prices or of its position; none: yes."""
    symbol, _, rest = key.decode("utf-8", "replace").partition(":")
    position = rest.partition(":")[2].rpartition(":")[0]
    return not symbols or symbol in symbols or position in symbols


def exit_of(watch: Record) -> str:
    """The id that a trigger of this watch would have."""
    names = watch["account"], watch["position_symbol"], watch["position_epoch"], watch["exit_epoch"]
    return trigger_name(*names)
