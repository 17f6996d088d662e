"""From a quote that crosses a stop to the order at the broker: 5,000 quotes a second, 1,000 rules.

The exits service and the executor run as they are; the broker is the simulator. Every symbol is watched, so
every quote is decoded and judged. A quote is stamped just before its batch is given to Kafka's client, and an
order when its POST comes in at the broker: the producer's part of the way (latency, ingest) is not in it.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from typing import Any

import aiohttp
from aiokafka import AIOKafkaProducer

from benchmarks import exits_broker, fleet, stillness
from benchmarks.exits_broker import ACCOUNTS, POSITIONS, Held
from benchmarks.exits_stages import NAMES, Stamps, stamps
from benchmarks.process import side
from benchmarks.servers import Servers
from schemas.catalogue import EXIT_WATCH, ORDER_RESULTS, STOCK_QUOTES, TRADE_UPDATES
from schemas.codec import Codec, load_codec
from schemas.event_id import watch_id
from schemas.exit_rules import parameters, parse, watch_key
from schemas.order_ids import client_order_id, trigger_name
from tidewire import config
from tidewire.config import Settings
from tidewire.kafka import client_arguments
from tidewire.placing import partition_of

LEVELS = (95, 60, 55, 50, 45)
"""Stops of each position; the quotes cross the first. With 200 positions: 1,000 rules."""
RULES = len(LEVELS) * len(POSITIONS)
QUOTES_PER_SECOND = 5_000
CROSSINGS_PER_SECOND = 8
SECONDS = 25
_GROUPS = "tidewire-ex"
"""What the names of both services' groups and changelogs begin with."""
_WARM_SECONDS = 3
_LAST_SECONDS = 30.0
_STEP = 0.01
_SERVICE = "import sys; from {} import main; from tidewire.config import load; sys.exit(main(load()))"


def measure(servers: Servers, _: int, say: Callable[[str], None]) -> tuple[float, dict[str, float]]:
    """99th percentile in ms, with how far on its way an exit is when (see exits_stages.py)."""
    from processors.exits.app import EVENTS, OUTPUTS, PRICES, WHOLE

    topics = (*PRICES, *EVENTS, *OUTPUTS, *WHOLE, ORDER_RESULTS, TRADE_UPDATES)
    with servers.fresh_database() as fresh, fresh.topics("exits", topics, _GROUPS) as own:
        say(f"{RULES} rules, {QUOTES_PER_SECOND} quotes a second for {SECONDS} s, {ACCOUNTS} accounts")
        answer = side(
            "benchmarks.exits:drive",
            {"seconds": SECONDS, "rate": QUOTES_PER_SECOND},
            own.env() | {"TIDEWIRE_MARKET_HOURS": "always"},
        )
    return float(answer.pop("p99")), {name: round(float(v), 1) for name, v in answer.items()}


def drive(seconds: float, rate: float) -> dict[str, float]:
    """The measuring side, in a process of its own, with the services and the broker as its children."""
    home = config.load().tidewire_home
    os.environ["TIDEWIRE_ACCOUNTS_FILE"] = str(exits_broker.accounts_file(home))
    with exits_broker.running(home) as url:
        os.environ["TIDEWIRE_TRADING_URL"] = os.environ["TIDEWIRE_DATA_URL"] = url
        settings = config.load()
        services = [
            fleet.start(settings, _SERVICE.format(name))
            for name in ("processors.exits.app", "sinks.executor.app")
        ]
        try:
            return asyncio.run(_drive(settings, url, services, seconds, rate))
        finally:
            for service in services:
                service.process.terminate()
            for service in services:
                service.end()


async def _drive(
    settings: Settings, url: str, services: Sequence[fleet.Processor], wanted: float, rate: float
) -> dict[str, float]:
    codec = load_codec(settings)
    exits, executor = services
    producer = AIOKafkaProducer(**client_arguments(settings), enable_idempotence=True)
    await producer.start()
    try:
        async with aiohttp.ClientSession() as http:
            await exits_broker.buy_all(http, url)
            await _watch(settings, codec, producer)
            await asyncio.to_thread(exits.until, _all_watched)
            await asyncio.to_thread(executor.until, _all_claimed)
            market = _Market(settings, codec, producer, rate)
            await market.feed(_WARM_SECONDS, 0)
            before, started = await asyncio.to_thread(_used, services), time.monotonic()
            async with stillness.watched() as still:
                sent = await market.feed(wanted, CROSSINGS_PER_SECOND)
            seconds = time.monotonic() - started
            used = [b - a for a, b in zip(before, await asyncio.to_thread(_used, services), strict=True)]
            arrived = await _all_arrived(http, url, market.crossed)
    finally:
        await producer.stop()
    found = await stamps(settings, {_intent(held): ns for held, ns in market.crossed.items()}, arrived)
    cpu = dict(
        zip(("exits_cpu_percent", "executor_cpu_percent"), (100 * u / seconds for u in used), strict=True)
    )
    return _figures(found) | cpu | still | {"quotes_per_s": sent / seconds}


def _figures(found: Sequence[Stamps]) -> dict[str, float]:
    """Percentiles in ms since the quote; of the whole way, then of each stage's end."""
    figures = {"crossings": float(len(found))}
    for name in ("post", *(each for each in NAMES if each != "post")):
        waits = sorted(stamp.since(name) for stamp in found)
        prefix = "" if name == "post" else f"{name}_"
        figures |= {f"{prefix}p50": waits[len(waits) // 2], f"{prefix}p99": waits[int(len(waits) * 0.99)]}
    return figures | {"max": max(stamp.since("post") for stamp in found)}


def _used(services: Sequence[fleet.Processor]) -> list[float]:
    return [service.cpu() for service in services]


def _all_watched(health: dict[str, Any]) -> bool:
    return health.get("status") == "healthy" and health["exits"]["watched"] == len(POSITIONS)


def _all_claimed(health: dict[str, Any]) -> bool:
    return health.get("status") == "healthy" and len(health["accounts"]) == ACCOUNTS


def _intent(held: Held) -> str:
    return trigger_name(held.account, held.symbol, 1, 0)


async def _all_arrived(http: aiohttp.ClientSession, url: str, crossed: dict[Held, int]) -> dict[str, int]:
    """By intent, when its order came.

    Raises:
        RuntimeError: an order came twice, or not at all.
    """
    deadline = time.monotonic() + _LAST_SECONDS
    while True:
        orders = await exits_broker.arrivals(http, url)
        found = {_intent(held): orders.get(client_order_id(_intent(held), 0)) for held in crossed}
        if all(found.values()):
            return {name: at for name, at in found.items() if at is not None}
        if time.monotonic() > deadline:
            missing = sum(at is None for at in found.values())
            raise RuntimeError(f"{len(crossed)} stops were crossed, {missing} orders never came")
        await asyncio.sleep(0.5)


class _Market:
    """Quotes of random symbols in small batches, evenly; every so often one falls through its stop."""

    def __init__(self, settings: Settings, codec: Codec, producer: AIOKafkaProducer, rate: float) -> None:
        self._rate = rate
        self._topic = settings.tidewire_topic_prefix + STOCK_QUOTES
        self._encode, self._producer = codec.encoder("stock_quote"), producer
        self._chance = random.Random(1)
        self._waiting = list(POSITIONS)
        self._chance.shuffle(self._waiting)
        self.crossed: dict[Held, int] = {}
        """When the quote that crossed a position's stop was sent, ns."""

    async def feed(self, seconds: float, crossings: float) -> int:
        """Quotes for so long; returns how many."""
        started, sent, already = time.monotonic(), 0, len(self.crossed)
        while (passed := time.monotonic() - started) < seconds:
            some = self._chance.choices(POSITIONS, k=int(passed * self._rate) - sent)
            sent += len(some)
            due = min(int(passed * crossings) - len(self.crossed) + already, len(self._waiting))
            falling = [self._waiting.pop() for _ in range(due)]
            await self._send([(held, self._bid(held)) for held in some], falling)
            await asyncio.sleep(_STEP)
        return sent

    def _bid(self, held: Held) -> float:
        return 94.0 if held in self.crossed else 100 + self._chance.randint(-200, 200) / 100

    async def _send(self, quotes: list[tuple[Held, float]], falling: list[Held]) -> None:
        lanes: defaultdict[int, list[tuple[bytes, bytes]]] = defaultdict(list)
        for held, bid in [*quotes, *((held, 94.0) for held in falling)]:
            now, key = time.time_ns(), held.symbol.encode()
            if bid == 94.0:
                self.crossed.setdefault(held, now)
            lane = partition_of(key, fleet.PARTITIONS)
            lanes[lane].append((key, self._encode(_quote(held.symbol, bid, now))))
        await _send(self._producer, self._topic, lanes)


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
    for held in POSITIONS:
        for level in LEVELS:
            watch = _rule(held, level)
            partition = partition_of(watch["symbol"].encode(), fleet.PARTITIONS)
            value = codec.encode("exit_watch", watch)
            await producer.send(topic, value, key=watch_key(watch), partition=partition)
    await producer.flush()


def _rule(held: Held, level: int) -> dict[str, Any]:
    """A stop under a long position that was entered at 100."""
    now, name, stop = time.time_ns(), f"stop-{level}", parse({"kind": "stop_loss", "price": str(level)})
    names = {"account": held.account, "position_symbol": held.symbol, "rule": name, "position_epoch": 1}
    amounts = {"quantity": Decimal(1), "entry_price": Decimal(100), "stop_price": stop.price}
    nothing = dict.fromkeys(("limit_price", "trail_price", "trail_percent", "held", "result"))
    rest = {"kind": "stop_loss", "active": True, "exit_epoch": 0, "asset_class": "us_equity"}
    said = {"parameters": parameters(stop, now, now, "cli:bench"), "price_basis_ts": 0}
    id = watch_id(held.account, held.symbol, name, 1, 0, now)
    times = {"ts": now, "received_ts": now, "source": "ws", "event_id": id}
    return {"symbol": held.symbol} | names | amounts | nothing | rest | said | times


def _quote(symbol: str, bid: float, now: int) -> dict[str, Any]:
    sides = {"bid_exchange": "V", "bid_price": bid, "bid_size": 1}
    sides |= {"ask_exchange": "V", "ask_price": round(bid + 0.01, 2), "ask_size": 2}
    more = {"conditions": ["R"], "tape": "C", "extra": None, "received_ts": now, "source": "ws"}
    return (
        {"symbol": symbol, "ts": now} | sides | more | {"owner_epoch": 1, "event_id": now.to_bytes(8, "big")}
    )
