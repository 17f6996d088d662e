"""What the screen shows, as plain values: gathered by observe.py, drawn by layout.py."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from console.screen.channels import CHANNELS, COMMITTED, FOLDED
from console.screen.completeness import Completeness
from console.screen.exits_state import Exits

Offsets = Mapping[tuple[str, int], int]
"""(channel, partition) -> offset."""


@dataclass(frozen=True, slots=True)
class Simulator:
    """What /sim/status said last. `state`: waiting, running or finished."""

    state: str
    published: Mapping[str, int]
    rejected: int = 0
    skipped_files: tuple[str, ...] = ()
    elapsed_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Symbol:
    """The newest features of one symbol; prices in USD, times in ns."""

    name: str
    ts: int
    last: float | None
    bid: float | None
    ask: float | None
    spread: float | None
    vwap: float | None
    volume: int
    trades: int
    high: float | None
    low: float | None
    trades_folded: int
    quotes_folded: int


@dataclass(frozen=True, slots=True)
class Headline:
    """An article's newest revision with the scores of its symbols, -1 to 1; `ts` in ns."""

    ts: int
    headline: str
    scores: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Portfolio:
    """What the gateway has told a signed-in client: D1's objects, as they came."""

    connected: bool
    reason: str = ""
    positions: tuple[Mapping[str, Any], ...] = ()
    orders: tuple[Mapping[str, Any], ...] = ()
    accounts: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class Process:
    """A service or a server. `phase` as in tidewire/supervision/restart.py; `reason`: why it is not ready."""

    name: str
    phase: str
    restarts: int = 0
    uptime_seconds: float = 0.0
    ready: bool = True
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Observation:
    """One look at the whole line at `at` (monotonic seconds); a silent source keeps its last value."""

    at: float
    ends: Offsets = field(default_factory=dict)
    begins: Offsets = field(default_factory=dict)
    stored: Offsets = field(default_factory=dict)
    committed: Offsets = field(default_factory=dict)
    symbols: tuple[Symbol, ...] = ()
    simulator: Simulator | None = None
    processes: tuple[Process, ...] = ()
    connection: str = "-"
    buffered_bytes: int = 0
    rates: Mapping[str, float] = field(default_factory=dict)
    latency_p99: float | None = None
    portfolio: Portfolio | None = None
    headlines: tuple[Headline, ...] = ()
    completeness: Completeness | None = None
    """None: nobody follows the gaps."""
    exits: Exits | None = None
    """None: nobody follows the exits."""

    def topic(self, channel: str) -> int:
        """Records that the channel's topic holds."""
        return sum(end - self.begins.get(at, 0) for at, end in self.ends.items() if at[0] == channel)

    def folded(self, channel: str) -> int | None:
        """Records of the channel that the feature table has folded, over all symbols seen; None for bars."""
        if channel not in FOLDED:
            return None
        if channel == "trades":
            return sum(symbol.trades_folded for symbol in self.symbols)
        return sum(symbol.quotes_folded for symbol in self.symbols)

    def in_postgres(self, channel: str) -> int:
        """Records of the channel that the sink has passed: stored, duplicate or dead-lettered."""
        begins = {at: self.begins.get(at, 0) for at in self.ends if at[0] == channel}
        return sum(max(0, self.stored.get(at, 0) - begin) for at, begin in begins.items())

    def sink_lag(self, channels: Sequence[str] = CHANNELS) -> int:
        """Records that are not yet in PostgreSQL."""
        return sum(self._lag(self.stored, channel) for channel in channels)

    def processor_lag(self, channels: Sequence[str] = (*FOLDED, *COMMITTED)) -> int:
        """Records not yet folded: by the table's count or by the committed offsets, whichever is further."""
        return sum(self._processor_lag(channel) for channel in channels)

    def _processor_lag(self, channel: str) -> int:
        if channel in COMMITTED:
            return self._lag(self.committed, channel)
        if channel not in FOLDED:
            return 0
        return min(
            self._lag(self.committed, channel), max(0, self.topic(channel) - (self.folded(channel) or 0))
        )

    def _lag(self, positions: Offsets, channel: str) -> int:
        return sum(
            max(0, end - max(positions.get(at, 0), self.begins.get(at, 0)))
            for at, end in self.ends.items()
            if at[0] == channel
        )
