"""Bytes of memory a symbol: what a process with many of them needs at most, beyond one with few."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from statistics import median

from benchmarks.peers import streams
from benchmarks.peers.java import PeerFailedError, PeerMissingError
from benchmarks.process import side
from benchmarks.servers import Servers

FEW, MANY = 100, 50_000
TRADES = 200_000
_MOST = 3  # runs of each: memory varies little

Say = Callable[[str], None]


def measure(servers: Servers, repetitions: int, say: Say) -> tuple[float, dict[str, float]]:
    """Of the ten accumulators; beside it the real features, and Kafka Streams' heap where there is a JDK."""
    runs = min(repetitions, _MOST)
    few, many = (_needed(servers, symbols, runs, say) for symbols in (FEW, MANY))
    details = {
        f"{name}_bytes_per_symbol": round((median(many[name]) - median(few[name])) / (MANY - FEW), 1)
        for name in few
        if name in many
    }
    details["features_mb_100_symbols"] = round(median(few["features"]) / 1e6, 1)
    return details["accumulators_bytes_per_symbol"], details


def _needed(servers: Servers, symbols: int, runs: int, say: Say) -> dict[str, list[float]]:
    found: defaultdict[str, list[float]] = defaultdict(list)
    with servers.topics("memory") as mine:
        say(f"{symbols:,} symbols")
        side("benchmarks.peers.trades:publish", {"count": TRADES, "symbols": symbols}, mine.env())
        for _ in range(runs):
            mine.forget_processor()
            for name, where in _SIDES.items():
                found[name].append(side(where, {"count": TRADES}, mine.env())["rss"])
            try:
                found["streams_heap"].append(streams.run(mine, TRADES // 2)["heap"])
            except (PeerMissingError, PeerFailedError) as error:
                say(f"streams: {str(error).splitlines()[0]}")
    return found


_SIDES = {"accumulators": "benchmarks.accumulators:run", "features": "benchmarks.processing:fold"}
