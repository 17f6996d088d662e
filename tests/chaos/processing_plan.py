"""What is published as trades and quotes: the events of tick files, and broken records among them.

All of it is made beforehand, seeded. A topic of the run's own begins at offset 0 and holds nothing else, so a
record's offset is its index in its lane, and what must become of each record is known before it is sent.
The files are read by the independent digest's reading of them, not by the pipeline's.
"""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from aiokafka.partitioner import DefaultPartitioner

from schemas.catalogue import STOCK_QUOTES, STOCK_TRADES
from schemas.codec import Encoder
from tests.chaos import processing_poison
from tests.chaos.processing_poison import Letter
from tests.e2e import digest_files

PARTITIONS = 4
TOPICS = {STOCK_TRADES: "stock_trade", STOCK_QUOTES: "stock_quote"}
POISON_EVERY = 1_000
STALE_EVERY = 700
HEADERS_EVERY = 2_000
"""Records with Kafka headers are sound, although the project writes none in hot topics."""
EPOCHS = 3
_RECEIVED = 1_384_000_000_000_000_000
_PARTITION_OF = DefaultPartitioner()
_SECOND = 10**9

Event = dict[str, Any]
Place = tuple[str, int, int]
"""Topic (by its name in the catalogue), partition, offset."""


@dataclass
class Lane:
    """The records of one partition, in the order of their offsets: (key, value, with headers)."""

    topic: str
    partition: int
    records: list[tuple[bytes | None, bytes | None, bool]] = field(default_factory=list)

    def add(self, key: bytes | None, value: bytes | None, headers: bool = False) -> Place:
        """Append a record; returns where it will stand."""
        self.records.append((key, value, headers))
        return (self.topic, self.partition, len(self.records) - 1)


@dataclass
class Plan:
    """`batches` are (lane, first, last + 1), in the order in which they are sent. `letters`: by stage.

    `rows`: hashes of the rows that PostgreSQL must hold, by topic. `newest`: by topic and symbol, receive
    time and source of the last record in the log that is folded. `events` and `stale` count the files' events
    (by topic and symbol) and records of former owners (by topic). What a flood of poison at the end adds:
    `flood`, letters that may be sent, and `passed`, by stage and topic the records that were passed in all.
    """

    lanes: list[Lane]
    batches: list[tuple[int, int, int]] = field(default_factory=list)
    letters: dict[str, dict[Place, Letter]] = field(default_factory=dict)
    rows: dict[str, set[bytes]] = field(default_factory=dict)
    newest: dict[tuple[str, str], tuple[int, str]] = field(default_factory=dict)
    stale: dict[str, int] = field(default_factory=lambda: dict.fromkeys(TOPICS, 0))

    events: dict[str, Counter[str]] = field(default_factory=dict)
    flood: dict[Place, Letter] = field(default_factory=dict)
    passed: dict[tuple[str, str], int] = field(default_factory=dict)

    @property
    def records(self) -> int:
        """All records."""
        return sum(len(lane.records) for lane in self.lanes)

    def lane(self, topic: str, symbol: str) -> Lane:
        """Where a symbol's records go."""
        return self.lanes[list(TOPICS).index(topic) * PARTITIONS + partition_of(symbol)]


@cache
def partition_of(symbol: str) -> int:
    """As every producer of the project places it: Kafka's default."""
    every = list(range(PARTITIONS))
    return int(_PARTITION_OF(symbol.encode(), every, every))


def row_hash(values: Iterable[object]) -> bytes:
    """Of a row of PostgreSQL, or of what it must be."""
    return hashlib.blake2b(repr(tuple(values)).encode(), digest_size=16).digest()


def make(folders: list[Path], seed: int, encoder: Callable[[str], Encoder]) -> Plan:
    """The plan for all tick files in these folders."""
    plan = Plan([Lane(topic, partition) for topic in TOPICS for partition in range(PARTITIONS)])
    plan.letters = {"processor": {}, "sink": {}}
    plan.rows = {topic: set() for topic in TOPICS}
    plan.events = {topic: Counter() for topic in TOPICS}
    rng = random.Random(f"plan-{seed}")
    for topic, stem in TOPICS.items():
        writer = _Writer(plan, topic, encoder(stem), rng)
        events = sorted(_events(folders, topic, seed), key=lambda timed: timed[0])  # stable
        for number, (_, event) in enumerate(events):
            writer.write(event, 1 + number * EPOCHS // len(events))
    plan.batches = _batches(plan, rng)
    return plan


def _events(folders: list[Path], topic: str, seed: int) -> Iterator[tuple[int, Event]]:
    """Every event with the time at which it is sent: some come late, a few by a day.

    Quotes of one symbol and time come late together: among them the later in the log wins.
    """
    kind = "trade" if topic == STOCK_TRADES else "quote"
    for path, symbol, date, found in digest_files.tick_files(folders):
        if found != kind:
            continue
        unused = digest_files.Fold()
        read = digest_files.trades_of if kind == "trade" else digest_files.quotes_of
        for event in read(path, symbol, date, unused):
            chance = random.Random(f"{seed}-{symbol}-{event['ts']}-{event.get('id')}").random()
            late = 86_400 if chance < 0.0005 else 3 if chance < 0.05 else 0
            yield event["ts"] + late * _SECOND, event


def _batches(plan: Plan, rng: random.Random) -> list[tuple[int, int, int]]:
    """Every lane cut into record batches of very different sizes, all lanes advancing alike."""
    cut: list[tuple[float, int, int, int]] = []
    for number, lane in enumerate(plan.lanes):
        start, size = 0, len(lane.records)
        while start < size:
            stop = min(size, start + rng.choice((1, 20, 20, 60, 200, 500)))
            cut.append((stop / size, number, start, stop))
            start = stop
    return [(number, start, stop) for _, number, start, stop in sorted(cut)]


class _Writer:
    """Puts one topic's events into its lanes, with broken and stale records between them."""

    def __init__(self, plan: Plan, topic: str, encode: Encoder, rng: random.Random) -> None:
        self._plan, self._topic, self._encode, self._rng = plan, topic, encode, rng
        self._poison = processing_poison.kinds(topic == STOCK_TRADES)
        self._written = self._extra = self._broken = 0

    def write(self, event: Event, epoch: int) -> None:
        """One event of the files and, now and then, something else before it."""
        self._written += 1
        if self._written % POISON_EVERY == POISON_EVERY // 2:
            self._break(event, epoch)
        if epoch > 1 and self._written % STALE_EVERY == 0:
            self._stale(event, epoch)
        lane = self._plan.lane(self._topic, event["symbol"])
        rest = self._rng.random() < 0.02  # from REST: no owner's, whatever its epoch
        record = self._record(lane, event, 1 if rest else epoch, "rest" if rest else "ws")
        place = lane.add(
            event["symbol"].encode(), self._encode(record), self._written % HEADERS_EVERY == HEADERS_EVERY - 1
        )
        self._stored(record, place)
        self._plan.events[self._topic][event["symbol"]] += 1
        self._plan.newest[self._topic, event["symbol"]] = (record["received_ts"], record["source"])

    def _record(self, lane: Lane, event: Event, epoch: int, source: str) -> Event:
        identity = len(lane.records) * PARTITIONS + lane.partition
        return event | {
            "conditions": ["@"] if identity % 3 else ["@", "I"],
            "tape": "C",
            "extra": None,
            "received_ts": _RECEIVED + len(lane.records) * 1_000,
            "source": source,
            "owner_epoch": epoch,
            "event_id": identity.to_bytes(8, "big"),
        }

    def _other(self, event: Event) -> Event:
        """An event of its own that is in no file, so that it is noticed wherever it is folded or stored."""
        self._extra += 1
        other = event | ({"id": 10**9 + self._extra} if "id" in event else {})
        prices = ("price",) if "price" in other else ("bid_price", "ask_price")
        return other | {name: other[name] + 100_000 for name in prices}

    def _break(self, event: Event, epoch: int) -> None:
        lane = self._plan.lane(self._topic, event["symbol"])
        kind = self._poison[self._broken % len(self._poison)]
        self._broken += 1
        record = kind.spoil(self._record(lane, self._other(event), epoch, "ws"))
        key, value = kind.damage(event["symbol"].encode(), self._encode(record))
        place = lane.add(key, value)
        for stage, reason in (("processor", kind.processor), ("sink", kind.sink)):
            if reason is not None:
                self._plan.letters[stage][place] = Letter(key, value, reason)
            else:
                self._stored(record, place)

    def _stale(self, event: Event, epoch: int) -> None:
        lane = self._plan.lane(self._topic, event["symbol"])
        record = self._record(lane, self._other(event), epoch - 1, "ws")
        lane.add(event["symbol"].encode(), self._encode(record))
        self._plan.stale[self._topic] += 1

    def _stored(self, record: Event, place: Place) -> None:
        values = [record[name] for name in record if name != "owner_epoch"]
        self._plan.rows[self._topic].add(row_hash([*values, *place[1:]]))
