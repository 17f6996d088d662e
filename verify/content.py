"""The canonical content of a market-data event: what ledger, topic and PostgreSQL must share.

Content is what Alpaca sent, and nothing that tidewire added on the way (receive time, source, event id).
A bar's revision is left out: it is a count made by the producer, so a missed bar would alter all that follow.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from schemas.catalogue import STOCK_BARS, STOCK_QUOTES, STOCK_TRADES

SEPARATOR = "\x1f"
"""Joins condition codes into one text; no code holds it."""

_S, _I, _F = pl.String, pl.Int64, pl.Float64

_TRADE = {
    "symbol": _S, "ts": _I, "id": _I, "exchange": _S, "price": _F, "size": _I,
    "conditions": _S, "tape": _S, "extra": _S,
}  # fmt: skip
_QUOTE = {
    "symbol": _S, "ts": _I, "bid_exchange": _S, "bid_price": _F, "bid_size": _I,
    "ask_exchange": _S, "ask_price": _F, "ask_size": _I, "conditions": _S, "tape": _S, "extra": _S,
}  # fmt: skip
_BAR = {
    "symbol": _S, "ts": _I, "interval": _S, "open": _F, "high": _F, "low": _F, "close": _F,
    "volume": _I, "trade_count": _I, "vwap": _F, "extra": _S,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Channel:
    """One kind of event: its topic, its schema and its content columns."""

    name: str
    topic: str
    stem: str
    content: Mapping[str, type[pl.DataType]]
    renamed: Mapping[str, str]
    """Columns that PostgreSQL names differently."""

    @property
    def columns(self) -> list[str]:
        """Names of the content columns, in order."""
        return list(self.content)

    @property
    def shape(self) -> pl.Schema:
        """The content columns with their types."""
        return pl.Schema(dict(self.content))

    def empty(self) -> pl.DataFrame:
        """A frame of no events."""
        return pl.DataFrame(schema=self.shape)


TRADES = Channel("trades", STOCK_TRADES, "stock_trade", _TRADE, {"id": "trade_id"})
QUOTES = Channel("quotes", STOCK_QUOTES, "stock_quote", _QUOTE, {})
BARS = Channel("bars", STOCK_BARS, "stock_bar", _BAR, {"interval": "bar_interval"})
CHANNELS = (TRADES, QUOTES, BARS)
FOLDED = (TRADES, QUOTES)
"""Channels that the feature table folds."""


def canonical(channel: Channel, frame: pl.DataFrame) -> pl.DataFrame:
    """The content columns of a decoded frame, with plain types, then the frame's others."""
    casts = [_plain(frame, name).cast(dtype).alias(name) for name, dtype in channel.content.items()]
    others = [name for name in frame.columns if name not in channel.content]
    return with_canonical_extra(frame.select(*casts, *others))


def _plain(frame: pl.DataFrame, name: str) -> pl.Expr:
    column = pl.col(name)
    return column.list.join(SEPARATOR) if isinstance(frame.schema[name], pl.List) else column


def with_canonical_extra(frame: pl.DataFrame) -> pl.DataFrame:
    """The frame with the JSON in `extra` (unknown fields, in any order) written one way."""
    if frame["extra"].null_count() == frame.height:
        return frame
    return frame.with_columns(pl.col("extra").map_elements(same_json, return_dtype=pl.String))


def same_json(text: str) -> str:
    """The JSON text with sorted keys and no spaces; a text that is no JSON stays as it is."""
    try:
        return json.dumps(json.loads(text), sort_keys=True, separators=(",", ":"))
    except ValueError:
        return text


def as_event(channel: Channel, row: Mapping[str, Any]) -> dict[str, Any]:
    """One content row for people: conditions as a list, no empty extra."""
    event = {name: row[name] for name in channel.columns}
    if "conditions" in event:
        joined = event["conditions"]
        event["conditions"] = joined.split(SEPARATOR) if joined else []
    if event["extra"] is None:
        del event["extra"]
    return event
