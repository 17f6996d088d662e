"""What was sent and is not stored, counted without the pipeline's code: the simulator's ledgers and journal
against PostgreSQL; and what the report names, to be held against it.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import psycopg

from tests import ledger_files
from tests.chaos.scenarios import stack_of, tidewire
from tests.e2e import account_digest

Event = tuple[Any, ...]
"""(channel as the report calls it, what names the event there)."""

_TS = "(extract(epoch from ts) * 1000000)::int8 * 1000 + ts_nanos"
_BAR = ("S", "T", "t", "o", "h", "l", "c", "v", "n")
_BAR_SQL = f"symbol, bar_interval, {_TS}, open, high, low, close, volume, trade_count"
_BAR_NAMES = ("symbol", "interval", "ts", "open", "high", "low", "close", "volume", "trade_count")
_QUOTE_NAMES = (
    "symbol", "ts", "bid_exchange", "bid_price", "bid_size", "ask_exchange", "ask_price", "ask_size",
)  # fmt: skip
_KINDS: dict[tuple[str, str], tuple[str, tuple[str, ...]]] = {
    ("stocks", "t"): ("trades", ("S", "t", "i", "x", "p", "s")),
    ("stocks", "q"): ("quotes", ("S", "t", "bx", "bp", "bs", "ax", "ap", "as")),
    ("stocks", "b"): ("bars", _BAR),
    ("stocks", "u"): ("bars", _BAR),
    ("stocks", "d"): ("bars", _BAR),
    ("stocks", "s"): ("statuses", ("S", "t", "sc", "rc")),
    ("stocks", "l"): ("lulds", ("S", "t", "u", "d", "i")),
    ("stocks", "i"): ("imbalances", ("S", "t", "p")),
    ("crypto", "t"): ("crypto_trades", ("S", "t", "i", "p", "s")),
    ("crypto", "q"): ("crypto_quotes", ("S", "t", "bp", "bs", "ap", "as")),
    ("crypto", "b"): ("crypto_bars", _BAR),
    ("crypto", "u"): ("crypto_bars", _BAR),
    ("crypto", "d"): ("crypto_bars", _BAR),
    ("crypto", "o"): ("crypto_orderbooks", ("S", "t", "r", "b", "a")),
    ("options", "t"): ("option_trades", ("S", "t", "x", "p", "s", "c")),
    ("options", "q"): ("option_quotes", ("S", "t", "bx", "bp", "bs", "ax", "ap", "as")),
    ("news", "n"): ("news", ("id", "updated_at", "headline")),
}
"""(venue, T) -> the report's channel, and the fields that are compared."""
_TABLES = {
    "trades": ("trades", f"symbol, {_TS}, trade_id, exchange, price, size"),
    "quotes": (
        "quotes",
        f"symbol, {_TS}, bid_exchange, bid_price, bid_size, ask_exchange, ask_price, ask_size",
    ),
    "bars": ("bars", _BAR_SQL),
    "statuses": ("stock_statuses", f"symbol, {_TS}, status_code, reason_code"),
    "lulds": ("stock_lulds", f"symbol, {_TS}, limit_up_price, limit_down_price, indicator"),
    "imbalances": ("stock_imbalances", f"symbol, {_TS}, price"),
    "crypto_trades": ("crypto_trades", f"symbol, {_TS}, trade_id, price, size"),
    "crypto_quotes": ("crypto_quotes", f"symbol, {_TS}, bid_price, bid_size, ask_price, ask_size"),
    "crypto_bars": ("crypto_bars", _BAR_SQL),
    "crypto_orderbooks": ("crypto_orderbooks", f"symbol, {_TS}, reset, bid_prices, ask_prices"),
    "option_trades": ("option_trades", f"symbol, {_TS}, exchange, price, size, condition"),
    "option_quotes": (
        "option_quotes",
        f"symbol, {_TS}, bid_exchange, bid_price, bid_size, ask_exchange, ask_price, ask_size",
    ),
    "news": ("news", f"id, {_TS}, headline"),
}
_NAMES = {
    "trades": ("symbol", "ts", "id", "exchange", "price", "size"),
    "quotes": _QUOTE_NAMES,
    "bars": _BAR_NAMES,
    "statuses": ("symbol", "ts", "status_code", "reason_code"),
    "lulds": ("symbol", "ts", "limit_up_price", "limit_down_price", "indicator"),
    "imbalances": ("symbol", "ts", "price"),
    "crypto_trades": ("symbol", "ts", "id", "price", "size"),
    "crypto_quotes": ("symbol", "ts", "bid_price", "bid_size", "ask_price", "ask_size"),
    "crypto_bars": _BAR_NAMES,
    "crypto_orderbooks": ("symbol", "ts", "reset", "bid_prices", "ask_prices"),
    "option_trades": ("symbol", "ts", "exchange", "price", "size", "condition"),
    "option_quotes": _QUOTE_NAMES,
    "news": ("id", "ts", "headline"),
}
HAVE_HISTORY = ("trades", "quotes", "crypto_trades", "crypto_quotes", "option_trades", "news")
"""Channels of which nothing may be lost, whatever the fault: Alpaca gives all of them back."""
_NAMED_ONCE = ("trades", "crypto_trades", "statuses", "lulds", "news")
"""A second message of the same name is a repeat."""


def lost(home: Path) -> tuple[Counter[Event], dict[str, int]]:
    """What the ledgers hold and PostgreSQL does not; and how many that is by channel. An article that was
    changed again is counted apart: Alpaca keeps its last version.
    """
    told = sent(home)
    with stack_of(home) as addresses, psycopg.connect(addresses["database_url"]) as connection:
        missing = told - stored(connection)
    last: dict[str, int] = {}
    for _, id_, ts, *_ in (event for event in told if event[0] == "news"):
        last[id_] = max(ts, last.get(id_, 0))
    by_channel: Counter[str] = Counter()
    for event, count in missing.items():
        former = event[0] == "news" and last[event[1]] > event[2]
        by_channel["articles changed again" if former else event[0]] += count
    return missing, dict(by_channel)


def sent(home: Path) -> Counter[Event]:
    """All that the venues published, repeats of a name and bars that say nothing new left out."""
    counted: Counter[Event] = Counter()
    said: dict[Event, Event] = {}
    for venue in ("stocks", "crypto", "options", "news"):
        folder = home / "simulator" / ("" if venue == "stocks" else venue) / "ledger"
        for message in ledger_files.messages(folder):
            event = _event(venue, message)
            if event is None:
                continue
            if event[0] in _NAMED_ONCE and counted[event]:
                continue
            if event[0] in ("bars", "crypto_bars"):
                if said.get(event[:4]) == event:
                    continue
                said[event[:4]] = event
            counted[event] += 1
    return counted


def _event(venue: str, message: dict[str, Any]) -> Event | None:
    known = _KINDS.get((venue, message["T"]))
    if known is None:  # corrections: they have no rows
        return None
    channel, fields = known
    return (channel, *(_value(field, message.get(field)) for field in fields))


def _value(field: str, value: Any) -> Any:
    if hasattr(value, "to_unix_nano"):
        return value.to_unix_nano()
    if field == "T":
        return "day" if value == "d" else "minute"
    if field == "r":
        return bool(value)
    if isinstance(value, list):
        return tuple(level["p"] for level in value)
    if field == "id":
        return str(value)
    return "" if value is None else value


def stored(connection: psycopg.Connection[Any]) -> Counter[Event]:
    """All that PostgreSQL holds."""
    counted: Counter[Event] = Counter()
    for channel, (table, columns) in _TABLES.items():
        rows = connection.execute(f"SELECT {columns} FROM {table}")
        counted.update((channel, *_plain(row)) for row in rows)
    return counted


def _plain(values: Iterable[Any]) -> Iterator[Any]:
    for value in values:
        yield tuple(value) if isinstance(value, list) else value


def named(home: Path) -> tuple[Counter[Event], Counter[Event], dict[str, Any]]:
    """What `tidewire verify` calls unrecoverable, what it calls missing, and its report."""
    with stack_of(home):
        report = json.loads(tidewire(home, "verify", "--json", "--limit", "1000000").stdout)
    return _events(report["unrecoverable_events"]), _events(report["missing_events"]), report


def _events(items: Iterable[dict[str, Any]]) -> Counter[Event]:
    counted: Counter[Event] = Counter()
    for item in items:
        values = _plain(item["event"][name] for name in _NAMES[item["channel"]])
        counted[item["channel"], *values] += item["copies"]
    return counted


def lost_orders(home: Path, accounts: int = 2) -> Counter[tuple[str, str, Any]]:
    """Order events of the broker's journal that PostgreSQL does not hold: (order, event, filled so far)."""
    books = account_digest.read_journal(home, accounts)
    told = Counter((order, event, cumulative) for _, order, event, cumulative in books.events)
    query = "SELECT order_id, event, cumulative_quantity FROM order_events"
    with stack_of(home) as addresses, psycopg.connect(addresses["database_url"]) as connection:
        held = Counter(tuple(row) for row in connection.execute(query))
    there: Counter[tuple[str, str, Any]] = Counter()
    for (order, event, cumulative), count in held.items():
        there[order, event, Fraction(cumulative)] += count
    return told - there
