"""The tables of the hot topics, filled in columns: which topic feeds them, where each column comes from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import polars as pl

from schemas import catalogue
from sinks.postgres.connection import Connection
from tidewire.errors import SchemaError

OFFSET, PARTITION = "_offset", "_partition"
"""Columns that columns.py adds to the decoded ones."""

MICROSECONDS = pl.Datetime("us", "UTC")


@dataclass(frozen=True, slots=True)
class Column:
    """A column, its type as PostgreSQL names it, and its value in terms of the decoded record."""

    name: str
    kind: str
    value: pl.Expr


@dataclass(frozen=True, slots=True)
class Table:
    """`topic` is a constant of the catalogue, `stem` the schema of its records."""

    name: str
    topic: str
    stem: str
    columns: tuple[Column, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The columns' names, in the order in which they are copied."""
        return tuple(c.name for c in self.columns)

    @property
    def floats(self) -> tuple[str, ...]:
        """The float8 columns."""
        return tuple(c.name for c in self.columns if c.kind == "double precision")


def _same(kind: str, *names: str) -> tuple[Column, ...]:
    return tuple(Column(name, kind, pl.col(name)) for name in names)


def _text(*names: str) -> tuple[Column, ...]:
    return tuple(Column(name, "text", pl.col(name).cast(pl.String)) for name in names)


# Floor division, so that ts_nanos is 0..999 on either side of 1970.
_TIME = (
    Column("ts", "timestamp with time zone", (pl.col("ts") // 1000).cast(MICROSECONDS)),
    Column("ts_nanos", "smallint", (pl.col("ts") % 1000).cast(pl.Int16)),
)
_TAIL = (
    *_text("extra"),
    *_same("bigint", "received_ts"),
    *_text("source"),
    *_same("bytea", "event_id"),
    Column("k_part", "integer", pl.col(PARTITION)),
    Column("k_offset", "bigint", pl.col(OFFSET)),
)

TRADES = Table(
    "trades",
    catalogue.STOCK_TRADES,
    "stock_trade",
    (
        *_text("symbol"),
        *_TIME,
        Column("trade_id", "bigint", pl.col("id")),
        *_text("exchange"),
        *_same("double precision", "price"),
        *_same("bigint", "size"),
        *_same("text[]", "conditions"),
        *_text("tape"),
        *_TAIL,
    ),
)
QUOTES = Table(
    "quotes",
    catalogue.STOCK_QUOTES,
    "stock_quote",
    (
        *_text("symbol"),
        *_TIME,
        *_text("bid_exchange"),
        *_same("double precision", "bid_price"),
        *_same("bigint", "bid_size"),
        *_text("ask_exchange"),
        *_same("double precision", "ask_price"),
        *_same("bigint", "ask_size"),
        *_same("text[]", "conditions"),
        *_text("tape"),
        *_TAIL,
    ),
)
BARS = Table(
    "bars",
    catalogue.STOCK_BARS,
    "stock_bar",
    (
        *_text("symbol"),
        *_TIME,
        Column("bar_interval", "text", pl.col("interval").cast(pl.String)),
        *_same("bigint", "revision"),
        *_same("double precision", "open", "high", "low", "close"),
        *_same("bigint", "volume", "trade_count"),
        *_same("double precision", "vwap"),
        *_TAIL,
    ),
)
CRYPTO_TRADES = Table(
    "crypto_trades",
    catalogue.CRYPTO_TRADES,
    "crypto_trade",
    (
        *_text("symbol"),
        *_TIME,
        Column("trade_id", "bigint", pl.col("id")),
        *_same("double precision", "price", "size"),
        *_text("taker_side"),
        *_TAIL,
    ),
)
CRYPTO_QUOTES = Table(
    "crypto_quotes",
    catalogue.CRYPTO_QUOTES,
    "crypto_quote",
    (
        *_text("symbol"),
        *_TIME,
        *_same("double precision", "bid_price", "bid_size", "ask_price", "ask_size"),
        *_TAIL,
    ),
)
CRYPTO_BARS = Table(
    "crypto_bars",
    catalogue.CRYPTO_BARS,
    "crypto_bar",
    (
        *_text("symbol"),
        *_TIME,
        Column("bar_interval", "text", pl.col("interval").cast(pl.String)),
        *_same("bigint", "revision"),
        *_same("double precision", "open", "high", "low", "close", "volume"),
        *_same("bigint", "trade_count"),
        *_same("double precision", "vwap"),
        *_TAIL,
    ),
)
OPTION_TRADES = Table(
    "option_trades",
    catalogue.OPTION_TRADES,
    "option_trade",
    (
        *_text("symbol"),
        *_TIME,
        *_text("exchange"),
        *_same("double precision", "price"),
        *_same("bigint", "size"),
        *_text("condition"),
        *_TAIL,
    ),
)
OPTION_QUOTES = Table(
    "option_quotes",
    catalogue.OPTION_QUOTES,
    "option_quote",
    (
        *_text("symbol"),
        *_TIME,
        *_text("bid_exchange"),
        *_same("double precision", "bid_price"),
        *_same("bigint", "bid_size"),
        *_text("ask_exchange"),
        *_same("double precision", "ask_price"),
        *_same("bigint", "ask_size"),
        *_text("condition"),
        *_TAIL,
    ),
)
TABLES = (TRADES, QUOTES, BARS, CRYPTO_TRADES, CRYPTO_QUOTES, CRYPTO_BARS, OPTION_TRADES, OPTION_QUOTES)

_COLUMNS = """SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute
    WHERE attrelid = to_regclass(%s) AND attnum > 0 AND NOT attisdropped"""


class Named(Protocol):
    """A column by its name and type."""

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def kind(self) -> str: ...  # noqa: D102


class Shaped(Protocol):
    """Any table of the sink, however it is filled."""

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def columns(self) -> Sequence[Named]: ...  # noqa: D102


def check(connection: Connection, tables: Sequence[Shaped] = TABLES) -> None:
    """Compare the database's column types with ours: binary COPY itself checks none and stores garbage.

    Raises:
        SchemaError: a table or column is missing or has another type; names every difference.
    """
    problems = []
    for table in tables:
        found: dict[str, str] = dict(connection.execute(_COLUMNS, (table.name,)).fetchall())
        for column in table.columns:
            kind = found.get(column.name)
            if kind != column.kind:
                problems.append(f"{table.name}.{column.name} is {kind or 'missing'}, must be {column.kind}")
    if problems:
        raise SchemaError("the tables in PostgreSQL do not fit this sink: " + "; ".join(problems))
