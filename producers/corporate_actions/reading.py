"""One announcement of Alpaca's -> what a record says of it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import orjson

from producers.history.market_days import NEW_YORK
from schemas.event_id import corporate_action_id
from tidewire.clock import NS_PER_SECOND

_OWN_SYMBOL = ("symbol", "old_symbol", "source_symbol", "acquiree_symbol")
"""Whose price basis changes."""
_CASH = {
    "cash_dividend": "rate",
    "cash_merger": "rate",
    "redemption": "rate",
    "stock_and_cash_merger": "cash_rate",
}


@dataclass(frozen=True, slots=True)
class Announced:
    """An announcement; amounts in USD a share, days as YYYY-MM-DD. `content` is Alpaca's record as JSON."""

    symbol: str
    action_id: str
    kind: str
    ex_date: str
    process_date: str
    old_rate: Decimal | None
    new_rate: Decimal | None
    cash: Decimal | None
    new_symbol: str | None
    content: str

    @property
    def key(self) -> tuple[str, str]:
        """What names it, however it changes."""
        return self.symbol, self.action_id


def read(bucket: str, action: Mapping[str, Any]) -> Announced:
    """An element of an answer's list `bucket` (forward_splits, cash_dividends, ...).

    Rates are given where so many shares become so many others. A spin-off and distributed rights leave the
    shares as they are: their rates stand in `content` only.

    Raises:
        ValueError: no symbol, no day, or a rate that is no positive number.
    """
    kind = bucket.removesuffix("s")
    content = canonical(action)
    symbol = next((str(action[name]) for name in _OWN_SYMBOL if action.get(name)), "")
    if not symbol:
        raise ValueError(f"{bucket}: no symbol")
    process = _day(action, "process_date", "ex_date", "effective_date", "payable_date")
    ex_date = _day(action, "ex_date", "effective_date", "process_date", "payable_date")
    old, new = _rates(kind, action)
    cash = _CASH.get(kind)
    action_id = str(action.get("id") or f"content-{corporate_action_id(symbol, kind, content).hex()}")
    new_symbol = action.get("acquirer_symbol") or action.get("new_symbol") or None
    return Announced(
        symbol,
        action_id,
        kind,
        ex_date,
        process,
        old,
        new,
        _number(action, cash) if cash else None,
        None if new_symbol is None else str(new_symbol),
        content,
    )


def canonical(action: Mapping[str, Any]) -> str:
    """The JSON of an announcement, the same whatever the order of its fields."""
    return orjson.dumps(action, option=orjson.OPT_SORT_KEYS).decode()


def midnight(day: str) -> int:
    """The beginning of a day (YYYY-MM-DD) in New York, ns since 1970 UTC. Raises ValueError: it is none."""
    found = date.fromisoformat(day)
    return int(datetime(found.year, found.month, found.day, tzinfo=NEW_YORK).timestamp()) * NS_PER_SECOND


def _rates(kind: str, action: Mapping[str, Any]) -> tuple[Decimal | None, Decimal | None]:
    if kind in ("forward_split", "reverse_split", "unit_split"):
        return _number(action, "old_rate"), _number(action, "new_rate")
    if kind == "stock_dividend":
        return Decimal(1), 1 + _number(action, "rate")
    if kind in ("stock_merger", "stock_and_cash_merger"):
        return _number(action, "acquiree_rate"), _number(action, "acquirer_rate")
    return None, None


def _number(action: Mapping[str, Any], name: str) -> Decimal:
    value = action.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        raise ValueError(f"{name} is {value!r}, no positive number")
    return Decimal(repr(value))


def _day(action: Mapping[str, Any], *names: str) -> str:
    text = next((str(action[name]) for name in names if action.get(name)), "")
    try:
        return date.fromisoformat(text[:10]).isoformat()
    except ValueError:
        raise ValueError(f"{names[0]} is {text!r}, no day") from None
