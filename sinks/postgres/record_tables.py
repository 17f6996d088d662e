"""The tables of the low-rate topics, filled record by record: which topic feeds them, whence each column."""

from __future__ import annotations

from schemas import catalogue
from schemas.fills import fills
from sinks.postgres.audit_tables import COMPLETENESS
from sinks.postgres.market_tables import MARKET
from sinks.postgres.record_columns import (
    ID,
    OF_TOPIC,
    ORIGIN,
    PLACE,
    TIME,
    Parts,
    Record,
    RecordTable,
    Source,
    floats,
    integer,
    money,
    records,
    same,
    text,
)

ORDER_EVENTS = RecordTable(
    "order_events",
    ("event_id",),
    (
        *ID,
        *text("account", "order_id", "client_order_id"),
        *TIME,
        *text("event", "status", "execution_id", "previous_execution_id", "alpaca_event_id"),
        *text("symbol", "asset_class", "side", "order_type", "order_class", "time_in_force"),
        *money("order_quantity", "notional", "limit_price", "stop_price", "trail_price", "trail_percent"),
        *money("cumulative_quantity", "average_price", "quantity", "price", "position_quantity"),
        records("legs"),
        *text("replaces", "replaced_by"),
        *integer("submitted_ts", "filled_ts"),
        *same("boolean", "extended_hours"),
        *text("reason", "extra"),
        *ORIGIN,
        *PLACE,
    ),
)
FILLS = RecordTable(
    "fills",
    ("event_id",),
    (
        *ID,
        *text("account", "order_id", "kind", "execution_id", "previous_execution_id"),
        *TIME,
        *text("symbol", "asset_class", "side"),
        *money("quantity", "price", "cumulative_quantity", "position_quantity"),
        *ORIGIN,
        *PLACE,
    ),
)
ORDERS = RecordTable(
    "orders",
    ("account", "order_id"),
    (
        *text("account", "order_id"),
        *TIME,
        *text("client_order_id", "symbol", "side", "order_type", "order_class", "time_in_force", "status"),
        *money("quantity", "notional", "filled_quantity", "average_price"),
        *money("limit_price", "stop_price", "trail_price", "trail_percent"),
        *integer("submitted_ts", "filled_ts"),
        *text("reason", "event", "replaced_by", "replaces"),
        *ORIGIN,
        *ID,
        *OF_TOPIC,
    ),
    current=True,
)
# Fills are not always told in their order. A late one may undo a flip: then a position was told whose epoch
# never began, and no later record has its key. And no position of a former epoch is open, even if its end was
# compacted away.
_OTHER_EPOCH = """s.account = t.account AND s.symbol = t.symbol
    AND (t.epoch > s.epoch OR (t.epoch < s.epoch AND t.quantity <> 0))"""
POSITIONS = RecordTable(
    "positions",
    ("account", "symbol", "epoch"),
    (
        *text("account", "symbol"),
        *integer("epoch"),
        *TIME,
        *text("asset_class"),
        *money("quantity", "average_price", "cost_basis", "multiplier", "realized_pnl", "mark_price"),
        *integer("mark_ts"),
        *money("market_value", "unrealized_pnl", "broker_quantity", "broker_average_price"),
        *money("broker_rule_cost"),
        *same("boolean", "unexplained"),
        *integer("opened_ts"),
        *text("strategy"),
        *ORIGIN,
        *ID,
        *OF_TOPIC,
    ),
    current=True,
    voids=_OTHER_EPOCH,
)
ACCOUNTS = RecordTable(
    "accounts",
    ("account",),
    (
        *text("account"),
        *TIME,
        *money("cash", "equity", "buying_power", "portfolio_value", "day_pnl", "last_equity"),
        *same("boolean", "blocked"),
        *text("activity_cursor"),
        *ORIGIN,
        *ID,
        *OF_TOPIC,
    ),
    current=True,
)
ACCOUNT_SNAPSHOTS = RecordTable(
    "account_snapshots",
    ("event_id",),
    (
        *ID,
        *text("account", "broker_account"),
        *TIME,
        *text("status", "currency"),
        *money("cash", "equity", "last_equity", "buying_power", "long_market_value", "short_market_value"),
        *same("boolean", "trading_blocked"),
        records("orders"),
        *text("activity_cursor"),
        *same("text[]", "contained_fills", "contained_activities"),
        *text("extra"),
        *ORIGIN,
        *PLACE,
    ),
)
SNAPSHOT_POSITIONS = RecordTable(
    "snapshot_positions",
    ("event_id", "ordinal"),
    (
        *ID,
        *same("integer", "ordinal"),
        *text("account"),
        *TIME,
        *text("symbol", "asset_class"),
        *money("quantity", "average_price", "market_value", "cost_basis", "current_price"),
    ),
)
ACTIVITIES = RecordTable(
    "account_activities",
    ("event_id",),
    (
        *ID,
        *text("account", "activity_id", "activity_type", "subtype"),
        *TIME,
        *text("date"),
        *integer("created_ts"),
        *text("symbol"),
        *money("quantity", "price", "net_amount", "per_share_amount"),
        *text("group_id", "status", "previous_id", "description", "extra"),
        *ORIGIN,
        *PLACE,
    ),
)
NEWS = RecordTable(
    "news",
    ("provider", "id", "revision"),
    (
        *text("provider", "id"),
        *integer("revision"),
        *TIME,
        *integer("created_ts"),
        *text("headline", "summary", "content", "author", "url"),
        *same("text[]", "symbols"),
        *text("extra"),
        *ORIGIN,
        *ID,
        *PLACE,
    ),
)
NEWS_SENTIMENT = RecordTable(
    "news_sentiment",
    ("event_id",),
    (
        *ID,
        *text("symbol"),
        *TIME,
        *text("provider", "article_id"),
        *integer("revision"),
        *text("analyzer"),
        *floats("score", "confidence"),
        *text("detail"),
        *ORIGIN,
        *PLACE,
    ),
)
WATCHLIST_SCORES = RecordTable(
    "watchlist_scores",
    ("symbol",),
    (
        *text("symbol"),
        *TIME,
        *floats("score"),
        *integer("half_life_ns", "articles"),
        *ORIGIN,
        *ID,
        *OF_TOPIC,
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
    Source(catalogue.ACTIVITIES, "account_activity", ACTIVITIES),
    Source(catalogue.NEWS, "news", NEWS),
    Source(catalogue.NEWS_SENTIMENT, "news_sentiment", NEWS_SENTIMENT),
    Source(catalogue.WATCHLIST_SCORES, "watchlist_score", WATCHLIST_SCORES),
    *MARKET,
    *COMPLETENESS,
)
RECORD_TABLES = tuple(table for source in SOURCES for table in source.tables)
