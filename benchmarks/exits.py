"""From a quote that crosses a stop to the order intent in the log: 5,000 quotes a second, 1,000 rules.

Every symbol is watched, so every quote is decoded and judged. A quote is stamped before its batch is given to
Kafka's client, and an intent when a consumer has it: the ways into and out of Kafka are counted as well.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from benchmarks import fleet
from benchmarks.process import side
from benchmarks.servers import Servers
from schemas.catalogue import EXIT_WATCH, ORDER_INTENTS, STOCK_QUOTES
from schemas.codec import Codec, load_codec
from schemas.event_id import watch_id
from schemas.exit_rules import parameters, parse, watch_key
from tidewire import config
from tidewire.config import Settings
from tidewire.kafka import client_arguments
from tidewire.placing import partition_of

RULES = 1_000
QUOTES_PER_SECOND = 5_000
CROSSINGS_PER_SECOND = 10
SECONDS = 20
_WARM_SECONDS = 3
_LAST_SECONDS = 5.0
_STEP = 0.01
_STOP = parse({"kind": "stop_loss", "price": "95"})
_PROGRAM = (
    "import sys; from processors.exits.app import main; "
    "from tidewire.config import load; sys.exit(main(load()))"
)


def measure(servers: Servers, _: int, say: Callable[[str], None]) -> tuple[float, dict[str, float]]:
    """99th percentile in ms, with what else was seen."""
    from processors.exits.app import APP_ID, EVENTS, OUTPUTS, PRICES, WHOLE

    with servers.topics("exits", (*PRICES, *EVENTS, *OUTPUTS, *WHOLE), APP_ID) as own:
        say(f"{RULES} rules, {QUOTES_PER_SECOND} quotes a second for {SECONDS} s")
        answer = side("benchmarks.exits:drive", {}, own.env() | {"TIDEWIRE_MARKET_HOURS": "always"})
    return float(answer.pop("p99")), {name: round(float(v), 1) for name, v in answer.items()}


def drive() -> dict[str, float]:
    """The measuring side, in a process of its own, with the service as its child."""
    settings = config.load()
    service = fleet.start(settings, _PROGRAM)
    try:
        return asyncio.run(_drive(settings, service))
    finally:
        service.process.terminate()
        service.end()


@dataclass(slots=True)
class _Seen:
    """When each symbol's crossing quote was given away, and how long its intent took, in ms."""

    crossed: dict[str, float] = field(default_factory=dict)
    waits: list[float] = field(default_factory=list)
    intents: Counter[str] = field(default_factory=Counter)


async def _drive(settings: Settings, service: fleet.Processor) -> dict[str, float]:
    codec, seen = load_codec(settings), _Seen()
    producer = AIOKafkaProducer(**client_arguments(settings), enable_idempotence=True)
    topic = settings.tidewire_topic_prefix + ORDER_INTENTS
    reader = AIOKafkaConsumer(
        topic, **client_arguments(settings), auto_offset_reset="earliest", fetch_max_wait_ms=20
    )
    await producer.start()
    await reader.start()
    listening = asyncio.create_task(_listen(reader, codec, seen))
    try:
        await _watch(settings, codec, producer)
        await asyncio.to_thread(service.until, _all_watched)
        await _feed(settings, codec, producer, seen, _WARM_SECONDS, 0)
        before, started = await asyncio.to_thread(service.cpu), time.monotonic()
        sent = await _feed(settings, codec, producer, seen, SECONDS, CROSSINGS_PER_SECOND)
        seconds = time.monotonic() - started
        used = await asyncio.to_thread(service.cpu) - before
        await asyncio.sleep(_LAST_SECONDS)
    finally:
        listening.cancel()
        await producer.stop()
        await reader.stop()
    if seen.crossed.keys() != seen.intents.keys() or seen.intents.total() != len(seen.crossed):
        raise RuntimeError(f"{len(seen.crossed)} stops crossed, {seen.intents.total()} intents came")
    waits = sorted(seen.waits)
    return {
        "p50": waits[len(waits) // 2],
        "p99": waits[int(len(waits) * 0.99)],
        "max": waits[-1],
        "crossings": float(len(waits)),
        "quotes_per_s": sent / seconds,
        "service_cpu_percent": 100 * used / seconds,
    }


def _all_watched(health: dict[str, Any]) -> bool:
    return health.get("status") == "healthy" and health["exits"]["watched"] == RULES


async def _listen(reader: AIOKafkaConsumer, codec: Codec, seen: _Seen) -> None:
    async for record in reader:
        now, symbol = time.perf_counter(), codec.decode(record.value)[1]["symbol"]
        seen.intents[symbol] += 1
        seen.waits.append((now - seen.crossed[symbol]) * 1_000)


async def _feed(
    settings: Settings, codec: Codec, producer: AIOKafkaProducer, seen: _Seen, seconds: float, crossings: int
) -> int:
    """Quotes of random symbols in small batches, evenly; so often a second one falls through its stop."""
    chance, encode = random.Random(1), codec.encoder("stock_quote")
    topic = settings.tidewire_topic_prefix + STOCK_QUOTES
    waiting = [_symbol(n) for n in range(RULES) if _symbol(n) not in seen.crossed]
    started, sent, crossed = time.monotonic(), 0, 0
    while (passed := time.monotonic() - started) < seconds:
        symbols = chance.choices(waiting, k=int(passed * QUOTES_PER_SECOND) - sent)
        sent += len(symbols)
        quotes = [(symbol, 100 + chance.randint(-200, 200) / 100) for symbol in symbols]
        falling = [waiting.pop() for _ in range(int(passed * crossings) - crossed)]
        crossed += len(falling)
        seen.crossed |= dict.fromkeys(falling, time.perf_counter())
        lanes: defaultdict[int, list[tuple[bytes, bytes]]] = defaultdict(list)
        for symbol, bid in [*quotes, *((symbol, 94.0) for symbol in falling)]:
            key = symbol.encode()
            lane = partition_of(key, fleet.PARTITIONS)
            lanes[lane].append((key, encode(_quote(symbol, bid))))
        await _send(producer, topic, lanes)
        await asyncio.sleep(_STEP)
    return sent


async def _send(producer: AIOKafkaProducer, topic: str, lanes: dict[int, list[tuple[bytes, bytes]]]) -> None:
    for partition, pairs in lanes.items():
        for part in _parts(pairs):
            batch = producer.create_batch()
            for key, value in part:
                batch.append(key=key, value=value, timestamp=None)
            await producer.send_batch(batch, topic, partition=partition)


def _parts(pairs: list[tuple[bytes, bytes]], size: int = 100) -> Iterator[list[tuple[bytes, bytes]]]:
    for start in range(0, len(pairs), size):
        yield pairs[start : start + size]


async def _watch(settings: Settings, codec: Codec, producer: AIOKafkaProducer) -> None:
    topic = settings.tidewire_topic_prefix + EXIT_WATCH
    for number in range(RULES):
        watch = _rule(_symbol(number))
        partition = partition_of(watch["symbol"].encode(), fleet.PARTITIONS)
        value = codec.encode("exit_watch", watch)
        await producer.send(topic, value, key=watch_key(watch), partition=partition)
    await producer.flush()


def _symbol(number: int) -> str:
    return f"S{number:04d}"


def _rule(symbol: str) -> dict[str, Any]:
    """A stop at 95 under a long position that was entered at 100."""
    now = time.time_ns()
    names = {"account": "bench", "position_symbol": symbol, "rule": "stop", "position_epoch": 1}
    amounts = {"quantity": Decimal(100), "entry_price": Decimal(100), "stop_price": _STOP.price}
    nothing = dict.fromkeys(("limit_price", "trail_price", "trail_percent", "held", "result"))
    rest = {"kind": "stop_loss", "active": True, "exit_epoch": 0, "asset_class": "us_equity"}
    said = {"parameters": parameters(_STOP, now, now, "cli:bench"), "price_basis_ts": 0}
    id = watch_id("bench", symbol, "stop", 1, 0, now)
    times = {"ts": now, "received_ts": now, "source": "ws", "event_id": id}
    return {"symbol": symbol} | names | amounts | nothing | rest | said | times


def _quote(symbol: str, bid: float) -> dict[str, Any]:
    now = time.time_ns()
    sides = {"bid_exchange": "V", "bid_price": bid, "bid_size": 1}
    sides |= {"ask_exchange": "V", "ask_price": round(bid + 0.01, 2), "ask_size": 2}
    more = {"conditions": ["R"], "tape": "C", "extra": None, "received_ts": now, "source": "ws"}
    return (
        {"symbol": symbol, "ts": now} | sides | more | {"owner_epoch": 1, "event_id": now.to_bytes(8, "big")}
    )
