"""From the market's socket to the feature record at 5,000 and 50,000 messages a second, alone.

The producer and the processor run as they are, with Kafka and a market that sends ready frames
(market_socket.py), and nothing else.
What is measured begins when a message was to leave the market: what a slow producer leaves in the socket, and
what the market itself is late by, count.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from benchmarks import fleet, market, stillness
from benchmarks.line import features, percentiles
from benchmarks.process import side
from benchmarks.servers import Servers
from schemas.catalogue import STOCK_TRADES, TOPICS
from simulator.options import key_pair
from tidewire import config
from tidewire.clock import NS_PER_SECOND
from tidewire.supervision.child import free_port

STEADY = 5_000
BURST = 50_000
"""Messages a second."""
SECONDS = 20
_WARM_SECONDS = 5
_LAST_SECONDS = 3
_LEAD_SECONDS = 75
"""So long the frames may take to make, and the services to start, before the first is to leave."""
_SERVICE = "import sys; from {} import main; from tidewire.config import load; sys.exit(main(load()))"


Measured = tuple[float, dict[str, float]]


def at(rate: int) -> Callable[[Servers, int, Callable[[str], None]], Measured]:
    """99th percentile in ms from when a message was to leave the market to its feature record's arrival."""

    def measure(servers: Servers, _: int, say: Callable[[str], None]) -> Measured:
        with servers.topics(f"at{rate}", [topic.name for topic in TOPICS]) as own:
            say(f"{SECONDS} s at {rate:,} messages a second")
            answer = side("benchmarks.burst:drive", {"rate": rate}, own.env() | _env())
        return float(answer.pop("p99")), {name: round(float(v), 1) for name, v in answer.items()}

    return measure


def _env() -> dict[str, str]:
    key, secret = key_pair(1)
    return {
        "APCA_API_KEY_ID": key,
        "APCA_API_SECRET_KEY": secret,
        "TIDEWIRE_FEED": "sip",
        "TIDEWIRE_SYMBOLS": ",".join(market.SYMBOLS),
        "TIDEWIRE_NEWS_SYMBOLS": "-",
        "TIDEWIRE_MARKET_HOURS": "always",
    }


def drive(rate: int) -> dict[str, float]:
    """The measuring side, in a process of its own, with the market and the services as its children."""
    port = free_port()
    os.environ["TIDEWIRE_STREAM_URL"] = f"ws://127.0.0.1:{port}"
    os.environ["TIDEWIRE_DATA_URL"] = f"http://127.0.0.1:{port}"
    settings = config.load()
    with _market(port, rate) as start_ns:
        services = [fleet.start(settings, _SERVICE.format("processors.app"))]
        try:
            trades = settings.tidewire_topic_prefix + STOCK_TRADES
            services[0].until(lambda health: fleet.served(health, trades) > 0)
            services.append(fleet.start(settings, _SERVICE.format("producers.app")))
            services[1].until(lambda health: health.get("status") == "healthy")
            return asyncio.run(_drive(services, start_ns))
        finally:
            for service in services:
                service.process.terminate()
            for service in services:
                service.end()


@contextmanager
def _market(port: int, rate: int) -> Iterator[int]:
    """When its first frame is to leave (ns)."""
    seconds = _WARM_SECONDS + SECONDS + _LAST_SECONDS
    words = map(str, (port, rate, seconds, _LEAD_SECONDS))
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.market_socket", *words], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        said = process.stdout.readline().split()
        if said[:1] != ["READY"]:
            raise RuntimeError("the market did not start")
        yield int(said[1])
    finally:
        process.kill()
        process.wait()


async def _drive(services: Sequence[fleet.Processor], start_ns: int) -> dict[str, float]:
    begin = start_ns + _WARM_SECONDS * NS_PER_SECOND
    end = begin + SECONDS * NS_PER_SECOND
    waits: list[float] = []
    receipts: list[float] = []
    async with features() as following, stillness.watched() as still:
        using = asyncio.create_task(_used(services, begin, end))
        now = 0
        while now < end + _LAST_SECONDS * NS_PER_SECOND:
            now, records = await following()
            counted = [record for record in records if begin <= record["ts"] < end]
            waits += [(now - record["ts"]) / 1e6 for record in counted]
            receipts += [(now - record["received_ts"]) / 1e6 for record in counted]
        processor, producer = await using
    since = {f"received_{name}": value for name, value in percentiles(receipts).items() if name != "records"}
    used = {"processor_percent": processor, "producer_percent": producer}
    return percentiles(waits) | since | used | still


async def _used(services: Sequence[fleet.Processor], begin: int, end: int) -> list[float]:
    """Of a core, by each of the services in this time (%)."""
    if (early := begin - time.time_ns()) < 0:
        raise RuntimeError(f"the services took longer than {_LEAD_SECONDS} s to start")
    await asyncio.sleep(early / NS_PER_SECOND)
    before = [one.cpu() for one in services]
    await asyncio.sleep((end - time.time_ns()) / NS_PER_SECOND)
    return [100 * (one.cpu() - cpu) / SECONDS for one, cpu in zip(services, before, strict=True)]
