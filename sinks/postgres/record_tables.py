"""The tables of the low-rate topics, filled record by record: which topic feeds them, whence each column."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from operator import itemgetter
from typing import Any

from schemas import catalogue
from schemas.event_id import plain_quantity
from schemas.fills import fills
from sinks.postgres.tables import OFFSET, PARTITION

TOPIC_ID = "_topic_id"
"""With OFFSET and PARTITION what records.py adds to a decoded record."""

Record = Mapping[str, Any]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Column:
    """A column, its type as PostgreSQL names it, and its value in terms of the decoded record."""

    name: str
    kind: str
    value: Callable[[Record], Any]


@dataclass(frozen=True, slots=True)
class RecordTable:
    """`key` is the primary key; `current`: one row a key, which only a newer record replaces."""

    name: str
    key: tuple[str, ...]
    columns: tuple[Column, ...]
    current: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """The columns' names, in the order in which they are copied."""
        return tuple(c.name for c in self.columns)


@dataclass(frozen=True, slots=True)
class Parts:
    """A second table that a record fills: one row for each part of the record (none, one or several)."""

    table: RecordTable
    split: Callable[[Record], Iterable[Record]]


@dataclass(frozen=True, slots=True)
class Source:
    """A topic (a constant of the catalogue), the schema of its records, and the tables that they fill."""

    topic: str
    stem: str
    table: RecordTable
    parts: tuple[Parts, ...] = ()

    @property
    def tables(self) -> tuple[RecordTable, ...]:
        """All tables, that of the records first."""
        return (self.table, *(part.table for part in self.parts))


def _same(kind: str, *names: str) -> tuple[Column, ...]:
    return tuple(Column(name, kind, itemgetter(name)) for name in names)


def _text(*names: str) -> tuple[Column, ...]:
    return _same("text", *names)


def _integer(*names: str) -> tuple[Column, ...]:
    return _same("bigint", *names)


def _money(*names: str) -> tuple[Column, ...]:
    return _same("numeric(38,18)", *names)


def _floats(*names: str) -> tuple[Column, ...]:
    return _same("double precision", *names)


def _list(name: str) -> Column:
    """A list of records as JSON, its decimals as plain text: a JSON number would lose digits elsewhere."""

    def value(record: Record) -> list[dict[str, Any]]:
        return [{key: _plain(part) for key, part in item.items()} for item in record[name]]

    return Column(name, "jsonb", value)


def _plain(value: Any) -> Any:
    return plain_quantity(value) if isinstance(value, Decimal) else value


# Floor division, so that ts_nanos is 0..999 on either side of 1970.
_TIME = (
    Column(
        "ts", "timestamp with time zone", lambda record: _EPOCH + timedelta(microseconds=record["ts"] // 1000)
    ),
    Column("ts_nanos", "smallint", lambda record: record["ts"] % 1000),
)
_ID = _same("bytea", "event_id")
_ORIGIN = (*_integer("received_ts"), *_text("source"))
_PLACE = (
    Column("k_part", "integer", itemgetter(PARTITION)),
    Column("k_offset", "bigint", itemgetter(OFFSET)),
)
_OF_TOPIC = (*_PLACE, Column("k_topic_id", "text", itemgetter(TOPIC_ID)))

ORDER_EVENTS = RecordTable(
    "order_events",
    ("event_id",),
    (
        *_ID,
        *_text("account", "order_id", "client_order_id"),
        *_TIME,
        *_text("event", "status", "execution_id", "previous_execution_id", "alpaca_event_id"),
        *_text("symbol", "asset_class", "side", "order_type", "order_class", "time_in_force"),
        *_money("order_quantity", "notional", "limit_price", "stop_price", "trail_price", "trail_percent"),
        *_money("cumulative_quantity", "average_price", "quantity", "price", "position_quantity"),
        _list("legs"),
        *_text("replaces", "replaced_by"),
        *_integer("submitted_ts", "filled_ts"),
        *_same("boolean", "extended_hours"),
        *_text("reason", "extra"),
        *_ORIGIN,
        *_PLACE,
    ),
)
FILLS = RecordTable(
    "fills",
    ("event_id",),
    (
        *_ID,
        *_text("account", "order_id", "kind", "execution_id", "previous_execution_id"),
        *_TIME,
        *_text("symbol", "asset_class", "side"),
        *_money("quantity", "price", "cumulative_quantity", "position_quantity"),
        *_ORIGIN,
        *_PLACE,
    ),
)
ORDERS = RecordTable(
    "orders",
    ("account", "order_id"),
    (
        *_text("account", "order_id"),
        *_TIME,
        *_text("client_order_id", "symbol", "side", "order_type", "order_class", "time_in_force", "status"),
        *_money("quantity", "notional", "filled_quantity", "average_price"),
        *_money("limit_price", "stop_price", "trail_price", "trail_percent"),
        *_integer("submitted_ts", "filled_ts"),
        *_text("reason", "event", "replaced_by", "replaces"),
        *_ORIGIN,
        *_ID,
        *_OF_TOPIC,
    ),
    current=True,
)
POSITIONS = RecordTable(
    "positions",
    ("account", "symbol", "epoch"),
    (
        *_text("account", "symbol"),
        *_integer("epoch"),
        *_TIME,
        *_text("asset_class"),
        *_money("quantity", "average_price", "cost_basis", "multiplier", "realized_pnl", "mark_price"),
        *_integer("mark_ts"),
        *_money("market_value", "unrealized_pnl", "broker_quantity", "broker_average_price"),
        *_integer("opened_ts"),
        *_text("strategy"),
        *_ORIGIN,
        *_ID,
        *_OF_TOPIC,
    ),
    current=True,
)
ACCOUNTS = RecordTable(
    "accounts",
    ("account",),
    (
        *_text("account"),
        *_TIME,
        *_money("cash", "equity", "buying_power", "portfolio_value", "day_pnl", "last_equity"),
        *_same("boolean", "blocked"),
        *_text("activity_cursor"),
        *_ORIGIN,
        *_ID,
        *_OF_TOPIC,
    ),
    current=True,
)
ACCOUNT_SNAPSHOTS = RecordTable(
    "account_snapshots",
    ("event_id",),
    (
        *_ID,
        *_text("account", "broker_account"),
        *_TIME,
        *_text("status", "currency"),
        *_money("cash", "equity", "last_equity", "buying_power", "long_market_value", "short_market_value"),
        *_same("boolean", "trading_blocked"),
        _list("orders"),
        *_text("activity_cursor"),
        *_same("text[]", "contained_fills"),
        *_text("extra"),
        *_ORIGIN,
        *_PLACE,
    ),
)
SNAPSHOT_POSITIONS = RecordTable(
    "snapshot_positions",
    ("event_id", "ordinal"),
    (
        *_ID,
        *_same("integer", "ordinal"),
        *_text("account"),
        *_TIME,
        *_text("symbol", "asset_class"),
        *_money("quantity", "average_price", "market_value", "cost_basis", "current_price"),
    ),
)
NEWS = RecordTable(
    "news",
    ("provider", "id", "revision"),
    (
        *_text("provider", "id"),
        *_integer("revision"),
        *_TIME,
        *_integer("created_ts"),
        *_text("headline", "summary", "content", "author", "url"),
        *_same("text[]", "symbols"),
        *_text("extra"),
        *_ORIGIN,
        *_ID,
        *_PLACE,
    ),
)
NEWS_SENTIMENT = RecordTable(
    "news_sentiment",
    ("event_id",),
    (
        *_ID,
        *_text("symbol"),
        *_TIME,
        *_text("provider", "article_id"),
        *_integer("revision"),
        *_text("analyzer"),
        *_floats("score", "confidence"),
        *_text("detail"),
        *_ORIGIN,
        *_PLACE,
    ),
)
WATCHLIST_SCORES = RecordTable(
    "watchlist_scores",
    ("symbol",),
    (
        *_text("symbol"),
        *_TIME,
        *_floats("score"),
        *_integer("half_life_ns", "articles"),
        *_ORIGIN,
        *_ID,
        *_OF_TOPIC,
    ),
    current=True,
)

_FILL = (
    "event_id",
    "order_id",
    "kind",
    "execution_id",
    "previous_execution_id",
    "ts",
    "symbol",
    "asset_class",
    "side",
    "quantity",
    "price",
    "cumulative_quantity",
    "position_quantity",
)


def _fills(update: Record) -> list[Record]:
    return [{**update, **{name: getattr(fill, name) for name in _FILL}} for fill in fills(update)]


def _positions(snapshot: Record) -> list[Record]:
    return [{**snapshot, **position, "ordinal": n} for n, position in enumerate(snapshot["positions"])]


SOURCES = (
    Source(catalogue.TRADE_UPDATES, "trade_update", ORDER_EVENTS, (Parts(FILLS, _fills),)),
    Source(catalogue.PORTFOLIO_ORDERS, "portfolio_order", ORDERS),
    Source(catalogue.PORTFOLIO_POSITIONS, "portfolio_position", POSITIONS),
    Source(catalogue.PORTFOLIO_ACCOUNTS, "portfolio_account", ACCOUNTS),
    Source(
        catalogue.ACCOUNT_SNAPSHOTS,
        "account_snapshot",
        ACCOUNT_SNAPSHOTS,
        (Parts(SNAPSHOT_POSITIONS, _positions),),
    ),
    Source(catalogue.NEWS, "news", NEWS),
    Source(catalogue.NEWS_SENTIMENT, "news_sentiment", NEWS_SENTIMENT),
    Source(catalogue.WATCHLIST_SCORES, "watchlist_score", WATCHLIST_SCORES),
)
RECORD_TABLES = tuple(table for source in SOURCES for table in source.tables)
