"""Ordinary batches of prices, read whole and natively, and folded without a record's own object. Pure.

It changes nothing but the time that it takes: what is not ordinary (a price that cannot be, another schema
version, a new owner of the feed, broken bytes) is left to reading.py, and to the fold record by record.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate, pairwise, repeat
from typing import TYPE_CHECKING, Any, NamedTuple

from processors.exits import ticks
from processors.exits.coordinates import Coordinates
from processors.features.row import MAX_TS
from schemas.codec import Codec
from tidewire.columns import Block, Decoder
from tidewire.fence import LogFence

if TYPE_CHECKING:
    from processors.exits.desk import Desk
    from processors.exits.fold import PartitionExits

_TEXTS = ("exchange", "tape")
_ALWAYS = ("ts", "received_ts", "source", "owner_epoch")

Row = tuple[Any, ...]


class Whole(NamedTuple):
    """`rows` as the fold wants them, by their offsets; `ends`: behind the last row of each block.

    Of a quote: symbol, bid, ask, their sizes, conditions, ts, received_ts, source, offset. Of a trade:
    symbol, price, size, conditions, exchange, ts, received_ts, source, tape, offset.
    """

    rows: list[Row]
    ends: list[int]


class WholeReader:
    """Reads one kind of prices; `stem` is its schema."""

    def __init__(self, codec: Codec, stem: str) -> None:
        fields, kind = {field["name"] for field in codec.schema(stem)["fields"]}, ticks.kind_of(stem)
        self._numbers = *ticks.PRICES[kind], *ticks.SIZES[kind]
        self._conditions = next(iter(fields & {"conditions", "condition"}), None)
        self._texts = _TEXTS if kind == "trade" else ()
        wanted = ("symbol", *self._numbers, *_ALWAYS, *self._texts, self._conditions)
        self._names = [name for name in wanted if name in fields]
        self._decoder = Decoder(codec.versions(stem), columns=self._names)

    def __call__(self, blocks: Sequence[Block], fence: LogFence) -> Whole | None:
        """All records of the blocks; None: not all of them are sound and of the owner that is known."""
        plain = self._decoder.plain(blocks)
        if plain is None or not plain.offsets:
            return None
        columns = dict(zip(self._names, plain.columns, strict=True))
        epochs = columns["owner_epoch"]
        if not self._sound(columns) or not fence.settled(min(epochs), max(epochs), plain.offsets[0]):
            return None
        return Whole(list(self._rows(columns, plain.offsets)), list(accumulate(b.count for b in blocks)))

    def _sound(self, columns: dict[str, list[Any]]) -> bool:
        """As ticks.refusal says of each."""
        ts = columns["ts"]
        return min(ts) >= 0 and max(ts) < MAX_TS and all(_possible(columns[name]) for name in self._numbers)

    def _rows(self, columns: dict[str, list[Any]], offsets: list[int]) -> Iterator[Row]:
        numbers = [columns[name] for name in self._numbers]
        times = columns["ts"], columns["received_ts"], columns["source"]
        said = self._said(columns)
        if not self._texts:
            return zip(columns["symbol"], *numbers, said, *times, offsets, strict=False)
        exchange, tape = (columns.get(name) or repeat("") for name in self._texts)
        return zip(columns["symbol"], *numbers, said, exchange, *times, tape, offsets, strict=False)

    def _said(self, columns: dict[str, list[Any]]) -> Any:
        """Conditions of each record, as ticks.conditions gives them."""
        if self._conditions is None:
            return repeat(())
        if self._conditions == "condition":
            return [(one,) if one else () for one in columns["condition"]]
        return columns["conditions"]


def fold(desk: Desk, stem: str, whole: Whole, topic: str, partition: int) -> Iterator[str]:
    """Fold the rows of watched symbols; yields what the fold says of each.

    The last of each block tells of the time, whoever watches it.
    """
    exits, watched = desk.exits, desk.symbols
    one, ts = (_quote, 6) if ticks.kind_of(stem) == "quote" else (_trade, 5)
    for begin, end in pairwise((0, *whole.ends)):
        for row in whole.rows[begin:end]:
            if row[0] in watched:
                yield one(exits, row, Coordinates(topic, partition, row[-1]))
        last = whole.rows[end - 1]
        if last[0] not in watched:
            exits.tick(last[ts], Coordinates(topic, partition, last[-1]))


def _quote(exits: PartitionExits, row: Row, at: Coordinates) -> str:
    symbol, bid, ask, bid_size, ask_size, said, ts, received_ts, source, _ = row
    return exits.quote(symbol, bid, ask, bid_size, ask_size, said, ts, received_ts, at, source)


def _trade(exits: PartitionExits, row: Row, at: Coordinates) -> str:
    symbol, price, size, said, exchange, ts, received_ts, source, tape, _ = row
    return exits.trade(symbol, price, size, said, exchange, ts, received_ts, at, source, tape)


def _possible(numbers: list[float]) -> bool:
    """Whether all are prices or sizes; a sum with one that is not a number is none."""
    total = sum(numbers)
    return total == total and min(numbers) >= 0 and max(numbers) <= ticks.MAX_PRICE
