"""The auditor's part of the log: reads it in columns, folds it by minute, and remembers how far it came.

The group shares out partitions by number, so that a symbol's trades, bars and quotes come to one auditor.
With each committed offset stands the minute from which on nothing is audited yet (a restart begins with the
first record of that minute and takes no notice of what it finds of earlier ones), and which epochs of owners
were seen where, so that a stale owner's records are judged alike when they are read again.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.errors import IllegalStateError, KafkaError
from aiokafka.structs import OffsetAndMetadata

from producers.audit import decoding
from producers.audit.cases import Extent
from producers.audit.days import Days
from producers.audit.event_clock import EventClock
from producers.audit.minutes import MINUTE, Lane, Piece
from producers.audit.scope import Audited
from producers.audit.station import FOLDS, Sampled, Station
from schemas.catalogue import Catalogue
from schemas.codec import Codec
from tidewire import fence, log
from tidewire.clock import NS_PER_DAY, NS_PER_SECOND, Clock
from tidewire.columns import Decoder, as_blocks, read_blocks
from tidewire.config import Settings
from tidewire.kafka import client_arguments, start
from tidewire.metrics import RECORDS_APPLIED, RECORDS_SKIPPED

GROUP = "tidewire-auditor"
STAGE = "auditor"
_FETCH_MS = 400
_FUTURE_NS = NS_PER_DAY
"""A record that says to be further ahead of the wall clock than this does not move the event clock."""

_log = log.get("audit-reading")


@dataclass(frozen=True, slots=True)
class _Source:
    scope: Audited
    channel: str
    decoder: Decoder


class Reader:
    """One membership of the group, from `run` to its end; `stations` is what it owns at the moment."""

    def __init__(
        self, settings: Settings, codec: Codec, scopes: Sequence[Audited], sampled: Sampled, clock: Clock
    ) -> None:
        self._settings, self._sampled, self._clock = settings, sampled, clock
        name = Catalogue(settings.tidewire_topic_prefix, 1).name
        self._sources = {
            name(topic): _Source(scope, channel, _decoder(codec, scope.kind, channel, stem))
            for scope in scopes
            for channel, (topic, stem) in scope.topics.items()
        }
        read_blocks(self._sources)
        self.group = settings.tidewire_topic_prefix + GROUP
        self.stations: dict[tuple[str, int], Station] = {}
        self.market = {scope.kind: EventClock() for scope in scopes}
        self._consumer = AIOKafkaConsumer(
            **client_arguments(settings),
            group_id=self.group,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            partition_assignment_strategy=(RangePartitionAssignor,),
            session_timeout_ms=10_000,
            heartbeat_interval_ms=2_000,
            metadata_max_age_ms=15_000,
            fetch_min_bytes=256 * 1024,
            fetch_max_wait_ms=_FETCH_MS,
        )
        self._placed = asyncio.Event()
        self._positions: dict[TopicPartition, int] = {}
        self._ends: dict[TopicPartition, int] = {}
        self._ends_at = 0
        self._committed: dict[TopicPartition, OffsetAndMetadata] = {}
        self._read = asyncio.Condition()

    async def run(self) -> None:
        """Read until cancelled. Raises KafkaError when the membership is over: make another Reader."""
        try:
            self._consumer.subscribe(list(self._sources), listener=_Listener(self))
            await start(self._consumer)
            while True:
                fetched = await self._consumer.getmany(timeout_ms=_FETCH_MS)
                await self._placed.wait()
                for tp, values in fetched.items():
                    self._take(tp, values)
                    await asyncio.sleep(0)
                await self._note_positions()
                async with self._read:
                    self._read.notify_all()
        finally:
            await self._consumer.stop()

    async def read_on(self) -> None:
        """Return once the log was read twice more: what had come before it is then in."""
        async with self._read:
            await self._read.wait()
            await self._read.wait()

    def position(self, topic: str, partition: int) -> int | None:
        """The next offset to read of a partition; None: it is not ours."""
        return self._positions.get(TopicPartition(topic, partition))

    def of_kind(self, kind: str) -> list[Station]:
        """Our stations of one kind of feed."""
        return [station for (k, _), station in sorted(self.stations.items()) if k == kind]

    async def commit(self) -> None:
        """Commit where a restart has to begin, if it has changed."""
        found = {}
        for tp, position in self._positions.items():
            source = self._sources[tp.topic]
            station = self.stations.get((source.scope.kind, tp.partition))
            if station is None or station.lane.floor is None:
                continue
            offset = station.lane.resume_offset(source.channel, position)
            note = {"floor": station.lane.floor, "rises": station.fences[source.channel].rises}
            if source.channel == "bars":
                offset = min(offset, station.days.resume_offset(position))
                note["days"] = station.days.floor
            place = OffsetAndMetadata(offset, json.dumps(note))
            if self._committed.get(tp) != place:
                found[tp] = place
        if found:
            try:
                await self._consumer.commit(found)
            except (KafkaError, IllegalStateError) as error:  # partitions went to somebody else
                _log.info("not committed", reason=repr(error))
            else:
                self._committed.update(found)

    # -- what is read

    def _take(self, tp: TopicPartition, values: Sequence[Any]) -> None:
        source = self._sources[tp.topic]
        kind, channel = source.scope.kind, source.channel
        station = self.stations.get((kind, tp.partition))
        if station is None:
            return  # it was taken from us meanwhile
        decoded = source.decoder(as_blocks(values))
        kept, stale = decoding.owned(decoded.frame, decoded.offsets, station.fences[channel])
        if stale:
            RECORDS_SKIPPED.labels(STAGE, tp.topic, fence.REASON).inc(stale)
        if decoded.refused:  # the sink keeps their bytes; here they are of no minute
            RECORDS_SKIPPED.labels(STAGE, tp.topic, "unreadable").inc(len(decoded.refused))
        if not kept.height:
            return
        newest = kept["ts"].max()
        assert isinstance(newest, int)
        self._advance(station, channel, newest + (MINUTE if channel == "bars" else 0))
        if channel == "bars":
            station.days.add(decoding.day_pieces(kept))
        late = station.lane.late
        station.reopened(station.lane.add(channel, self._pieces(kind, channel, kept)))
        RECORDS_SKIPPED.labels(STAGE, tp.topic, "late").inc(station.lane.late - late)
        RECORDS_APPLIED.labels(STAGE, tp.topic).inc(kept.height)

    def _pieces(self, kind: str, channel: str, frame: Any) -> list[Piece]:
        if channel == "trades":
            return decoding.trade_pieces(frame)
        if channel == "bars":
            return decoding.bar_pieces(frame)
        return decoding.quote_pieces(kind, frame, self._sampled)

    def _advance(self, station: Station, channel: str, event_ns: int) -> None:
        now = self._clock()
        if event_ns > now + _FUTURE_NS:
            return
        station.newest[channel] = max(event_ns, station.newest.get(channel, 0))
        station.clock.advance(event_ns, now)
        self.market[station.scope.kind].advance(event_ns, now)

    async def _note_positions(self) -> None:
        """How far each partition was read, and whether that is to its end."""
        now = self._clock()
        behind: set[tuple[str, int]] = set()
        positions = {}
        ends: dict[TopicPartition, int] = {}
        assigned = list(self._consumer.assignment())
        if assigned and now >= self._ends_at + NS_PER_SECOND:
            # Not the high watermarks of the fetches: a partition that waits for its turn would seem read.
            self._ends = dict(await self._consumer.end_offsets(assigned))
            self._ends_at = now
        for tp in self._consumer.assignment():
            place = (self._sources[tp.topic].scope.kind, tp.partition)
            if place not in self.stations:
                continue
            try:
                positions[tp] = await self._consumer.position(tp)
            except (KafkaError, IllegalStateError):
                behind.add(place)
                continue
            end = self._ends.get(tp)
            if end is None or positions[tp] < end:
                behind.add(place)
            ends[tp] = positions[tp] if end is None else end
        self._positions = positions
        for place, station in self.stations.items():
            station.caught_up = place not in behind
            own = [tp for tp in ends if (self._sources[tp.topic].scope.kind, tp.partition) == place]
            station.extent = Extent(
                {tp.topic: positions[tp] for tp in own}, {tp.topic: ends[tp] for tp in own}
            )
            if not station.caught_up:
                station.clock.behind(now)
                self.market[place[0]].behind(now)

    # -- what is ours

    async def assigned(self, partitions: Iterable[TopicPartition]) -> None:
        """Make a station of every number of partition, beginning where the group has come to."""
        found = list(partitions)
        notes = await self._notes(found)
        begins = await self._consumer.beginning_offsets(found) if found else {}
        for tp in found:
            source = self._sources[tp.topic]
            place = (source.scope.kind, tp.partition)
            note = notes.get(tp, {})
            if source.channel == "trades":
                count = len(self._consumer.partitions_for_topic(tp.topic) or ())
                cut = not note and begins[tp] > 0
                lane = Lane(
                    {channel: FOLDS[channel] for channel in source.scope.topics},
                    note.get("floor"),
                    begins_with="trades" if cut else None,
                )
                self.stations[place] = Station(source.scope, tp.partition, count, lane)
        for tp in found:
            source = self._sources[tp.topic]
            station = self.stations.get((source.scope.kind, tp.partition))
            if station is not None:
                station.fences[source.channel] = fence.LogFence(notes.get(tp, {}).get("rises", ()))
                if source.channel == "bars":
                    station.days = Days(notes.get(tp, {}).get("days", 0))
        self._placed.set()

    def revoked(self) -> None:
        """Everything may be somebody else's from now on."""
        self._placed.clear()
        for station in self.stations.values():
            station.cases.clear()
        self.stations.clear()
        self._positions, self._committed = {}, {}

    async def _notes(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, dict[str, Any]]:
        """What stands with each committed offset."""
        if not partitions:
            return {}
        admin = AIOKafkaAdminClient(**client_arguments(self._settings))
        try:
            await start(admin)
            known = await admin.list_consumer_group_offsets(self.group, partitions=list(partitions))
        finally:
            await admin.close()
        return {tp: json.loads(note) for tp, (_, note) in known.items() if note}


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka is untyped
    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        self._reader.revoked()

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        await self._reader.assigned(assigned)


def _decoder(codec: Codec, kind: str, channel: str, stem: str) -> Decoder:
    columns = {
        "trades": decoding.TRADE_COLUMNS[kind],
        "bars": decoding.BAR_COLUMNS,
        "quotes": decoding.QUOTE_COLUMNS.get(kind, ()),
    }[channel]
    return Decoder(codec.versions(stem), columns=columns)
