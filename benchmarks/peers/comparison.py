"""The ten accumulators beside their peers: every side in turn, on the same trades, in one run.

Ours and Kafka Streams must leave equal state in their changelogs, or their comparison is void.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from benchmarks.peers import state, streams
from benchmarks.process import sample, side
from benchmarks.results import Sample, compared, rates
from benchmarks.servers import Servers

Say = Callable[[str], None]
Measured = tuple[float, dict[str, float]]

OURS, STREAMS, WARM = "ours", "streams", "streams_warm"
FETCH, FEATURES, FAUST, BARE = "fetch", "features", "faust", "bare"


@dataclass(frozen=True, slots=True)
class Market:
    """What is compared on: `symbols`, twice `half` trades, in record batches of `batch` records.

    `batch` None: as the producer writes them when it is busy. Stock Faust reads `slow` trades. `half` is not
    to be made smaller for a quick look: with fewer than a million trades Java is not warm, and looks slow.
    """

    name: str
    symbols: int
    half: int = 1_000_000
    slow: int = 20_000
    batch: int | None = None


HUNDRED = Market("100 symbols", 100)
THOUSANDS = Market("5,000 symbols", 5000)
SMALL = Market("record batches of 20", 100, slow=0, batch=20)


class VoidError(Exception):
    """A comparison that says nothing: a side is missing, failed, or came to another result."""


@dataclass(slots=True)
class Runs:
    """Samples by side, and why a side has none."""

    samples: defaultdict[str, list[Sample]] = field(default_factory=lambda: defaultdict(list))
    void: dict[str, str] = field(default_factory=dict)

    def of(self, name: str) -> list[Sample]:
        """The samples of a side.

        Raises:
            VoidError: it has none that count.
        """
        if name in self.void:
            raise VoidError(self.void[name])
        if not self.samples[name]:
            raise VoidError(f"{name} is not run in this market")
        return self.samples[name]


class Peers:
    """All sides of a market, run once for all benchmarks that look at them."""

    def __init__(self) -> None:
        self._kept: dict[str, Runs] = {}

    def ratio(
        self, market: Market, reference: str, name: str = OURS
    ) -> Callable[[Servers, int, Say], Measured]:
        """A benchmark: side `name` / side `reference`, trades per CPU-second."""
        return partial(self._ratio, market, reference, name)

    def keep(self, market: Market, runs: Runs) -> None:
        """Use these runs of a market: it is not run any more."""
        self._kept[market.name] = runs

    def _ratio(
        self, market: Market, reference: str, name: str, servers: Servers, repetitions: int, say: Say
    ) -> Measured:
        if market.name not in self._kept:
            self.keep(market, _Round(market, servers, say).run(repetitions))
        runs = self._kept[market.name]
        ratio, details = compared(runs.of(name), runs.of(reference))
        if reference == FETCH and runs.samples[BARE]:
            details |= rates(BARE, runs.of(BARE))
        return ratio, details


class _Round:
    """Fills the topic and has every side read it, as often as told."""

    def __init__(self, market: Market, servers: Servers, say: Say) -> None:
        self._market, self._servers, self._say = market, servers, say
        self._runs = Runs()

    def run(self, repetitions: int) -> Runs:
        market = self._market
        with self._servers.topics("peers") as self._servers:
            self._say(f"{market.name}: writing {2 * market.half:,} trades")
            arguments = {"count": 2 * market.half, "symbols": market.symbols, "batch": market.batch}
            side("benchmarks.peers.trades:publish", arguments, self._servers.env())
            for number in range(repetitions):
                self._say(f"{market.name}: run {number + 1} of {repetitions}")
                self._servers.forget_processor()
                self._repetition()
        return self._runs

    def _repetition(self) -> None:
        half, slow = self._market.half, self._market.slow
        self._sampled(OURS, "benchmarks.accumulators:run", 2 * half)
        self._attempt((STREAMS, WARM), self._streams)
        self._sampled(FEATURES, "benchmarks.processing:fold", 2 * half)  # all: it would go on reading
        self._sampled(FETCH, "benchmarks.peers.fetch:run", half)
        self._sampled(BARE, "benchmarks.processing:bare", half // 4)
        if slow:
            self._sampled(FAUST, "benchmarks.peers.stock_faust:run", slow)

    def _sampled(self, name: str, where: str, count: int) -> None:
        def take() -> None:
            self._runs.samples[name].append(sample(where, {"count": count}, self._servers.env()))

        self._attempt((name,), take)

    def _streams(self) -> None:
        answer = streams.run(self._servers, self._market.half)
        self._runs.samples[STREAMS].append(streams.sample(answer["first"]))
        self._runs.samples[WARM].append(streams.sample(answer["second"]))
        if OURS in self._runs.void:
            return
        ours, theirs = state.of_ours(self._servers), state.of_streams(self._servers)
        if wrong := state.difference(ours, theirs):
            raise VoidError(f"the states of ours and Kafka Streams differ: {wrong}")
        if (folded := state.folded(ours)) != 2 * self._market.half:
            raise VoidError(f"{folded:,} of {2 * self._market.half:,} trades are in the state")

    def _attempt(self, names: tuple[str, ...], take: Callable[[], None]) -> None:
        """Have a side run, unless it could not before; a failure voids this side alone."""
        if self._runs.void.keys() & set(names):
            return
        try:
            take()
        except Exception as error:  # whatever it is, the other sides still run
            reason = str(error).strip() or type(error).__name__
            self._say(f"{names[0]}: {reason.splitlines()[0]}")
            self._runs.void |= dict.fromkeys(names, reason)
