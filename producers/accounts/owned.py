"""An account while this process owns it: its parts, made anew each time that it becomes ours."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from aiohttp import ClientSession
from aiokafka import AIOKafkaProducer
from aiokafka.structs import TopicPartition

from producers import contact
from producers.accounts.interruptions import Interruptions
from producers.accounts.journal import Journal
from producers.accounts.keys import Keyed
from producers.accounts.link import Link
from producers.accounts.polling import Polling
from producers.accounts.recall import Recalled, recall
from producers.accounts.rest import TradingApi
from producers.accounts.rounds import Rounds
from producers.accounts.savings import Savings
from producers.accounts.stream import TradeUpdateStream
from producers.accounts.truth import Truth
from producers.accounts.turns import Turns
from producers.accounts.watch import Watch
from producers.announce import Announcer
from producers.connection import Connection
from producers.publisher import Publisher
from schemas.catalogue import (
    ACCOUNT_SNAPSHOTS,
    ACTIVITIES,
    AUDITS,
    GAPS,
    TRADE_UPDATE_FRAMES,
    TRADE_UPDATES,
    Catalogue,
)
from schemas.codec import Codec
from schemas.gaps import CLOSED, Gap
from tidewire import kafka
from tidewire.clock import NS_PER_MS, Clock
from tidewire.config import Settings
from tidewire.metrics import ACCOUNT_GAPS
from tidewire.placing import partition_of
from tidewire.redaction import Redactor

SETTLE_SECONDS = 10.0
"""How long a snapshot waits for the events before it to be acknowledged."""


@dataclass(frozen=True, slots=True)
class Ground:
    """What all accounts of a process share. `known` are partitions whose ends the publisher knows."""

    settings: Settings
    codec: Codec
    publisher: Publisher
    rest: ClientSession
    teller: AIOKafkaProducer
    clock: Clock
    known: set[TopicPartition] = field(default_factory=set)
    turns: Turns = field(default_factory=Turns)

    def topic(self, name: str) -> str:
        """The real name of a topic."""
        return Catalogue(self.settings.tidewire_topic_prefix, 1).name(name)

    def partition(self, name: str, key: bytes) -> TopicPartition:
        """Where records with this key are."""
        partitions = self.publisher.partitions(self.topic(name))
        return partitions[partition_of(key, len(partitions))]


def feed_of(account: str) -> str:
    """The name of an account's feed."""
    return f"trading:{account}"


async def own(one: Keyed, epoch: int, ground: Ground, show: Callable[[Watch | None], None]) -> None:
    """Follow an account until cancelled, or until it is refused for good; `show` is told its watch."""
    name = one.account.name
    await ground.publisher.settle()  # records of an earlier ownership may still be on their way
    recalled = await recall(
        kafka.client_arguments(ground.settings), ground.codec, name,
        updates=ground.partition(TRADE_UPDATES, name.encode()),
        snapshots=ground.partition(ACCOUNT_SNAPSHOTS, name.encode()),
        activities=ground.partition(ACTIVITIES, name.encode()),
        gaps=ground.publisher.partitions(ground.topic(GAPS)),
    )  # fmt: skip
    # Lanes that were written to know their ends better; another account's records may be on their way.
    new = {partition: end for partition, end in recalled.ends.items() if partition not in ground.known}
    ground.publisher.expect(new)
    ground.known.update(new)
    watch = _assemble(one, epoch, ground, recalled)
    show(watch)
    try:
        await watch.run()
    finally:
        if watch.refused is None:
            show(None)
        await contact.flush(ground.publisher, "accounts")


def _assemble(one: Keyed, epoch: int, ground: Ground, recalled: Recalled) -> Watch:
    settings, account, clock = ground.settings, one.account, ground.clock
    redactor = Redactor(one.key, one.secret)
    journal = Journal(
        account.name, ground.codec, ground.publisher, recalled.memory, redactor,
        updates_topic=ground.topic(TRADE_UPDATES), snapshots_topic=ground.topic(ACCOUNT_SNAPSHOTS),
        activities_topic=ground.topic(ACTIVITIES), frames_topic=ground.topic(TRADE_UPDATE_FRAMES),
        owner_epoch=epoch,
    )  # fmt: skip
    api = TradingApi(ground.rest, account.trading_url(settings), one.key, one.secret)
    savings = Savings(lambda: api.made, asyncio.get_running_loop().time)
    truth = _truth(account.name, epoch, ground, recalled, journal, savings)
    rounds = Rounds(
        api, journal, recalled.last, redactor,
        lambda: asyncio.wait_for(ground.publisher.settle(), SETTLE_SECONDS),
        clock, truth, mode=settings.tidewire_account_mode, every_seconds=settings.tidewire_snapshot_seconds,
        turns=ground.turns,
    )  # fmt: skip
    announcer = Announcer(
        settings, ground.codec, ground.teller, feed_of(account.name), owner_epoch=epoch, clock=clock
    )
    link = _link(one, ground, journal, rounds, announcer, redactor)
    if isinstance(link, Link):
        truth.break_off = link.break_off
    return Watch(account, link, rounds, announcer, savings)


def _link(
    one: Keyed, ground: Ground, journal: Journal, rounds: Rounds, announcer: Announcer, redactor: Redactor
) -> Link | Polling:
    if ground.settings.tidewire_account_mode == "poll":
        return Polling(announcer.state)
    url = one.account.trading_stream_url(ground.settings)
    stream = TradeUpdateStream(url, one.key.get_secret_value(), one.secret.get_secret_value())
    connection = Connection(random.random)
    return Link(
        url, stream, journal, ground.publisher, connection, rounds, announcer.state, redactor, ground.clock
    )


def _truth(
    name: str, epoch: int, ground: Ground, recalled: Recalled, journal: Journal, savings: Savings
) -> Truth:
    feed = feed_of(name)
    add_gap = ground.publisher.adder(ground.topic(GAPS))
    add_audit = ground.publisher.adder(ground.topic(AUDITS))
    encode_gap, encode_audit = ground.codec.encoder("gap"), ground.codec.encoder("audit")

    def write_gap(gap: Gap) -> None:
        add_gap(gap.key, encode_gap(gap.record()), gap.ts // NS_PER_MS)
        ACCOUNT_GAPS.labels("unrecoverable" if gap.state == CLOSED and gap.unrecoverable else gap.state).inc()

    def write_audit(audit: Mapping[str, Any]) -> None:
        key = f"{feed}:{audit['channel']}".encode()
        add_audit(key, encode_audit(audit), audit["audited_ts"] // NS_PER_MS)

    return Truth(
        feed, epoch, Interruptions(feed, epoch, write_gap, recalled.gaps), recalled.memory,
        lambda: journal.streamed_ts, write_audit, savings, ground.clock,
        ground.settings.tidewire_snapshot_seconds,
    )  # fmt: skip
