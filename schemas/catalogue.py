"""The topic catalogue: every topic once, with its key, schema, partitions, cleanup and retention.

Everything else refers to a topic by its short constant here; `Catalogue(prefix)` gives real names.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from tidewire.dead_letters import SUFFIX

DAY_MS = 86_400_000
FOREVER = -1

STOCK_TRADES = "alpaca.stocks.trades"
STOCK_QUOTES = "alpaca.stocks.quotes"
STOCK_BARS = "alpaca.stocks.bars"
STOCK_FRAMES = "alpaca.stocks.frames"
STOCK_FEATURES = "features.stocks"


@dataclass(frozen=True, slots=True)
class Topic:
    """One line of the catalogue. `schema` is the stem of an .avsc file; None for bytes as they came."""

    name: str
    key: str
    schema: str | None
    what: str
    by_symbol: bool = True
    compacted: bool = False
    retention_ms: int = 7 * DAY_MS

    @property
    def dead_letters(self) -> str:
        """The topic of this topic's dead letters."""
        return self.name + SUFFIX


TOPICS = (
    Topic(STOCK_TRADES, "symbol", "stock_trade", "stock trades as Alpaca sends them"),
    Topic(STOCK_QUOTES, "symbol", "stock_quote", "stock quotes as Alpaca sends them"),
    Topic(STOCK_BARS, "symbol", "stock_bar", "stock bars with their interval and revision"),
    Topic(STOCK_FEATURES, "symbol", "stock_features", "feature vectors, conflated"),
)


@cache
def schema(stem: str) -> dict[str, Any]:
    """The parsed .avsc of one schema (shared: do not change it)."""
    loaded: dict[str, Any] = json.loads(files("schemas").joinpath(f"{stem}.avsc").read_text("utf-8"))
    return loaded
