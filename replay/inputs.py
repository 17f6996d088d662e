"""What a replay of exits reads: each topic with its rank, and its record batches as places and contents.

Prices are decoded in columns; a record of a symbol that nobody watches becomes a tick, where it moves event
time on. Anything else is decoded record by record.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from processors.columns.single import Single, read_singles
from processors.columns.sound import sound
from processors.exits import ticks
from processors.exits.coordinates import Coordinates
from processors.features.row import MAX_TS
from replay.fold import before
from replay.order import EVENT, Ints, Key, Lane, Times
from schemas import catalogue as topics
from schemas.codec import Codec, Record
from schemas.exit_rules import watch_key
from tidewire.columns import Block, Decoder
from tidewire.columns.owned import owned
from tidewire.fence import REASON, LogFence

TICK = "tick"
WATCH = "exit_watch"
RANKED: tuple[tuple[str, str], ...] = (
    (topics.GAPS, "gap"),
    (topics.CONNECTIONS, "connection"),
    (topics.CORPORATE_ACTIONS, "corporate_action"),
    (topics.STOCK_STATUSES, "stock_status"),
    (topics.STOCK_LULDS, "stock_luld"),
    (topics.EXIT_TRIGGERS, WATCH),
    (topics.EXIT_WATCH, WATCH),
    (topics.STOCK_QUOTES, "stock_quote"),
    (topics.OPTION_QUOTES, "option_quote"),
    (topics.CRYPTO_QUOTES, "crypto_quote"),
    (topics.STOCK_TRADES, "stock_trade"),
    (topics.OPTION_TRADES, "option_trade"),
    (topics.CRYPTO_TRADES, "crypto_trade"),
    (topics.SIGNALS, "signal"),
)
"""Topic and schema in the order of equal times: what holds exits, the rules, quotes, trades, signals."""
RANKS = {topic: rank for rank, (topic, _) in enumerate(RANKED)}
PRICE_KINDS = ("quote", "trade")
PRICES = tuple(topic for topic, stem in RANKED if ticks.kind_of(stem) in PRICE_KINDS)
WHOLE_STEMS = ("gap", "connection")
WHOLE = (topics.GAPS, topics.CONNECTIONS)
"""They concern every partition, and are placed by no symbol."""
WINDOWED = (*PRICES, topics.STOCK_LULDS, topics.SIGNALS)
"""Read from where the user says. Of all others the state of before must be known: they are read whole."""

_WANTED = frozenset(
    (
        *("symbol", "ts", "received_ts", "source", "owner_epoch", "exchange", "tape"),
        *("price", "size", "bid_price", "bid_size", "ask_price", "ask_size", "conditions", "condition"),
    )
)
_LARGEST = 1e15


class Item(NamedTuple):
    """A record to be folded; None: a tick, or the watch of `key` is gone. `ts`: the event time (ns) that its
    partition has come to, of prices and ticks.
    """

    stem: str
    at: Coordinates
    record: Record | None
    ts: int = 0
    key: bytes = b""


Entries = list[tuple[Key, Item]]


class Counts(Counter[str]):
    """What became of records: `read` equals the sum of all others."""


class Prices:
    """Reads the pieces of one partition of trades or quotes. `symbols`: those that somebody watches."""

    def __init__(
        self, codec: Codec, stem: str, lane: Lane, symbols: Collection[str], counts: Counts, by: str = EVENT
    ) -> None:
        names = [f["name"] for f in codec.schema(stem)["fields"] if f["name"] in _WANTED]
        self._decode = Decoder(codec.versions(stem), columns=names)
        self._stem, self._lane, self._symbols, self._counts = stem, lane, list(symbols), counts
        self._times, self._fence = Times(by), LogFence()

    def __call__(self, topic: str, blocks: Sequence[Block], end: int) -> Entries:
        """The next piece: records of which somebody must know, those before offset `end`."""
        decoded = before(sound(self._decode, self._refusals, blocks), end)
        self._counts["read"] += len(decoded.offsets) + len(decoded.refused)
        self._counts["refused"] += len(decoded.refused)
        decoded, stale = owned(self._fence, decoded)
        self._counts[REASON] += stale
        frame, offsets = decoded.frame, decoded.offsets
        if not len(offsets):
            return []
        before_it = self._times.event
        times, events = self._times.see_all(frame["ts"].to_numpy(), frame["received_ts"].to_numpy())
        watched = frame["symbol"].cast(pl.String).is_in(self._symbols).to_numpy()
        wanted = watched | (np.diff(events, prepend=before_it) > 0)
        self._counts["filtered"] += len(offsets) - int(watched.sum())
        return self._entries(topic, frame, offsets, times, events, watched, np.flatnonzero(wanted))

    def _entries(
        self,
        topic: str,
        frame: pl.DataFrame,
        offsets: Ints,
        times: Ints,
        events: Ints,
        watched: npt.NDArray[np.bool_],
        rows: Ints,
    ) -> Entries:
        records = frame.filter(pl.Series(watched)).iter_rows(named=True)
        (rank, partition), found = self._lane, Entries()
        columns = (column[rows].tolist() for column in (offsets, times, events, watched))
        for offset, time, event, is_watched in zip(*columns, strict=True):
            at = Coordinates(topic, partition, offset)
            item = Item(self._stem, at, next(records), event) if is_watched else Item(TICK, at, None, event)
            found.append((Key(time, rank, partition, offset), item))
        return found

    def _refusals(self, frame: pl.DataFrame) -> dict[int, str]:
        """As the service refuses them, whether or not somebody watches the symbol."""
        fine = pl.col("ts").is_between(0, MAX_TS, closed="left")
        for name in frame.columns:
            if name.endswith(("price", "size")):
                fine &= pl.col(name).is_between(0, _LARGEST)
        odd = np.flatnonzero(~frame.select(fine).to_series().to_numpy())
        return {int(i): ticks.refusal(self._stem, frame.row(int(i), named=True)) or "" for i in odd}


class Events:
    """Reads the pieces of one partition of anything else. `placed`: its key is its symbol."""

    def __init__(self, codec: Codec, stem: str, lane: Lane, counts: Counts, by: str = EVENT) -> None:
        self._codec, self._stem, self._lane, self._counts = codec, stem, lane, counts
        self._placed = stem not in WHOLE_STEMS
        self._times, self._fence = Times(by), LogFence()

    def __call__(self, topic: str, blocks: Sequence[Block], end: int) -> Entries:
        """The next piece: its records before offset `end`."""
        rank, partition = self._lane
        found: Entries = []
        for single in read_singles(blocks, self._codec, self._stem):
            if single.offset >= end:
                break
            self._counts["read"] += 1
            item = self._item(Coordinates(topic, partition, single.offset), single)
            if item is not None:
                found.append((Key(self._times.now, rank, partition, single.offset), item))
        return found

    def _item(self, at: Coordinates, single: Single) -> Item | None:
        record = single.record
        if record is None:
            if single.value is None and self._stem == WATCH:
                return Item(WATCH, at, None, key=single.key or b"")
            self._counts["refused"] += 1
            return None
        wanted = watch_key(record) if self._stem == WATCH else record.get("symbol", "").encode()
        if self._placed and single.key != wanted:
            self._counts["refused"] += 1
            return None
        if self._placed and "owner_epoch" in record and self._fence.stale(record, at.offset):
            self._counts[REASON] += 1
            return None
        self._times.see(record["ts"], record["received_ts"])
        return Item(self._stem, at, record, key=single.key or b"")
