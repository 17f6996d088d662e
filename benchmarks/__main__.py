"""`python -m benchmarks [--quick] [names...]`: measure, print a table, write build/bench.json."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks import (
    backfill,
    burst,
    exits,
    fanout,
    fold,
    ingest,
    line,
    portfolio,
    processing,
    recovery,
    storing,
    workers,
)
from benchmarks.peers import comparison, memory
from benchmarks.process import ROOT
from benchmarks.results import Benchmark, Result, write
from benchmarks.servers import Servers, running

REPETITIONS = 5
QUICK = 2
REPORT = ROOT / "build" / "bench.json"
_RATIO = "x of the reference, per CPU-second"

Measure = Callable[[int, Callable[[str], None]], tuple[float, dict[str, float]]]


class Shared:
    """Servers of the component benchmarks, started when the first one needs them."""

    def __init__(self, stack: ExitStack, say: Callable[[str], None]) -> None:
        self._stack, self._say = stack, say
        self._servers: Servers | None = None

    def get(self) -> Servers:
        """The servers."""
        if self._servers is None:
            self._servers = self._stack.enter_context(running(self._say))
        return self._servers

    def measure(
        self, function: Callable[[Servers, int, Callable[[str], None]], tuple[float, dict[str, float]]]
    ) -> Measure:
        """The function with the servers filled in."""
        return lambda repetitions, say: function(self.get(), repetitions, say)


def catalogue(shared: Shared) -> list[Benchmark]:
    """Every benchmark with its goal."""
    stored = storing.Runs()
    return [
        Benchmark(
            "ingest", "frame to Kafka / msgpack + fastavro alone", _RATIO, 0.75, "more",
            shared.measure(ingest.measure),
        ),
        Benchmark(
            "backfill", "REST page to Kafka / parsing + fastavro alone", _RATIO, 0.7, "more",
            shared.measure(backfill.measure),
        ),
        Benchmark(
            "processing", "features with changelog / fetch + fastavro + dict", _RATIO, 2.0, "more",
            shared.measure(processing.measure),
        ),
        *_beside_peers(shared),
        Benchmark(
            "fold", "a pure fold over a topic of trades, no Faust", "records/CPU-s", 4_000_000, "more",
            shared.measure(fold.measure),
        ),
        Benchmark(
            "sink", "Kafka to PostgreSQL / COPY of ready bytes", _RATIO, 0.55, "more",
            shared.measure(stored.ratio),
        ),
        Benchmark(
            "sink_cpu", "the sink's own process, Kafka to PostgreSQL", "CPU-s per million rows", 1.2, "less",
            shared.measure(stored.own_cpu),
        ),
        Benchmark(
            "recovery_standby", "100,000 keys after kill -9, with a standby", "s", 10, "less",
            shared.measure(recovery.standby),
        ),
        Benchmark(
            "recovery_cold", "100,000 keys after kill -9, cold", "s", 30, "less",
            shared.measure(recovery.cold),
        ),
        Benchmark(
            "workers", "two workers that share the partitions / one", _RATIO, 0.8, "more",
            shared.measure(workers.measure),
        ),
        Benchmark(
            "exits", "quote that crosses a stop to its order's POST, p99", "ms", 100, "less",
            shared.measure(exits.measure),
        ),
        Benchmark("line", "whole line on 2 cores", "messages/s", 25_000, "more", line.throughput),
        Benchmark(
            "latency", "receipt to feature record at 5,000/s beside the whole line, p99", "ms", 100, "less",
            line.latency,
        ),
        Benchmark(
            "steady", "socket to feature record at 5,000/s, p99", "ms", 50, "less",
            shared.measure(burst.at(burst.STEADY)),
        ),
        Benchmark(
            "burst", "socket to feature record at 50,000/s, p99", "ms", 100, "less",
            shared.measure(burst.at(burst.BURST)),
        ),
        Benchmark(
            "fanout", "a trade to 1,000 clients / only sending", _RATIO, 0.7, "more", fanout.measure
        ),
        Benchmark(
            "portfolio", "order to position_update, 100 clients, p99", "ms", 200, "less", portfolio.measure
        ),
    ]  # fmt: skip


def _beside_peers(shared: Shared) -> Iterator[Benchmark]:
    """The same ten accumulators as Kafka Streams and stock Faust have; the real features beside them."""
    peers = comparison.Peers()
    for suffix, market in (
        ("", comparison.HUNDRED), ("_5000", comparison.THOUSANDS), ("_small", comparison.SMALL),
    ):  # fmt: skip
        for name, what, goal, reference, ours in (
            ("streams", "accumulators / Kafka Streams", 4.0, "streams", "ours"),
            ("streams_warm", "accumulators / Kafka Streams, warm", 2.5, "streams_warm", "ours"),
            ("fetch", "accumulators / aiokafka's fetch alone", 1.5, "fetch", "ours"),
            ("faust", "accumulators / stock Faust", 100.0, "faust", "ours"),
            ("features", "real features / accumulators", 0.5, "ours", "features"),
        ):
            if name == "faust" and market.slow == 0:
                continue
            measure = shared.measure(peers.ratio(market, reference, ours))
            yield Benchmark(
                f"processing_{name}{suffix}", f"{what}, {market.name}", _RATIO, goal, "more", measure
            )
    yield Benchmark(
        "processing_memory", "accumulators, 50,000 symbols", "bytes/symbol", 600, "less",
        shared.measure(memory.measure),
    )  # fmt: skip


def results(chosen: list[Benchmark], repetitions: int, console: Console) -> Iterator[Result]:
    """Run them one after the other, saying where it is."""
    for benchmark in chosen:
        started = time.monotonic()
        console.print(f"{benchmark.name}: {benchmark.what}", highlight=False)
        result = benchmark.run(repetitions, lambda text: console.print(f"  {text}", highlight=False))
        mark = "ok" if result.ok else "NOT ok"
        seconds = time.monotonic() - started
        console.print(f"  {mark}: {_shown(result)} ({seconds:.0f} s)", highlight=False)
        yield result


def _shown(result: Result) -> str:
    if result.value is None:
        return f"not measured: {result.reason}"
    details = ", ".join(f"{name} {value:,.10g}" for name, value in result.details.items())
    return f"{result.value:,.10g} {result.unit}; {details}"


def table(found: list[Result]) -> Table:
    """All results, one line each."""
    shown = Table(title="Benchmarks", title_justify="left")
    for name in ("name", "value", "unit", "goal", "ok"):
        shown.add_column(name, justify="right" if name in ("value", "goal") else "left")
    for r in found:
        bound = f"{'>=' if r.better == 'more' else '<='} {r.goal:,.10g}"
        value = "-" if r.value is None else f"{r.value:,.10g}"
        shown.add_row(r.name, value, r.unit, bound, "yes" if r.ok else "no")
    return shown


def main(arguments: list[str] | None = None, report: Path = REPORT) -> int:
    """The command; 0 if every chosen benchmark was measured, whether or not it reached its goal."""
    console = Console(stderr=True, soft_wrap=True)
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", help="benchmarks to run; all when none is named")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK} repetitions instead of {REPETITIONS}")
    options = parser.parse_args(arguments)
    with ExitStack() as stack:
        every = catalogue(Shared(stack, lambda text: console.print(f"  {text}", highlight=False)))
        unknown = set(options.names) - {b.name for b in every}
        if unknown:
            known = ", ".join(b.name for b in every)
            parser.error(f"no such benchmark: {', '.join(sorted(unknown))}; there are {known}")
        chosen = [b for b in every if not options.names or b.name in options.names]
        found = []
        for result in results(chosen, QUICK if options.quick else REPETITIONS, console):
            found.append(result)
            write([result], report)
    Console().print(table(found))
    return 0 if all(r.value is not None for r in found) else 1


if __name__ == "__main__":
    sys.exit(main())
