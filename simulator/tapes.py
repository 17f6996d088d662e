"""What each venue plays in a run: recorded files by what they hold, else synthetic markets."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator

from simulator.bars import DAY, MINUTE, new_york_midnight
from simulator.crypto.synthetic import PAIRS, SyntheticCrypto
from simulator.news.synthetic import SyntheticNews
from simulator.opra.synthetic import Spot, SyntheticOptions
from simulator.options import SimulatorOptions
from simulator.rejects import Rejects
from simulator.synthetic import WELL_KNOWN, SyntheticMarket
from simulator.tape import Inputs, RecordedTape
from simulator.venue import Tape
from simulator.wire import Message, Streams
from tidewire.config import Settings

OPENING = 570 * MINUTE

Blocks = Iterator[list[Message]]


def choose(settings: Settings, options: SimulatorOptions, rejects: Rejects) -> dict[str, Tape]:
    """The tapes by the name of their venue.

    Raises:
        ConfigError: a path does not exist, or none of the files can be used.
    """
    if options.ticks:
        inputs = Inputs(options.ticks, rejects)
        recorded = {"stocks": inputs.stocks(), "crypto": inputs.crypto(), "news": inputs.news()}
        return {name: _recorded(tape, options) for name, tape in recorded.items()}
    tickers = tickers_of(settings, options)
    pairs = options.crypto_symbols or settings.tidewire_crypto_symbols
    pairs = tuple(PAIRS) if "*" in pairs or not pairs else pairs
    return {
        "stocks": _stocks(tickers, options),
        "crypto": _crypto(pairs, options),
        "news": _news(tickers, pairs, options),
    }


def tickers_of(settings: Settings, options: SimulatorOptions) -> tuple[str, ...]:
    """The symbols of a synthetic stock market."""
    tickers = options.symbols or settings.symbols
    return tuple(WELL_KNOWN) if "*" in tickers else tickers


def contracts(
    settings: Settings, options: SimulatorOptions, spot: Spot, wanted: Callable[[], Collection[str]]
) -> Tape:
    """The tape of options: nothing beside recorded ticks, else what follows from the stocks' prices."""
    if options.ticks:
        return Tape("", lambda streams, _: iter(()), replayable=True, finite=True, pace="max", empty=True)
    seed, rate, limit = options.seed, options.option_messages_per_second, options.option_limit
    tickers = tickers_of(settings, options)

    def live(streams: Streams, passed: int) -> Blocks:
        left = _left(limit, passed)
        return SyntheticOptions(tickers, seed, time.time_ns(), rate, spot, wanted, left).read(streams)

    identity = f"synthetic|{seed}|{rate}|{limit}|{','.join(tickers)}"
    return Tape(identity, live, replayable=False, finite=limit is not None, pace="real")


def _recorded(tape: RecordedTape, options: SimulatorOptions) -> Tape:
    def read(streams: Streams, _: int) -> Blocks:
        return tape.read(streams)

    return Tape(tape.identity, read, replayable=True, finite=True, pace=options.rate, empty=tape.empty)


def _stocks(tickers: tuple[str, ...], options: SimulatorOptions) -> Tape:
    seed, limit = options.seed, options.limit
    halts, corrections = options.halts_per_hour, options.corrections_per_hour
    identity = f"synthetic|{seed}|{options.rate}|{limit}|{','.join(tickers)}|{halts}|{corrections}"
    rate = options.messages_per_second if isinstance(options.rate, str) else options.rate
    finite = limit is not None

    def market(start: int, left: int | None) -> SyntheticMarket:
        return SyntheticMarket(
            tickers, seed, start, rate, left, halts_per_hour=halts, corrections_per_hour=corrections
        )

    if options.rate == "max":
        # no clock can keep up: yesterday from its opening on, the same when read again
        start = new_york_midnight(time.time_ns() - DAY) + OPENING

        def again(streams: Streams, _: int) -> Blocks:
            return market(start, limit).read(streams)

        return Tape(f"{identity}|{start}", again, replayable=True, finite=finite, pace="max")

    def live(streams: Streams, passed: int) -> Blocks:
        return market(time.time_ns(), _left(limit, passed)).read(streams)

    # made at the steady rate, if one is asked for, and paced by its own times
    return Tape(identity, live, replayable=False, finite=finite, pace="real")


def _crypto(pairs: tuple[str, ...], options: SimulatorOptions) -> Tape:
    seed, rate, limit = options.seed, options.crypto_messages_per_second, options.crypto_limit

    def live(streams: Streams, passed: int) -> Blocks:
        return SyntheticCrypto(pairs, seed, time.time_ns(), rate, _left(limit, passed)).read(streams)

    identity = f"synthetic|{seed}|{rate}|{limit}|{','.join(pairs)}"
    return Tape(identity, live, replayable=False, finite=limit is not None, pace="real")


def _news(tickers: tuple[str, ...], pairs: tuple[str, ...], options: SimulatorOptions) -> Tape:
    seed, seconds, limit = options.seed, options.news_seconds, options.news_limit

    def live(streams: Streams, passed: int) -> Blocks:
        left = _left(limit, passed)
        return SyntheticNews(tickers, pairs, seed, time.time_ns(), seconds, left).read(streams)

    identity = f"synthetic|{seed}|{seconds}|{limit}|{','.join((*tickers, *pairs))}"
    return Tape(identity, live, replayable=False, finite=limit is not None, pace="real")


def _left(limit: int | None, passed: int) -> int | None:
    return None if limit is None else max(0, limit - passed)
