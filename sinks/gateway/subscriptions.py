"""What one client of /ws/portfolio wants to hear (D2). Pure.

A new client hears everything: all four channels, all symbols. Its first `subscribe` says what it wants
instead; further ones add to that. `unsubscribe` takes away from what is heard, also from the everything of
the beginning. `symbols` restrict a channel; the account channel knows none.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from sinks.gateway.requests import Request

CHANNELS = ("positions", "orders", "account", "trades")
MOST_SYMBOLS = 1000
"""Symbols that one channel of one client may name."""


@dataclass(frozen=True, slots=True)
class Symbols:
    """A set of symbols, or all symbols but a set."""

    named: frozenset[str] = frozenset()
    all_but: bool = False

    def __contains__(self, symbol: str) -> bool:
        return (symbol in self.named) is not self.all_but

    def add(self, symbols: frozenset[str]) -> Symbols:
        """With these too; none named: all."""
        if not symbols:
            return ALL
        return Symbols(self.named - symbols, True) if self.all_but else Symbols(self.named | symbols)

    def remove(self, symbols: frozenset[str]) -> Symbols:
        """Without these; none named: nothing is left."""
        if not symbols:
            return NONE
        return Symbols(self.named | symbols, True) if self.all_but else Symbols(self.named - symbols)


ALL, NONE = Symbols(all_but=True), Symbols()


@dataclass(frozen=True, slots=True)
class Wanted:
    """The channels that a client hears, each with its symbols. Equal ones share their frames."""

    positions: Symbols = ALL
    orders: Symbols = ALL
    account: Symbols = ALL
    trades: Symbols = ALL
    first: bool = True

    def hears(self, channel: str, symbol: str) -> bool:
        """Whether news of this symbol on this channel goes to the client."""
        symbols: Symbols = getattr(self, channel)
        return symbol in symbols

    def after(self, request: Request) -> Wanted:
        """As a `subscribe` or `unsubscribe` leaves it.

        Raises:
            ValueError: too many symbols.
        """
        symbols = request.symbols
        parts = {name: getattr(self, name) for name in CHANNELS}
        if request.kind == "subscribe":
            if self.first:
                parts = dict.fromkeys(CHANNELS, NONE)
            for name in request.channels:
                parts[name] = parts[name].add(_of(name, symbols))
        else:
            for name in request.channels:
                parts[name] = parts[name].remove(_of(name, symbols))
        if any(len(part.named) > MOST_SYMBOLS for part in parts.values()):
            raise ValueError(f"at most {MOST_SYMBOLS} symbols a channel")
        return Wanted(**parts, first=False)

    def channels(self) -> list[str]:
        """The channels of which anything is heard."""
        return [name for name in CHANNELS if getattr(self, name) != NONE]


def _of(channel: str, symbols: Collection[str]) -> frozenset[str]:
    return frozenset() if channel == "account" else frozenset(symbols)
