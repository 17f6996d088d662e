"""The canonical content of a market-data event: what ledger, topic and PostgreSQL must share.

Content is what Alpaca sent, and nothing that tidewire added on the way (receive time, source, event id).
A bar's revision is left out: it is a count made by the producer, so a missed bar would alter all that follow.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from schemas.catalogue import (
    CRYPTO_BARS,
    CRYPTO_QUOTES,
    CRYPTO_TRADES,
    NEWS,
    STOCK_BARS,
    STOCK_QUOTES,
    STOCK_TRADES,
)

SEPARATOR = "\x1f"
"""Joins condition codes into one text; no code holds it."""

STOCKS_VENUE, CRYPTO_VENUE, NEWS_VENUE = "stocks", "crypto", "news"
VENUES = (STOCKS_VENUE, CRYPTO_VENUE, NEWS_VENUE)
"""The streams of Alpaca, each with types (T) of its own."""

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
_CRYPTO_TRADE = {
    "symbol": _S, "ts": _I, "id": _I, "price": _F, "size": _F, "taker_side": _S, "extra": _S,
}  # fmt: skip
_CRYPTO_QUOTE = {
    "symbol": _S, "ts": _I, "bid_price": _F, "bid_size": _F, "ask_price": _F, "ask_size": _F, "extra": _S,
}  # fmt: skip
_CRYPTO_BAR = {**_BAR, "volume": _F}
_NEWS = {
    "provider": _S, "id": _S, "ts": _I, "created_ts": _I, "headline": _S, "summary": _S, "content": _S,
    "author": _S, "url": _S, "symbols": _S, "extra": _S,
}  # fmt: skip
_BAR_FIELDS = {
    "symbol": "S", "ts": "t", "interval": "T", "open": "o", "high": "h", "low": "l", "close": "c",
    "volume": "v", "trade_count": "n", "vwap": "vw",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Channel:
    """One kind of event: its topic, its schema and its content columns."""

    name: str
    topic: str
    stem: str
    venue: str
    kinds: str
    """Values of T that Alpaca's stream sends them with."""
    content: Mapping[str, type[pl.DataType]]
    fields: Mapping[str, str]
    """Content column -> field of the message."""
    renamed: Mapping[str, str]
    """Columns that PostgreSQL names differently."""
    key: tuple[str, ...] = ()
    """What names an event: a second message with the same is a repeat. Without it only equal content is."""
    optional: Mapping[str, Any] = field(default_factory=dict)
    """Fields that may be absent, with what that means."""
    record_key: str = "symbol"
    """The column that is also the key of the Kafka record."""

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


_TRADE_FIELDS = {
    "symbol": "S", "ts": "t", "id": "i", "exchange": "x", "price": "p", "size": "s", "conditions": "c",
    "tape": "z",
}  # fmt: skip
_QUOTE_FIELDS = {
    "symbol": "S", "ts": "t", "bid_exchange": "bx", "bid_price": "bp", "bid_size": "bs",
    "ask_exchange": "ax", "ask_price": "ap", "ask_size": "as", "conditions": "c", "tape": "z",
}  # fmt: skip
_CRYPTO_TRADE_FIELDS = {"symbol": "S", "ts": "t", "id": "i", "price": "p", "size": "s", "taker_side": "tks"}
_CRYPTO_QUOTE_FIELDS = {
    "symbol": "S", "ts": "t", "bid_price": "bp", "bid_size": "bs", "ask_price": "ap", "ask_size": "as",
}  # fmt: skip
_NEWS_FIELDS = {
    "provider": "source", "id": "id", "ts": "updated_at", "created_ts": "created_at",
    "headline": "headline", "summary": "summary", "content": "content", "author": "author", "url": "url",
    "symbols": "symbols",
}  # fmt: skip
_BAR_OPTIONAL = {"n": 0, "vw": 0.0}
_TAPED: Mapping[str, Any] = {"c": (), "z": ""}
_TEXTS = dict.fromkeys(("summary", "content", "author", "url"), "") | {"symbols": ()}

TRADES = Channel(
    "trades", STOCK_TRADES, "stock_trade", STOCKS_VENUE, "t", _TRADE, _TRADE_FIELDS, {"id": "trade_id"},
    ("symbol", "exchange", "id", "ts"), _TAPED,
)  # fmt: skip
QUOTES = Channel(
    "quotes", STOCK_QUOTES, "stock_quote", STOCKS_VENUE, "q", _QUOTE, _QUOTE_FIELDS, {}, (), _TAPED
)
BARS = Channel(
    "bars", STOCK_BARS, "stock_bar", STOCKS_VENUE, "bud", _BAR, _BAR_FIELDS, {"interval": "bar_interval"},
    (), _BAR_OPTIONAL,
)  # fmt: skip
PAIR_TRADES = Channel(
    "crypto_trades", CRYPTO_TRADES, "crypto_trade", CRYPTO_VENUE, "t", _CRYPTO_TRADE, _CRYPTO_TRADE_FIELDS,
    {"id": "trade_id"}, ("symbol", "id", "ts"), {"tks": "-"},
)  # fmt: skip
PAIR_QUOTES = Channel(
    "crypto_quotes", CRYPTO_QUOTES, "crypto_quote", CRYPTO_VENUE, "q", _CRYPTO_QUOTE, _CRYPTO_QUOTE_FIELDS, {}
)
PAIR_BARS = Channel(
    "crypto_bars", CRYPTO_BARS, "crypto_bar", CRYPTO_VENUE, "bud", _CRYPTO_BAR, _BAR_FIELDS,
    {"interval": "bar_interval"}, (), _BAR_OPTIONAL,
)  # fmt: skip
ARTICLES = Channel(
    "news",
    NEWS,
    "news",
    NEWS_VENUE,
    "n",
    _NEWS,
    _NEWS_FIELDS,
    {},
    ("provider", "id", "ts"),
    _TEXTS,
    "id",
)
CHANNELS = (TRADES, QUOTES, BARS, PAIR_TRADES, PAIR_QUOTES, PAIR_BARS, ARTICLES)
ALL_BARS = (BARS, PAIR_BARS)
FOLDED = (TRADES, QUOTES)
"""Channels that the feature table folds."""
JOINED = frozenset({"conditions", "symbols"})
"""Lists, held as one text."""


def of_venue(venue: str) -> tuple[Channel, ...]:
    """The channels of one of Alpaca's streams."""
    return tuple(channel for channel in CHANNELS if channel.venue == venue)


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
    for name in JOINED & event.keys():
        event[name] = event[name].split(SEPARATOR) if event[name] else []
    if event["extra"] is None:
        del event["extra"]
    return event
