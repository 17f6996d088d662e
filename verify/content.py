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
    CRYPTO_ORDERBOOKS,
    CRYPTO_QUOTES,
    CRYPTO_TRADES,
    NEWS,
    OPTION_QUOTES,
    OPTION_TRADES,
    STOCK_BARS,
    STOCK_IMBALANCES,
    STOCK_LULDS,
    STOCK_QUOTES,
    STOCK_STATUSES,
    STOCK_TRADES,
)

SEPARATOR = "\x1f"
"""Joins condition codes, or the numbers of a list, into one text; no code holds it."""

STOCKS_VENUE, OPTIONS_VENUE, CRYPTO_VENUE, NEWS_VENUE = "stocks", "options", "crypto", "news"
VENUES = (STOCKS_VENUE, OPTIONS_VENUE, CRYPTO_VENUE, NEWS_VENUE)
"""The streams of Alpaca, each with types (T) of its own."""

_S, _I, _F, _B = pl.String, pl.Int64, pl.Float64, pl.Boolean

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
_ORDER_BOOK = {
    "symbol": _S, "ts": _I, "reset": _B, "bid_prices": _S, "bid_sizes": _S, "ask_prices": _S,
    "ask_sizes": _S, "extra": _S,
}  # fmt: skip
_STATUS = {
    "symbol": _S, "ts": _I, "status_code": _S, "status_message": _S, "reason_code": _S,
    "reason_message": _S, "tape": _S, "extra": _S,
}  # fmt: skip
_LULD = {
    "symbol": _S, "ts": _I, "limit_up_price": _F, "limit_down_price": _F, "indicator": _S, "tape": _S,
    "extra": _S,
}  # fmt: skip
_IMBALANCE = {"symbol": _S, "ts": _I, "price": _F, "tape": _S, "extra": _S}
_OPTION_TRADE = {
    "symbol": _S, "ts": _I, "exchange": _S, "price": _F, "size": _I, "condition": _S, "extra": _S,
}  # fmt: skip
_OPTION_QUOTE = {
    "symbol": _S, "ts": _I, "bid_exchange": _S, "bid_price": _F, "bid_size": _I,
    "ask_exchange": _S, "ask_price": _F, "ask_size": _I, "condition": _S, "extra": _S,
}  # fmt: skip
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
    stored_as: str = ""
    """The table in PostgreSQL, where it has another name."""

    @property
    def table(self) -> str:
        """The table in PostgreSQL."""
        return self.stored_as or self.name

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
_ORDER_BOOK_FIELDS = {
    "symbol": "S", "ts": "t", "reset": "r", "bid_prices": "b", "bid_sizes": "b", "ask_prices": "a",
    "ask_sizes": "a",
}  # fmt: skip
_STATUS_FIELDS = {
    "symbol": "S", "ts": "t", "status_code": "sc", "status_message": "sm", "reason_code": "rc",
    "reason_message": "rm", "tape": "z",
}  # fmt: skip
_LULD_FIELDS = {
    "symbol": "S", "ts": "t", "limit_up_price": "u", "limit_down_price": "d", "indicator": "i", "tape": "z",
}  # fmt: skip
_IMBALANCE_FIELDS = {"symbol": "S", "ts": "t", "price": "p", "tape": "z"}
_OPTION_TRADE_FIELDS = {
    "symbol": "S", "ts": "t", "exchange": "x", "price": "p", "size": "s", "condition": "c",
}  # fmt: skip
_OPTION_QUOTE_FIELDS = {
    "symbol": "S", "ts": "t", "bid_exchange": "bx", "bid_price": "bp", "bid_size": "bs",
    "ask_exchange": "ax", "ask_price": "ap", "ask_size": "as", "condition": "c",
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
PAIR_BOOKS = Channel(
    "crypto_orderbooks", CRYPTO_ORDERBOOKS, "crypto_orderbook", CRYPTO_VENUE, "o", _ORDER_BOOK,
    _ORDER_BOOK_FIELDS, {}, (), {"r": False, "b": (), "a": ()},
)  # fmt: skip
STATUSES = Channel(
    "statuses", STOCK_STATUSES, "stock_status", STOCKS_VENUE, "s", _STATUS, _STATUS_FIELDS, {},
    ("symbol", "ts", "status_code", "reason_code"), dict.fromkeys(("sm", "rc", "rm", "z"), ""),
    stored_as="stock_statuses",
)  # fmt: skip
LULDS = Channel(
    "lulds", STOCK_LULDS, "stock_luld", STOCKS_VENUE, "l", _LULD, _LULD_FIELDS, {},
    ("symbol", "ts", "limit_up_price", "limit_down_price", "indicator"), dict.fromkeys(("i", "z"), ""),
    stored_as="stock_lulds",
)  # fmt: skip
IMBALANCES = Channel(
    "imbalances", STOCK_IMBALANCES, "stock_imbalance", STOCKS_VENUE, "i", _IMBALANCE, _IMBALANCE_FIELDS, {},
    (), {"z": ""}, stored_as="stock_imbalances",
)  # fmt: skip
CONTRACT_TRADES = Channel(
    "option_trades", OPTION_TRADES, "option_trade", OPTIONS_VENUE, "t", _OPTION_TRADE, _OPTION_TRADE_FIELDS,
    {}, (), {"c": ""},
)  # fmt: skip
CONTRACT_QUOTES = Channel(
    "option_quotes", OPTION_QUOTES, "option_quote", OPTIONS_VENUE, "q", _OPTION_QUOTE, _OPTION_QUOTE_FIELDS,
    {}, (), dict.fromkeys(("c", "bx", "ax"), ""),
)  # fmt: skip
CHANNELS = (
    TRADES, QUOTES, BARS, STATUSES, LULDS, IMBALANCES, CONTRACT_TRADES, CONTRACT_QUOTES,
    PAIR_TRADES, PAIR_QUOTES, PAIR_BARS, PAIR_BOOKS, ARTICLES,
)  # fmt: skip
ALL_BARS = (BARS, PAIR_BARS)
FOLDED = (TRADES, QUOTES)
"""Channels that the feature table folds."""
JOINED = frozenset({"conditions", "symbols"})
"""Lists of texts, held as one text."""
NUMBERS = frozenset({"bid_prices", "bid_sizes", "ask_prices", "ask_sizes"})
"""Lists of numbers, held as one text in which each number is written one way."""
LISTS = JOINED | NUMBERS


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
    if name in NUMBERS:
        return _as_text(column)
    return column.list.join(SEPARATOR) if isinstance(frame.schema[name], pl.List) else column


def _as_text(numbers: pl.Expr) -> pl.Expr:
    return numbers.list.eval(pl.element().cast(pl.String)).list.join(SEPARATOR)


def with_canonical_numbers(frame: pl.DataFrame) -> pl.DataFrame:
    """The frame with the numbers of lists that were joined elsewhere written as `canonical` writes them."""
    joined = [name for name in frame.columns if name in NUMBERS]
    numbers = [pl.col(name).str.split(SEPARATOR).cast(pl.List(pl.Float64), strict=False) for name in joined]
    return frame.with_columns(
        pl.when(pl.col(name) == "").then(pl.lit("")).otherwise(_as_text(found)).alias(name)
        for name, found in zip(joined, numbers, strict=True)
    )


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
    """One content row for people: lists as lists, no empty extra."""
    event = {name: row[name] for name in channel.columns}
    for name in LISTS & event.keys():
        parts = event[name].split(SEPARATOR) if event[name] else []
        event[name] = [float(part) for part in parts] if name in NUMBERS else parts
    if event["extra"] is None:
        del event["extra"]
    return event
