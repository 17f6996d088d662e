"""The faults of the main line: who is killed with -9, how often, and what must be true afterwards."""

from __future__ import annotations

import json
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg

from tests import ledger_files
from tests.chaos import tick_files
from tests.chaos.demo_run import TIDEWIRE, DemoRun, environment

SYMBOLS = ("AAA", "BBB", "CCC")
RATE = 1_500

Event = tuple[Any, ...]
"""(channel, then the values of FIELDS), the same from the ledger, PostgreSQL and the report."""

FIELDS = {
    "trades": ("symbol", "ts", "id", "exchange", "price", "size"),
    "quotes": (
        "symbol",
        "ts",
        "bid_exchange",
        "bid_price",
        "bid_size",
        "ask_exchange",
        "ask_price",
        "ask_size",
    ),
    "bars": ("symbol", "ts", "open", "high", "low", "close", "volume", "trade_count"),
}
_BAR_KEYS = ("S", "t", "o", "h", "l", "c", "v", "n")
WIRE = {
    "t": ("trades", ("S", "t", "i", "x", "p", "s")),
    "q": ("quotes", ("S", "t", "bx", "bp", "bs", "ax", "ap", "as")),
    "b": ("bars", _BAR_KEYS),
    "u": ("bars", _BAR_KEYS),
    "d": ("bars", _BAR_KEYS),
}
_TS = "(extract(epoch from ts) * 1000000)::int8 * 1000 + ts_nanos"
STORED = {
    "trades": f"SELECT symbol, {_TS}, trade_id, exchange, price, size FROM trades",
    "quotes": f"SELECT symbol, {_TS}, bid_exchange, bid_price, bid_size, ask_exchange, ask_price, ask_size"
    " FROM quotes",
    "bars": f"SELECT symbol, {_TS}, open, high, low, close, volume, trade_count FROM bars",
}


@dataclass
class Outcome:
    """What one scenario saw."""

    exit_code: int
    report: dict[str, Any]
    kills: list[str] = field(default_factory=list)
    recovery_seconds: list[float] = field(default_factory=list)
    left_running: list[str] = field(default_factory=list)

    @property
    def repaired(self) -> int:
        """Events that came over REST, since the stream could not tell them."""
        return sum(int(channel.get("repaired", 0)) for channel in self.report["channels"].values())

    @property
    def missing(self) -> int:
        """Messages that were sent and are not everywhere they belong."""
        return sum(int(channel["missing"]) for channel in self.report["channels"].values())


@contextmanager
def _demo(folder: Path, messages: int, seed: int, rate: int = RATE) -> Iterator[DemoRun]:
    ticks = folder / "ticks"
    each = messages // len(SYMBOLS) // 3
    tick_files.write(ticks, SYMBOLS, trades=each, quotes=2 * each, seed=seed)
    arguments = ["--ticks", str(ticks), "--rate", str(rate), "--accounts", "0"]
    run = DemoRun(folder / "home", arguments, folder / "demo.log")
    try:
        yield run
    finally:
        run.close()


def kill_in_turn(
    folder: Path,
    victims: tuple[str, ...],
    messages: int,
    seed: int,
    tell: Callable[[str], None] = lambda _: None,
) -> Outcome:
    """Kill each victim once while the tape runs, evenly spread; wait for each to be back before the next."""
    with _demo(folder, messages, seed) as run:
        outcome = Outcome(1, {})
        for number, name in enumerate(victims, start=1):
            _kill(run, name, messages * number // (len(victims) + 2), outcome)
            tell(f"killed {name}, back after {outcome.recovery_seconds[-1]:.1f} s")
        outcome.exit_code, outcome.report = run.finish()
        outcome.left_running = run.left_running()
        return outcome


def _kill(run: DemoRun, name: str, due: int, outcome: Outcome) -> None:
    run.wait_for(lambda: run.published() >= due, f"{due} published messages")
    killed = run.kill(name)
    began = time.monotonic()
    run.wait_for(lambda: run.restarted(name, killed), f"restarted {name}")
    outcome.kills.append(name)
    outcome.recovery_seconds.append(time.monotonic() - began)


def sent_but_not_stored(home: Path) -> Counter[Event]:
    """What the simulator's ledger holds and PostgreSQL does not, counted here without the pipeline's code."""
    with stack_of(home) as addresses, psycopg.connect(addresses["database_url"]) as connection:
        return _ledger(home / "simulator" / "ledger") - _stored(connection)


def named(home: Path) -> Counter[Event]:
    """Every event that `tidewire verify` calls missing, or lost for good."""
    with stack_of(home):
        report = json.loads(tidewire(home, "verify", "--json", "--limit", "1000000").stdout)
    counted: Counter[Event] = Counter()
    for item in report["missing_events"] + report["unrecoverable_events"]:
        fields = FIELDS[item["channel"]]
        counted[item["channel"], *(item["event"][name] for name in fields)] += item["copies"]
    return counted


def tidewire(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command in this home, on its own servers."""
    return subprocess.run(
        [str(TIDEWIRE), *arguments],
        env=environment(home),
        cwd=home.parent,
        capture_output=True,
        text=True,
        timeout=180,
    )


@contextmanager
def stack_of(home: Path) -> Iterator[dict[str, str]]:
    """The home's servers, running meanwhile; gives their addresses."""
    started = tidewire(home, "stack", "up", "--json")
    assert started.returncode == 0, started.stderr
    try:
        yield json.loads(started.stdout)
    finally:
        tidewire(home, "stack", "down")


def _ledger(folder: Path) -> Counter[Event]:
    counted: Counter[Event] = Counter()
    counted.update(_event(message) for message in ledger_files.messages(folder))
    return counted


def _event(message: dict[str, Any]) -> Event:
    channel, keys = WIRE[message["T"]]
    values = [message["t"].to_unix_nano() if key == "t" else message[key] for key in keys]
    return (channel, *values)


def _stored(connection: psycopg.Connection[Any]) -> Counter[Event]:
    counted: Counter[Event] = Counter()
    for channel, query in STORED.items():
        counted.update((channel, *row) for row in connection.execute(query))
    return counted
