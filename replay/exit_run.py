"""A replay of exits over Kafka: what is read of the log, what cannot be, and the triggers that come out."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

import orjson
from aiokafka import TopicPartition

from processors.exits.coordinates import Coordinates
from processors.exits.hours import AlwaysOpen, Hours
from replay import log, watches
from replay.exits import Exits, concerns
from replay.inputs import PRICES, RANKED, RANKS, WHOLE, WINDOWED, Counts, Entries, Events
from replay.inputs import Prices as PriceReader
from replay.log import Span
from replay.merging import PIECE_BYTES, Source, merged
from replay.order import EVENT, Lane
from replay.what_if import WhatIf
from schemas.catalogue import EXIT_TRIGGERS, EXIT_WATCH, Catalogue
from schemas.codec import Codec, Record
from tidewire.config import Settings
from tidewire.errors import ConfigError, RecordError
from tidewire.placing import partition_of

Told = Callable[[int], object]
Spans = Mapping[TopicPartition, Span]


@dataclass(frozen=True, slots=True)
class Request:
    """What to replay. Times are receive times in ns; `since` and `until` say offsets of single partitions.

    `symbols`: of positions or of their prices; empty: all. `by`: see replay/order.py.
    """

    symbols: frozenset[str] = frozenset()
    since_ns: int | None = None
    until_ns: int | None = None
    since: Mapping[TopicPartition, int] = field(default_factory=dict)
    until: Mapping[TopicPartition, int] = field(default_factory=dict)
    by: str = EVENT
    what_if: WhatIf | None = None


@dataclass(slots=True)
class Found:
    """What a replay has come to. `run_id`: the same for the same request over the same log.

    `live`: by id, triggers of the service whose prices were all replayed; `spent`: ids of those whose prices
    are not there any more, or were not asked for.
    """

    run_id: str
    triggers: list[Record]
    turns: list[Record]
    counts: Counts
    watches: int
    restored: int
    live: dict[str, Record]
    spent: frozenset[str]

    def encoded(self, codec: Codec) -> list[bytes]:
        """The triggers' bytes: two replays of one log give the same."""
        return [codec.encode("exit_trigger", trigger) for trigger in self.triggers]

    @property
    def missing(self) -> list[str]:
        """Live triggers that this replay has not found, though it has read their prices."""
        return sorted(self.live.keys() - {trigger["trigger_id"] for trigger in self.triggers})

    def as_live(self, trigger: Record) -> str:
        """What the service made of this exit: same; other (prices or rule); none."""
        live = self.live.get(trigger["trigger_id"])
        if live is None:
            return "none"
        same = live["rule"] == trigger["rule"] and live["inputs"][-1:] == trigger["inputs"][-1:]
        return "same" if same else "other"


async def replay(
    settings: Settings,
    catalogue: Catalogue,
    codec: Codec,
    request: Request,
    begun: Told = lambda records: None,
    told: Told = lambda records: None,
    piece_bytes: int = PIECE_BYTES,
) -> Found:
    """Fold exits anew over what is asked for. Nothing is written.

    `begun` is told how many records will be read at most, `told` how many have been.

    Raises:
        ConfigError: a partition that is named does not exist.
        SchemaError: a topic is missing, or a record batch is damaged.
        UnreachableError: Kafka does not answer.
    """
    spans = await _spans(settings, catalogue, request)
    partitions = sum(at.topic == catalogue.name(EXIT_WATCH) for at in spans)
    counts = Counts()
    rules = await _rules(settings, catalogue, codec, spans, request, counts)
    symbols = rules.symbols if request.what_if is None else request.what_if.symbols
    wanted = {partition_of(symbol.encode(), partitions) for symbol in symbols}
    sources = _sources(catalogue, codec, spans, wanted, symbols, counts, request.by)
    hours: Hours | None = AlwaysOpen() if settings.tidewire_market_hours == "always" else None
    exits = Exits(partitions, hours, request.symbols, rules.spent, request.what_if)
    begun(sum(source.span.records for source in sources.values()))
    async with aclosing(merged(settings, sources, rules.lanes, told, piece_bytes)) as entries:
        async for _, item in entries:
            exits.fold(item)
    turns = exits.turns.take()
    found = _live(rules, request, spans)
    counts.update(exits.counts)
    return Found(
        _run_id(settings, spans, request),
        exits.triggers,
        turns,
        counts,
        rules.kept,
        rules.restored,
        found,
        rules.spent,
    )


@dataclass(slots=True)
class _Rules:
    """The watches that can be replayed, as lanes; the triggers of the service."""

    lanes: dict[Lane, Entries] = field(default_factory=dict)
    symbols: frozenset[str] = frozenset()
    live: dict[str, Record] = field(default_factory=dict)
    spent: frozenset[str] = frozenset()
    kept: int = 0
    restored: int = 0


async def _rules(
    settings: Settings, catalogue: Catalogue, codec: Codec, spans: Spans, request: Request, counts: Counts
) -> _Rules:
    """Both topics whole: which symbols are watched must be known before the first price is read."""
    rules = _Rules()
    rank, name = RANKS[EXIT_WATCH], catalogue.name(EXIT_WATCH)
    mine = {at: span for at, span in spans.items() if at.topic == name}
    readers = {at: Events(codec, "exit_watch", Lane(rank, at.partition), counts, request.by) for at in mine}
    rules.lanes = {Lane(rank, at.partition): [] for at in mine}
    async for piece in log.read(settings, mine):
        entries = readers[piece.at](name, piece.blocks, piece.end)
        rules.lanes[Lane(rank, piece.at.partition)] += entries
    triggers = await _triggers(settings, catalogue, codec, spans, counts)
    rules.live = {trigger["trigger_id"]: trigger for _, trigger in triggers}
    rules.spent = frozenset(name for name, trigger in rules.live.items() if _before(trigger, spans))
    known = [item.record for lane in rules.lanes.values() for _, item in lane if item.record]
    rules.kept = len(known)
    lost = watches.restored(
        ((at, t) for at, t in triggers if t["trigger_id"] not in rules.spent), known, request.by
    )
    rules.restored = sum(map(len, lost.values()))
    counts["read"] += rules.restored
    for partition, entries in lost.items():
        rules.lanes[Lane(RANKS[EXIT_TRIGGERS], partition)] = entries
    rules.symbols = frozenset(
        item.record["symbol"]
        for lane in rules.lanes.values()
        for _, item in lane
        if item.record and item.record["active"] and concerns(item.key, request.symbols)
    )
    return rules


async def _triggers(
    settings: Settings, catalogue: Catalogue, codec: Codec, spans: Spans, counts: Counts
) -> list[tuple[Coordinates, Record]]:
    """The service's triggers, in the order of partitions and offsets; what cannot be read is counted."""
    name = catalogue.name(EXIT_TRIGGERS)
    found: list[tuple[Coordinates, Record]] = []
    async for record in log.records(settings, {at: span for at, span in spans.items() if at.topic == name}):
        try:
            stem, content = codec.decode(record.value)
            if stem != "exit_trigger":
                raise RecordError(f"a {stem} record where only exit_trigger belongs")
        except RecordError:
            counts["read"] += 1
            counts["refused"] += 1
            continue
        found.append((Coordinates(record.topic, record.partition, record.offset), content))
    return sorted(found, key=lambda one: one[0])


async def _spans(settings: Settings, catalogue: Catalogue, request: Request) -> dict[TopicPartition, Span]:
    names = {catalogue.name(topic): topic for topic, _ in RANKED}
    found = await log.spans(settings, names, request.until_ns)
    if request.since_ns is not None:
        windowed = [name for name, topic in names.items() if topic in WINDOWED]
        later = await log.spans(settings, windowed, since_ns=request.since_ns)
        found |= {at: Span(span.begin, max(span.begin, found[at].end)) for at, span in later.items()}
    triggers = catalogue.name(EXIT_TRIGGERS)
    found |= await log.spans(settings, [triggers])  # a later trigger still tells of its watch
    if unknown := sorted((request.since.keys() | request.until.keys()) - found.keys()):
        raise ConfigError([f"{at.topic} has no partition {at.partition}" for at in unknown])
    for at, begin in request.since.items():
        found[at] = Span(max(begin, found[at].begin), found[at].end)
    for at, end in request.until.items():
        found[at] = Span(found[at].begin, min(end, found[at].end))
    return found


def _sources(
    catalogue: Catalogue,
    codec: Codec,
    spans: Spans,
    partitions: Collection[int],
    symbols: Collection[str],
    counts: Counts,
    by: str,
) -> dict[TopicPartition, Source]:
    """All that is read in the total order: of topics by symbol the partitions where anything is watched."""
    found: dict[TopicPartition, Source] = {}
    for topic, stem in RANKED:
        name = catalogue.name(topic)
        for at, span in spans.items():
            if topic in (EXIT_WATCH, EXIT_TRIGGERS) or at.topic != name or not partitions:
                continue
            lane = Lane(RANKS[topic], at.partition)
            if topic in PRICES and at.partition in partitions:
                read = PriceReader(codec, stem, lane, symbols, counts, by)
                found[at] = Source(lane, span, read)
            elif topic not in PRICES and (topic in WHOLE or at.partition in partitions):
                found[at] = Source(lane, span, Events(codec, stem, lane, counts, by))
    return found


def _places(trigger: Record) -> list[tuple[TopicPartition, int]]:
    return [(TopicPartition(one["topic"], one["partition"]), one["offset"]) for one in trigger["inputs"]]


def _before(trigger: Record, spans: Spans) -> bool:
    """Whether any of its prices stands before what is replayed."""
    return any(at not in spans or offset < spans[at].begin for at, offset in _places(trigger))


def _live(rules: _Rules, request: Request, spans: Spans) -> dict[str, Record]:
    if request.what_if is not None:
        return {}
    asked = request.symbols
    return {
        name: trigger
        for name, trigger in rules.live.items()
        if name not in rules.spent
        and all(offset < spans[at].end for at, offset in _places(trigger))
        and (not asked or not asked.isdisjoint((trigger["symbol"], trigger["reference_symbol"])))
    }


def _run_id(settings: Settings, spans: Spans, request: Request) -> str:
    made_up = request.what_if
    asked: list[Any] = [sorted([*at, span.begin, span.end] for at, span in spans.items())]
    asked += [sorted(request.symbols), request.by, settings.tidewire_market_hours]
    if made_up is not None:
        rules = [[name, spec.canonical()] for name, spec in made_up.rules]
        asked += [made_up.symbol, str(made_up.entry), str(made_up.quantity), rules]
    return "r-" + blake2b(orjson.dumps(asked), digest_size=8).hexdigest()
