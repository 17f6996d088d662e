"""The tables of rare market data, filled record by record: what a market says of itself, and order books."""

from __future__ import annotations

from schemas import catalogue
from sinks.postgres.record_columns import (
    ID,
    ORIGIN,
    PLACE,
    TIME,
    RecordTable,
    Source,
    floats,
    integer,
    same,
    text,
)

_EVENT = (*text("symbol"), *TIME)
_EVENT_TAIL = (*text("extra"), *ORIGIN, *ID, *PLACE)
_EVENT_KEY = ("symbol", "ts", "event_id")

STOCK_STATUSES = RecordTable(
    "stock_statuses",
    _EVENT_KEY,
    (
        *_EVENT,
        *text("status_code", "status_message", "reason_code", "reason_message", "tape"),
        *_EVENT_TAIL,
    ),
)
STOCK_LULDS = RecordTable(
    "stock_lulds",
    _EVENT_KEY,
    (*_EVENT, *floats("limit_up_price", "limit_down_price"), *text("indicator", "tape"), *_EVENT_TAIL),
)
STOCK_IMBALANCES = RecordTable(
    "stock_imbalances", _EVENT_KEY, (*_EVENT, *floats("price"), *text("tape"), *_EVENT_TAIL)
)
STOCK_CORRECTIONS = RecordTable(
    "stock_corrections",
    _EVENT_KEY,
    (
        *_EVENT,
        *text("kind", "exchange"),
        *integer("original_id"),
        *floats("original_price"),
        *integer("original_size"),
        *same("text[]", "original_conditions"),
        *integer("corrected_id"),
        *floats("corrected_price"),
        *integer("corrected_size"),
        *same("text[]", "corrected_conditions"),
        *text("tape"),
        *_EVENT_TAIL,
    ),
)
CRYPTO_ORDERBOOKS = RecordTable(
    "crypto_orderbooks",
    _EVENT_KEY,
    (
        *_EVENT,
        *same("boolean", "reset"),
        *same("double precision[]", "bid_prices", "bid_sizes", "ask_prices", "ask_sizes"),
        *_EVENT_TAIL,
    ),
)

MARKET = (
    Source(catalogue.STOCK_STATUSES, "stock_status", STOCK_STATUSES),
    Source(catalogue.STOCK_LULDS, "stock_luld", STOCK_LULDS),
    Source(catalogue.STOCK_IMBALANCES, "stock_imbalance", STOCK_IMBALANCES),
    Source(catalogue.STOCK_CORRECTIONS, "stock_correction", STOCK_CORRECTIONS),
    Source(catalogue.CRYPTO_ORDERBOOKS, "crypto_orderbook", CRYPTO_ORDERBOOKS),
)
