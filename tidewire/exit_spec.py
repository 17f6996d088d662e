"""What an exit rule says: checked whole, every mistake in one message, in words that its author knows. Pure.

::

    {"kind": "stop_loss", "percent": "5"}                                 5 percent below the entry price
    {"kind": "take_profit", "price": "195.50"}
    {"kind": "trailing_stop", "trail_percent": "2", "reference": "mid"}
    {"kind": "time_stop", "after_seconds": 7200}                          after the position was opened
    {"kind": "end_of_day", "before_close_seconds": 300}

A bracket is several rules on one position. For a short position above and below change places. Amounts are
USD, percents are of the entry price (a trail: of the best price); they may be numbers or, exact, strings.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from tidewire.errors import ConfigError

Kind = Literal["stop_loss", "take_profit", "trailing_stop", "time_stop", "end_of_day"]
Reference = Literal["last", "bid", "ask", "mid", "side"]
Foreign = Literal["cancel", "respect", "adopt"]
ASSET_CLASSES = ("us_equity", "us_option", "crypto")

NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,39}")
"""Names of rules: they stand in Kafka keys, which join parts by `:`."""

_LARGEST = Decimal(10) ** 12  # no price is near it, and every product of two amounts fits an Avro decimal
_DIGITS = 9
_DAY = 86_400
_NEEDS = {
    "stop_loss": ("price", "percent"),
    "take_profit": ("price", "percent"),
    "trailing_stop": ("trail_price", "trail_percent"),
    "time_stop": ("after_seconds", "at"),
    "end_of_day": ("before_close_seconds",),
}
_MEASURES = tuple(dict.fromkeys(name for names in _NEEDS.values() for name in names))


def _amount(value: Any) -> Any:
    """A number as it was written: 0.1 is a tenth, not the double nearest to it."""
    if isinstance(value, bool) or not isinstance(value, int | float | str | Decimal):
        raise PydanticCustomError("amount", "must be a number")
    try:
        amount = Decimal(str(value).strip())
    except ArithmeticError:
        raise PydanticCustomError("amount", "must be a number") from None
    if not amount.is_finite() or not 0 < amount < _LARGEST:
        raise PydanticCustomError("amount", "must be greater than 0 and below 1,000,000,000,000")
    exponent = amount.normalize().as_tuple().exponent
    if isinstance(exponent, int) and exponent < -_DIGITS:
        raise PydanticCustomError("amount", "has more than 9 digits after the point")
    return amount


def _moment(value: Any) -> Any:
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else value
    except ValueError:
        moment = None
    if not isinstance(moment, datetime) or moment.tzinfo is None:
        raise PydanticCustomError("amount", "needs a date and a zone, as in 2026-11-22T15:30:00-05:00")
    return moment


Amount = Annotated[Decimal, BeforeValidator(_amount)]
Moment = Annotated[datetime, BeforeValidator(_moment)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class OrderSpec(_Strict):
    """The order that an exit becomes. `limit_offset_percent`: how far beyond the reference price a limit may
    fill, in percent of it; None with a market order.
    """

    type: Literal["market", "limit"] = "market"
    limit_offset_percent: Amount | None = None

    @model_validator(mode="after")
    def _offset(self) -> OrderSpec:
        if self.type == "market" and self.limit_offset_percent is not None:
            raise PydanticCustomError(
                "order", "limit_offset_percent belongs to a limit order: set type limit"
            )
        if self.type == "limit" and self.limit_offset_percent is None:
            raise PydanticCustomError("order", "a limit order needs limit_offset_percent")
        if self.limit_offset_percent is not None and self.limit_offset_percent >= 100:
            raise PydanticCustomError("order", "limit_offset_percent must be below 100")
        return self


class SignalSpec(_Strict):
    """What the rule does on a signal: exit at once, or tighten to `percent` from the price of that moment."""

    kind: Literal["flash_crash", "news_spike"]
    action: Literal["tighten", "exit"]
    percent: Amount | None = None

    @model_validator(mode="after")
    def _tightened(self) -> SignalSpec:
        if (self.action == "tighten") != (self.percent is not None):
            raise PydanticCustomError("signal", "percent is needed with action tighten, and only there")
        if self.percent is not None and self.percent >= 100:
            raise PydanticCustomError("signal", "percent must be below 100")
        return self


class RuleSpec(_Strict):
    """A rule. Seconds are of event time; `at` is a moment with its zone, as in 2026-11-22T15:30:00-05:00.

    `reference`: side is the bid for long positions and the ask for short ones. `reference_symbol`: whose
    price it watches, None: the position's own. `max_quote_age_seconds` None: by the symbol's rhythm.
    `max_hold_seconds`: a gate that holds the exit for longer alerts.
    """

    kind: Kind
    price: Amount | None = None
    percent: Amount | None = None
    trail_price: Amount | None = None
    trail_percent: Amount | None = None
    after_seconds: Annotated[int, Field(ge=1, le=366 * _DAY)] | None = None
    at: Moment | None = None
    before_close_seconds: Annotated[int, Field(ge=1, le=6 * 3600)] | None = None
    reference: Reference = "side"
    reference_symbol: Annotated[str, Field(pattern=r"^[A-Z0-9][A-Z0-9./-]{0,29}$")] | None = None
    order: OrderSpec = OrderSpec()
    extended_hours: bool = False
    foreign_orders: Foreign = "cancel"
    max_quote_age_seconds: Amount | None = None
    max_hold_seconds: Annotated[int, Field(ge=1, le=7 * _DAY)] = 60
    on_signal: SignalSpec | None = None

    def measures(self) -> dict[str, Any]:
        """What it fires at: the fields that its kind has, those not given left out."""
        found = {name: getattr(self, name) for name in _MEASURES}
        return {name: value for name, value in found.items() if value is not None}

    def canonical(self) -> str:
        """Its JSON, the same for the same rule: sorted, defaults and what is not given left out."""
        given = self.model_dump(mode="json", exclude_defaults=True) | {"kind": self.kind}
        for name in ("price", "percent", "trail_price", "trail_percent", "max_quote_age_seconds"):
            value = getattr(self, name)
            if value is not None:
                given[name] = plain(value)
        if self.at is not None:
            given["at"] = self.at.isoformat()
        return json.dumps(given, sort_keys=True, separators=(",", ":"))


def plain(amount: Decimal) -> str:
    """A number as text without an exponent or needless zeros."""
    text = f"{amount:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def parse(raw: str | bytes | Mapping[str, Any]) -> RuleSpec:
    """The rule of a JSON text or object.

    Raises:
        ConfigError: every mistake, in one message.
    """
    try:
        given = json.loads(raw) if isinstance(raw, str | bytes) else dict(raw)
    except ValueError as error:
        raise ConfigError([f"the rule is no JSON: {error}"]) from None
    if not isinstance(given, dict):
        raise ConfigError(["the rule must be an object, as in {'kind': 'stop_loss', 'percent': 5}"])
    problems: list[str] = []
    spec: RuleSpec | None = None
    try:
        spec = RuleSpec.model_validate(given)
    except ValidationError as error:
        problems += [_readable(e) for e in error.errors()]
    problems += _amiss(given)
    if problems or spec is None:
        raise ConfigError(problems)
    return spec


def _readable(error: Any) -> str:
    where = ".".join(str(part) for part in error["loc"]) or "the rule"
    kind, context = error["type"], error.get("ctx", {})
    if kind == "missing":
        return f"{where} is missing" + (f": one of {', '.join(_NEEDS)}" if where == "kind" else "")
    if kind == "extra_forbidden":
        return f"unknown key {where}"
    if kind == "literal_error":
        return f"{where} must be {context['expected']}, not {error['input']!r}"
    if kind == "string_pattern_mismatch":
        return f"{where} must be a symbol in capitals, as in AAPL or BTC/USD"
    if kind == "greater_than_equal":
        return f"{where} must be at least {context['ge']}"
    if kind == "less_than_equal":
        return f"{where} must be at most {context['le']}"
    if kind in ("amount", "order", "signal"):
        return f"{where}: {error['msg']}" if kind != "amount" else f"{where} {error['msg']}"
    message = error["msg"]
    return f"{where}: {message[0].lower()}{message[1:]}"


def _amiss(given: Mapping[str, Any]) -> list[str]:
    """Mistakes between keys, found whether or not the keys alone are right."""
    kind = given.get("kind")
    needs = _NEEDS.get(kind) if isinstance(kind, str) else None
    if needs is None:
        return []
    there = [name for name in _MEASURES if given.get(name) is not None]
    problems = [f"{name} does not belong to a {kind}" for name in there if name not in needs]
    mine = [name for name in there if name in needs]
    if not mine:
        problems.append(f"a {kind} needs {' or '.join(needs)}")
    elif len(mine) > 1:
        problems.append(f"a {kind} takes {' or '.join(needs)}, not both")
    if given.get("percent") is not None and "percent" in needs and given.get("reference_symbol") is not None:
        problems.append(
            "percent is of the position's entry price, which says nothing of reference_symbol: give price"
        )
    bounded = [name for name in ("percent", "trail_percent") if kind != "take_profit" and name in needs]
    problems += [
        f"{name} must be below 100: it would never fire"
        for name in bounded
        if _at_least_hundred(given.get(name))
    ]
    order = given.get("order")
    order_type = order.get("type", "market") if isinstance(order, Mapping) else "market"
    if given.get("extended_hours") is True and order_type != "limit":
        problems.append("extended_hours takes limit orders only: set order.type to limit")
    return problems


def _at_least_hundred(value: Any) -> bool:
    try:
        return Decimal(str(value)) >= 100
    except ArithmeticError:
        return False
