"""The topic catalogue: every topic once, with its key, schema, partitions, cleanup and retention.

Everything else refers to a topic by its short constant here; `Catalogue(prefix, partitions)` gives real
names and partition counts. docs/topics is made from it by `tidewire topics docs`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from tidewire.dead_letters import SUFFIX

DAY_MS = 86_400_000
FOREVER = -1
DEAD_LETTER_RETENTION_MS = 30 * DAY_MS

MEBIBYTE = 1 << 20
LARGEST_RECORD = 16 * MEBIBYTE
"""Dead letters may be whole frames of the socket, and news carries whole articles."""

STOCK_TRADES = "alpaca.stocks.trades"
STOCK_QUOTES = "alpaca.stocks.quotes"
STOCK_BARS = "alpaca.stocks.bars"
STOCK_FRAMES = "alpaca.stocks.frames"
STOCK_FEATURES = "features.stocks"
SIMULATOR_TICKS = "simulator.ticks"


@dataclass(frozen=True, slots=True)
class Topic:
    """One line of the catalogue.

    `schema` is the stem of an .avsc file; None: bytes that were no records, so that only the topic of dead
    letters exists. `by_symbol`: the symbol alone decides the partition, and all such topics have the same
    number of partitions. `single`: one partition. `hot`: read in columns, so the schema holds only what
    Polars can read.
    """

    name: str
    key: str
    schema: str | None
    what: str
    by_symbol: bool = True
    compacted: bool = False
    retention_ms: int = 7 * DAY_MS
    single: bool = False
    hot: bool = False
    max_bytes: int = MEBIBYTE

    @property
    def dead_letters(self) -> str:
        """The topic of this topic's dead letters."""
        return self.name + SUFFIX

    @property
    def cleanup_policy(self) -> str:
        """Kafka's cleanup.policy."""
        return "compact" if self.compacted else "delete"


TOPICS = (
    Topic(STOCK_TRADES, "symbol", "stock_trade", "stock trades as Alpaca sends them", hot=True),
    Topic(STOCK_QUOTES, "symbol", "stock_quote", "stock quotes as Alpaca sends them", hot=True),
    Topic(STOCK_BARS, "symbol", "stock_bar", "stock bars with their interval and revision", hot=True),
    Topic(STOCK_FRAMES, "none", None, "frames and messages of the stock stream that were no records", False),
    Topic(STOCK_FEATURES, "symbol", "stock_features", "feature vectors, conflated", hot=True),
    Topic(SIMULATOR_TICKS, "none", None, "lines of tick files that were no ticks", False),
)


@dataclass(frozen=True, slots=True)
class RealTopic:
    """A topic as it is to be in a cluster, dead letters included."""

    name: str
    partitions: int
    cleanup_policy: str
    retention_ms: int
    max_bytes: int
    by_symbol: bool


@cache
def schema(stem: str) -> dict[str, Any]:
    """The parsed .avsc of one schema (shared: do not change it)."""
    loaded: dict[str, Any] = json.loads(files("schemas").joinpath(f"{stem}.avsc").read_text("utf-8"))
    return loaded


def stems() -> tuple[str, ...]:
    """Every schema that a topic of the catalogue uses, once, in the catalogue's order."""
    return tuple(dict.fromkeys(topic.schema for topic in TOPICS if topic.schema is not None))


class Catalogue:
    """The catalogue of one installation: real topic names and partition counts."""

    def __init__(self, prefix: str, partitions: int) -> None:
        self.prefix = prefix
        self.partitions = partitions
        self.topics = TOPICS
        self._by_name = {prefix + topic.name: topic for topic in TOPICS}

    def name(self, topic: str) -> str:
        """The real name of a topic constant."""
        return self.prefix + topic

    def find(self, real_name: str) -> Topic | None:
        """The topic with this real name, or whose dead letters have it."""
        return self._by_name.get(real_name.removesuffix(SUFFIX))

    def real(self) -> Iterator[RealTopic]:
        """Every topic that is to exist: those with records, and the dead letters of all."""
        for topic in self.topics:
            partitions = 1 if topic.single else self.partitions
            if topic.schema is not None:
                yield RealTopic(
                    self.name(topic.name),
                    partitions,
                    topic.cleanup_policy,
                    FOREVER if topic.compacted else topic.retention_ms,
                    topic.max_bytes,
                    topic.by_symbol,
                )
            kept = FOREVER if topic.retention_ms == FOREVER else DEAD_LETTER_RETENTION_MS
            yield RealTopic(
                self.name(topic.dead_letters), partitions, "delete", kept, LARGEST_RECORD, topic.by_symbol
            )
