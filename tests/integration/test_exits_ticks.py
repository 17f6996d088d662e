"""Trailing stops over the ticks of 2013-10-07 through Kafka, against a loop over the files, equally gated.

BAC and IBM are guarded by their quotes, SPY and AIG by their trades: these have no others. Every symbol has a
partition of its own, so that the two topics, which are read side by side, share no clock.
"""

from __future__ import annotations

import gzip
from collections.abc import AsyncIterator, Iterator
from decimal import Decimal
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from processors.exits.explain import explain
from schemas import cluster
from schemas.catalogue import EXIT_TRIGGERS, EXIT_WATCH, ORDER_INTENTS, STOCK_QUOTES, STOCK_TRADES
from schemas.codec import Codec, load_codec
from schemas.exit_rules import watch_key
from simulator.conditions import quote_letters, tape_of, trade_letters, update_rule
from tests.integration.exits_world import NEEDED, PROGRAM, a_watch
from tests.integration.processor_process import worker
from tidewire.config import Settings
from tidewire.kafka import client_arguments
from tidewire.placing import partition_of

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(300)]

LEAN = Path(__file__).resolve().parents[3] / "shared" / "data" / "lean"
MIDNIGHT = 1_381_118_400_000_000_000
"""2013-10-07 00:00 in New York, ns."""
OPEN, CLOSE = 34_200_000, 57_600_000
PARTITIONS = 7
PARTS = {symbol: partition_of(symbol.encode(), PARTITIONS) for symbol in ("AIG", "BAC", "IBM", "SPY")}
ROWS = {"AIG": 40_000, "BAC": 40_000, "IBM": 120_000, "SPY": 30_000}
"""Rows of each file from its beginning: all of AIG and IBM, the first minutes of the others."""
TRAILS = {
    "AIG": ["0.1", "0.25", "0.5", "1"],
    "BAC": ["0.1", "0.2", "0.4", "0.8"],
    "IBM": ["0.05", "0.1", "0.25", "0.5"],
    "SPY": ["0.02", "0.05", "0.1", "0.2"],
}
_NOT_LAST = 2

needs_ticks = pytest.mark.skipif(
    not LEAN.is_dir(), reason="the recorded ticks (../shared/data/lean) are not here"
)


class Tick(NamedTuple):
    """A line of a file, or two that are one quote. Prices in 1/10000 USD, 0: no such side; time in ms."""

    ms: int
    price: int
    ask: int
    letters: tuple[str, ...]
    sizes: tuple[int, int]


def quotes(symbol: str) -> Iterator[Tick]:
    """A bid-only row directly followed by an ask-only row of the same time is one quote."""
    held: Tick | None = None
    for ms, bid, bid_size, ask, ask_size, flags in rows(symbol, "quote"):
        here = Tick(ms, bid, ask, (flags,), (bid_size, ask_size))
        bid_there, ask_there = bool(bid or bid_size), bool(ask or ask_size)
        if held is not None:
            if held.ms == ms and ask_there and not bid_there:
                merged = quote_letters(int(held.letters[0], 16) | int(flags, 16))
                yield Tick(ms, held.price, ask, merged, (held.sizes[0], ask_size))
                held = None
                continue
            yield held._replace(letters=quote_letters(int(held.letters[0], 16)))
            held = None
        if bid_there and not ask_there:
            held = here
        else:
            yield here._replace(letters=quote_letters(int(flags, 16)))
    if held is not None:
        yield held._replace(letters=quote_letters(int(held.letters[0], 16)))


def trades(symbol: str) -> Iterator[Tick]:
    tape = tape_of(symbol)
    for ms, price, size, flags in rows(symbol, "trade"):
        yield Tick(ms, price, 0, trade_letters(int(flags, 16), tape), (size, 0))


def rows(symbol: str, kind: str) -> Iterator[tuple[Any, ...]]:
    with gzip.open(LEAN / f"{symbol.lower()}_20131007_{kind}_tick.csv.gz", "rt") as file:
        next(file)
        for line in islice(file, ROWS[symbol]):
            *numbers, _, flags, _ = line.strip().split(",")
            yield (*map(int, numbers), flags)


def is_good(symbol: str, tick: Tick) -> bool:
    """The gates that such a file can close."""
    if not OPEN <= tick.ms < CLOSE:
        return False
    if symbol in ("BAC", "IBM"):
        return 0 < tick.price < tick.ask and not {"L", "N"}.intersection(tick.letters)
    return tick.price > 0 and update_rule(tick.letters, tape_of(symbol)).minute.last == _NOT_LAST


def naive(symbol: str, ticks: list[Tick], percent: str) -> int | None:
    """Which tick fires the trailing stop of a long position."""
    best = 0
    newest = 0
    share = 1 - Decimal(percent) / 100
    for number, tick in enumerate(ticks):
        late, newest = tick.ms < newest, max(newest, tick.ms)
        if late or not is_good(symbol, tick):
            continue
        best = max(best, tick.price)
        if tick.price <= best * share:
            return number
    return None


def record(symbol: str, tick: Tick, number: int) -> dict[str, Any]:
    ts = MIDNIGHT + tick.ms * 1_000_000
    common = {"symbol": symbol, "ts": ts, "conditions": list(tick.letters), "tape": tape_of(symbol)}
    common |= {"extra": None, "received_ts": ts, "source": "ws", "owner_epoch": 1}
    common |= {"event_id": number.to_bytes(8, "big")}
    price, (size, ask_size) = tick.price / 10_000, tick.sizes
    if symbol in ("AIG", "SPY"):
        return common | {"id": number + 1, "exchange": "P", "price": price, "size": size}
    bid = {"bid_exchange": "P", "bid_price": price, "bid_size": size}
    return common | bid | {"ask_exchange": "P", "ask_price": tick.ask / 10_000, "ask_size": ask_size}


@pytest.fixture
def wide(settings: Settings) -> Settings:
    return settings.model_copy(update={"tidewire_partitions": PARTITIONS})


@pytest.fixture
async def producer(wide: Settings) -> AsyncIterator[AIOKafkaProducer]:
    await cluster.apply(wide, only=NEEDED)
    client = AIOKafkaProducer(**client_arguments(wide), enable_idempotence=True)
    await client.start()
    yield client
    await client.stop()


@needs_ticks
async def test_trailing_stops_fire_at_the_very_tick(wide: Settings, producer: AIOKafkaProducer) -> None:
    """Otherwise a position is sold too early, too late, or on one of IBM's 43 crossed quotes."""
    codec, prefix = load_codec(wide), wide.tidewire_topic_prefix
    ticks = {symbol: list((quotes if symbol in ("BAC", "IBM") else trades)(symbol)) for symbol in PARTS}
    crossed = sum(tick.price > tick.ask > 0 for tick in ticks["IBM"])
    assert crossed == 43
    due = {(s, percent): naive(s, ticks[s], percent) for s in PARTS for percent in TRAILS[s]}
    assert sum(number is not None for number in due.values()) >= 10, due
    with worker(wide, PROGRAM, TIDEWIRE_PARTITIONS=str(PARTITIONS)) as service:
        for symbol, percent in due:
            watch = trailing(symbol, percent)
            value, key = codec.encode("exit_watch", watch), watch_key(watch)
            await producer.send(prefix + EXIT_WATCH, value, key=key, partition=PARTS[symbol])
        await producer.flush()
        await service.until(
            lambda health: (
                health.get("status") == "healthy"
                and health["exits"]["watched"] == len(PARTS)
                and len(health["lag"]) == 11
            )
        )
        for symbol, found in ticks.items():
            await publish(producer, codec, prefix, symbol, found)
        await service.until(lambda health: not any(health["lag"].values()) and not health["exits"]["pending"])
    triggers = await read(wide, codec, EXIT_TRIGGERS)
    assert len(triggers) == 2 * len({t["trigger_id"] for t in triggers})
    fired = {(t["symbol"], t["rule"]): t for t in triggers if t["state"] == "sent"}
    assert {place: t["inputs"][-1]["offset"] for place, t in fired.items()} == {
        (symbol, f"trail-{percent}"): number
        for (symbol, percent), number in due.items()
        if number is not None
    }
    for (symbol, _), trigger in fired.items():
        tick = ticks[symbol][trigger["inputs"][-1]["offset"]]
        assert trigger["ts"] == MIDNIGHT + tick.ms * 1_000_000
        assert trigger["inputs"][-1]["value"] == tick.price / 10_000
        assert explain(trigger).fires
    intents = await read(wide, codec, ORDER_INTENTS)
    assert sorted(i["intent_id"] for i in intents) == sorted(t["trigger_id"] for t in fired.values())


def trailing(symbol: str, percent: str) -> dict[str, Any]:
    """Each of another account: one exit a position."""
    reference = "side" if symbol in ("BAC", "IBM") else "last"
    spec = {"kind": "trailing_stop", "trail_percent": percent, "reference": reference}
    account = f"demo-{percent.replace('.', '-')}"
    return a_watch(symbol, spec, MIDNIGHT, account=account, rule=f"trail-{percent}")


async def publish(
    producer: AIOKafkaProducer, codec: Codec, prefix: str, symbol: str, found: list[Tick]
) -> None:
    topic, stem = (STOCK_QUOTES, "stock_quote") if symbol in ("BAC", "IBM") else (STOCK_TRADES, "stock_trade")
    encode, key = codec.encoder(stem), symbol.encode()
    for start in range(0, len(found), 100):
        batch = producer.create_batch()
        for number, tick in enumerate(found[start : start + 100], start):
            value = encode(record(symbol, tick, number))
            assert batch.append(key=key, value=value, timestamp=None) is not None, "batch too small"
        await producer.send_batch(batch, prefix + topic, partition=PARTS[symbol])
    await producer.flush()


async def read(settings: Settings, codec: Codec, topic: str) -> list[dict[str, Any]]:
    client = AIOKafkaConsumer(**client_arguments(settings), auto_offset_reset="earliest")
    await client.start()
    try:
        lanes = [TopicPartition(settings.tidewire_topic_prefix + topic, p) for p in range(PARTITIONS)]
        client.assign(lanes)
        ends = await client.end_offsets(lanes)
        found: list[dict[str, Any]] = []
        while any([await client.position(lane) < ends[lane] for lane in lanes]):
            for records in (await client.getmany(timeout_ms=300)).values():
                found += [codec.decode(r.value)[1] for r in records]
        return found
    finally:
        await client.stop()
