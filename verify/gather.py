"""The evidence of a report: the ledger, the topics, the feature table, PostgreSQL, the dead letters."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from schemas.catalogue import STOCK_CORRECTIONS, TRADE_UPDATES
from schemas.codec import Codec, load_codec
from tidewire.config import Settings
from verify import (
    activities,
    completeness,
    database,
    dead_letters,
    exits_read,
    features,
    ledger,
    orders_read,
    settle,
    topic,
)
from verify.activities import ActivityOutcome
from verify.compare import Evidence
from verify.completeness import Completeness
from verify.content import (
    ALL_BARS,
    BARS,
    CHANNELS,
    FOLDED,
    PAIR_BARS,
    PAIR_TRADES,
    STOCKS_VENUE,
    TRADES,
    VENUES,
    Channel,
)
from verify.dead_letters import Letter
from verify.exits import ExitOutcome
from verify.features import Features
from verify.ledger import Ledger
from verify.messages import Collector, channel_of, fingerprint
from verify.orders import OrderOutcome
from verify.orders import compare as compare_orders
from verify.topic import Ends

_FEATURES_POLL = 0.5
_ASIDE = "unpublished"
"""Beside each ledger: what passed while nobody was subscribed, which the simulator's REST has too."""
_MINUTE_NS = 60_000_000_000
BAR_TRADES = {BARS.name: TRADES, PAIR_BARS.name: PAIR_TRADES}
"""What the bars of a channel are made of."""


@dataclass(frozen=True, slots=True)
class Gathered:
    """All evidence, channel by channel, and what belongs to no channel."""

    channels: dict[str, Evidence]
    letters: list[Letter]
    corrections_sent: int
    corrections_lost: int
    """Those sent within gaps that cannot be had back."""
    corrections_kept: int
    """Those in their topic and its dead letters."""
    unknown_sent: int
    unknown_given_up: int
    ledger_from: int
    received_seconds: float | None
    orders: OrderOutcome
    activities: ActivityOutcome
    exits: ExitOutcome
    completeness: Completeness


async def gather(settings: Settings, folder: Path | None, wait_seconds: float) -> Gathered:
    """Read everything once, and the ledger again if records came meanwhile. `folder`: None without a ledger.

    Raises:
        UnreachableError: Kafka or PostgreSQL does not answer.
        TidewireError: the ledger cannot be read.
    """
    codec = load_codec(settings)
    await completeness.settled(settings, codec, wait_seconds)
    await settle.settle(settings, wait_seconds)
    stops_at_first = await settle.topic_ends(settings)
    sent = _ledgers(folder)  # before the ends: what it holds has had time to arrive
    stops = await settle.topic_ends(settings)
    letters = await dead_letters.read(settings)
    given_up = _given_up(letters)
    odd_sent, odd_given_up = _odd(sent, given_up)
    contents = {c.name: await topic.read(settings, c, codec.versions, stops[c.name]) for c in CHANNELS}
    due = {c.name: contents[c.name].records for c in FOLDED}
    folded = await _folded(settings, codec, due, letters, wait_seconds)
    told = await completeness.read(settings, codec)
    after = await settle.topic_ends(settings)
    later = _ledgers(folder) if after != stops_at_first else {}
    aside = _ledgers(folder, _ASIDE)
    channels = {}
    with database.connect(settings) as connection:
        for channel in CHANNELS:
            name, content, venue = channel.name, contents[channel.name], channel.venue
            places = dead_letters.of_channel(letters, channel.topic, name)
            channels[name] = Evidence(
                channel=channel,
                sent=sent[venue].sent.frame(channel) if venue in sent else None,
                sent_by_now=_by_now(channel, later if later else sent, aside, content.events),
                topic=content.events,
                unreadable=frozenset((p, r.offset) for p, r in content.refused),
                postgres=_up_to(database.read(connection, channel), stops[name]),
                kept_from=database.kept_from(connection, channel),
                folded=folded.folded(name) if channel in FOLDED else None,
                arrived_meanwhile=sum(after[name].values()) - sum(stops[name].values()),
                given_up_by_producer=given_up[venue].frame(channel),
                given_up_by_table=places.by_table,
                given_up_by_sink=places.by_sink,
                other_letters=places.other,
                odd_sent=odd_sent[name],
                odd_given_up=odd_given_up[name],
                gaps=told.gaps_of(venue, completeness.channel_names(channel)),
                stale=content.stale,
                repaired=content.repaired,
            )
        orders, booked = await _orders(settings, codec, connection, letters, folder is not None)
        exits = await exits_read.follow(
            settings, codec, connection, wait_seconds, simulated=folder is not None
        )
    stocks = sent.get(STOCKS_VENUE)
    return Gathered(
        channels=channels,
        letters=letters,
        corrections_sent=len(stocks.sent.corrections) if stocks else 0,
        corrections_lost=_corrections_lost(stocks, told),
        corrections_kept=await _corrections(settings, letters),
        unknown_sent=odd_sent[""],
        unknown_given_up=odd_given_up[""],
        ledger_from=sum(ledger_.complete_from for ledger_ in sent.values()),
        received_seconds=_span([c.events for c in contents.values()]),
        orders=orders,
        activities=booked,
        exits=exits,
        completeness=told,
    )


async def _orders(
    settings: Settings, codec: Codec, connection: database.Connection, letters: list[Letter], simulated: bool
) -> tuple[OrderOutcome, ActivityOutcome]:
    """The order events and activities: read after everything else, and the broker's journal first of all."""
    journal = settings.tidewire_home / orders_read.JOURNAL
    sent, booked = None, None
    if simulated and journal.is_file():
        sent, booked = orders_read.read_journal(journal), activities.read_journal(journal.parent)
        sent = activities.after_fills(sent, booked)
    name = settings.tidewire_topic_prefix + TRADE_UPDATES
    stops = {TRADE_UPDATES: (await topic.ends(settings, [name]))[name]}
    given_up = sum(letter.topic.startswith(TRADE_UPDATES) for letter in letters)
    outcome = compare_orders(sent, await orders_read.find(settings, codec, connection, stops, given_up))
    told, rows = await orders_read.activities(settings, codec, connection)
    return outcome, activities.compare(booked, told, rows)


def _by_now(
    channel: Channel, sent: Mapping[str, Ledger], aside: Mapping[str, Ledger], topic_: pl.DataFrame
) -> pl.DataFrame | None:
    """Everything that the log may hold; None: nobody knows."""
    if channel.venue not in sent:
        return None
    told = sent[channel.venue].sent.frame(channel)
    if channel.venue not in aside:
        return told
    passed = aside[channel.venue].sent
    if channel not in ALL_BARS:
        return pl.concat([told, passed.frame(channel)])
    return pl.concat([told, _of_nobody(channel, told, passed.frame(BAR_TRADES[channel.name]), topic_)])


def _of_nobody(
    channel: Channel, told: pl.DataFrame, trades: pl.DataFrame, topic_: pl.DataFrame
) -> pl.DataFrame:
    """Minute bars that history alone tells: of trades that passed while nobody was subscribed."""
    minutes = trades.select("symbol", pl.col("ts") - pl.col("ts") % _MINUTE_NS).unique()
    fetched = topic_.filter(pl.col("by_rest") & (pl.col("interval") == "minute"))
    found = fetched.join(minutes, on=["symbol", "ts"], how="semi")
    return found.join(told, on=["symbol", "interval", "ts"], how="anti").select(channel.columns)


def _ledgers(folder: Path | None, name: str | None = None) -> dict[str, Ledger]:
    """What the simulator sent, by venue; crypto and news have their folders beside that of the stocks.
    `name`: of other folders beside the ledgers.
    """
    if folder is None:
        return {}
    name = folder.name if name is None else name
    folders = {venue: folder.parent / venue / name for venue in VENUES}
    folders[STOCKS_VENUE] = folder.parent / name
    return {
        venue: ledger.read(path, venue) if path.is_dir() else Ledger(Collector(venue))
        for venue, path in folders.items()
    }


def _given_up(letters: list[Letter]) -> dict[str, Collector]:
    """The messages that dead letters hold, by venue."""
    found = {venue: Collector(venue) for venue in VENUES}
    for letter in letters:
        found[letter.venue].add(letter.messages())
    return found


async def _folded(
    settings: Settings, codec: Codec, due: Mapping[str, int], letters: list[Letter], seconds: float
) -> Features:
    """The features, read again while the table is still behind and for at most `seconds`."""
    given_up = {c.name: len(dead_letters.of_channel(letters, c.topic, c.name).by_table) for c in FOLDED}
    deadline = time.monotonic() + seconds
    while True:
        found = await features.read(settings, codec.versions)
        behind = any(found.folded(name) < count - given_up[name] for name, count in due.items())
        if not behind or time.monotonic() > deadline:
            return found
        await asyncio.sleep(_FEATURES_POLL)


async def _corrections(settings: Settings, letters: list[Letter]) -> int:
    name = settings.tidewire_topic_prefix + STOCK_CORRECTIONS
    stops = (await topic.ends(settings, [name]))[name]
    return sum(stops.values()) + sum(1 for letter in letters if letter.topic == STOCK_CORRECTIONS)


def _corrections_lost(stocks: Ledger | None, told: Completeness) -> int:
    lost = [g for g in told.gaps_of("stocks", ("corrections", "cancelErrors")) if g.unrecoverable]
    sent = [json.loads(text) for text in stocks.sent.corrections] if stocks and lost else []
    return sum(any(gap.covers(str(m.get("S")), int(m.get("t") or 0)) for gap in lost) for m in sent)


def _up_to(rows: pl.DataFrame, stops: Ends) -> pl.DataFrame:
    """Rows of records before the ends; what came later is the next report's."""
    if not stops or not rows.height:
        return rows
    shape = {"k_part": pl.Int64, "_end": pl.Int64}
    limits = pl.DataFrame([(tp.partition, end) for tp, end in stops.items()], schema=shape, orient="row")
    joined = rows.join(limits, on="k_part", how="left")
    later = (pl.col("k_offset") >= pl.col("_end")).fill_null(False)
    return joined.filter(~later).drop("_end")


def _odd(sent: Mapping[str, Ledger], given_up: Mapping[str, Collector]) -> tuple[Counter[str], Counter[str]]:
    """By channel ("" for unknown types): broken messages sent, and those of them that a dead letter holds."""
    total: Counter[str] = Counter()
    found: Counter[str] = Counter()
    for venue, of_venue in sent.items():
        left = Counter(fingerprint(m) for m in given_up[venue].odd)
        for message in of_venue.sent.odd:
            name = _name(channel_of(message, venue))
            mark = fingerprint(message)
            total[name] += 1
            if left[mark]:
                left[mark] -= 1
                found[name] += 1
    return total, found


def _name(channel: Channel | None) -> str:
    return channel.name if channel else ""


def _span(frames: list[pl.DataFrame]) -> float | None:
    """Seconds from the first to the last receive time of all records."""
    times = pl.concat([f.select("received_ts") for f in frames])["received_ts"]
    if times.len() < 2:
        return None
    first, last = times.min(), times.max()
    assert isinstance(first, int)
    assert isinstance(last, int)
    return (last - first) / 1e9 or None
