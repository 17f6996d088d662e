"""Numbers, times and texts as Alpaca's trading API writes them -> values of the schemas. Pure.

Numbers are strings (now and then JSON numbers), times are RFC 3339 with up to nine digits of a second and
offsets that differ from field to field.
"""

from __future__ import annotations

import json
import re
from calendar import timegm
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Any

from tidewire.clock import NS_PER_SECOND
from tidewire.errors import RecordError

Json = Mapping[str, Any]

PLACES = 18
"""Digits behind the point that the schemas hold."""
_LIMIT = Decimal(10) ** 20
_NUMBER = re.compile(r"[+-]?\d{1,60}(\.\d{0,60})?", re.ASCII)
_TIME = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(?:([Zz])|([+-])(\d\d):?(\d\d))", re.ASCII
)
_INT64 = 1 << 63
_QUOTED_IN = ("USDT", "USDC", "USD", "BTC")


def parse(raw: bytes | str) -> Any:
    """JSON with exact numbers.

    Raises:
        RecordError: it is no JSON, or not UTF-8.
    """
    try:
        return json.loads(raw, parse_float=Decimal, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise RecordError(f"not JSON: {error}"[:300]) from None


def number(fields: Json, name: str) -> Decimal | None:
    """A number, exact; None where the field is missing, null or empty.

    Raises:
        RecordError: it is no number, or more digits than the schemas hold. Nothing is ever rounded.
    """
    value = fields.get(name)
    if value is None or value == "":
        return None
    if isinstance(value, str) and _NUMBER.fullmatch(value):
        value = Decimal(value)
    if type(value) is int:
        value = Decimal(value) if abs(value) < _LIMIT else None
    if not isinstance(value, Decimal) or not value.is_finite():
        raise RecordError(f"{name} is not a number that fits: {fields[name]!r:.100}")
    return _fitting(name, value)


def needed(fields: Json, name: str, where: str = "") -> Decimal:
    """A number that must be there. Raises RecordError."""
    value = number(fields, name)
    if value is None:
        raise RecordError(f"{where}{name} is missing")
    return value


def loose(fields: Json, name: str) -> Decimal | None:
    """A number that says nothing new (an average, a value at a price): None when it has too many digits.

    Raises:
        RecordError: it is no number.
    """
    try:
        return number(fields, name)
    except _TooLongError:
        return None


def time(fields: Json, name: str) -> int | None:
    """A time in ns since 1970 UTC; None where the field is missing, null or empty. Raises RecordError."""
    value = fields.get(name)
    if value is None or value == "":
        return None
    found = _TIME.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise RecordError(f"{name} is not a time: {value!r:.100}")
    day, clock, fraction, _, sign, hours, minutes = found.groups()
    try:
        seconds = timegm(datetime.fromisoformat(f"{day}T{clock}").timetuple())
    except ValueError as error:
        raise RecordError(f"{name} is not a time: {value!r}: {error}") from None
    if sign is not None:
        offset = int(hours) * 3600 + int(minutes) * 60
        seconds += offset if sign == "-" else -offset
    ns = seconds * NS_PER_SECOND + int((fraction or "0").ljust(9, "0"))
    if not -_INT64 <= ns < _INT64:
        raise RecordError(f"{name} does not fit: {value!r}")
    return ns


def text(fields: Json, name: str) -> str | None:
    """A text; None where the field is missing or null.

    Raises:
        RecordError: it is something else.
    """
    value = fields.get(name)
    if value is None:
        return None
    if not isinstance(value, str):
        raise RecordError(f"{name} is not a text: {value!r:.100}")
    return value


def identity(fields: Json, name: str, where: str = "") -> str:
    """A text that must be there and not be empty. Raises RecordError."""
    value = text(fields, name)
    if not value:
        raise RecordError(f"{where}{name} is missing")
    return value


def side(fields: Json) -> str:
    """buy or sell; a short sale is one too. Others are kept as they are. Raises RecordError."""
    named = text(fields, "side") or ""
    return "sell" if named == "sell_short" else named


def symbol(fields: Json) -> str:
    """The symbol as market data writes it; empty where there is none.

    Positions and older orders of crypto lack the slash: BTCUSD is BTC/USD everywhere else.

    Raises:
        RecordError: it is no text.
    """
    named = text(fields, "symbol") or ""
    if fields.get("asset_class") == "crypto" and "/" not in named:
        for currency in _QUOTED_IN:
            if named.endswith(currency) and named != currency:
                return f"{named.removesuffix(currency)}/{currency}"
    return named


def objects(fields: Json, name: str) -> list[Json]:
    """A list of objects; empty where there is none. Raises RecordError."""
    value = fields.get(name)
    if value is None or value is False:  # false was seen for an order without legs
        return []
    if not isinstance(value, list) or not all(isinstance(part, dict) for part in value):
        raise RecordError(f"{name} is not a list of objects: {value!r:.100}")
    return value


def leftovers(*parts: Mapping[str, Any]) -> str | None:
    """What the schema has no field for, as JSON; nulls, empty lists and objects are left out."""
    kept = {name: value for part in parts for name, value in part.items() if value not in (None, [], {})}
    return json.dumps(kept, default=str, separators=(",", ":")) if kept else None


def without(fields: Json, known: frozenset[str]) -> dict[str, Any]:
    """The fields that are not `known`."""
    return {name: value for name, value in fields.items() if name not in known}


class _TooLongError(RecordError):
    """More digits behind the point than the schemas hold."""


def _fitting(name: str, value: Decimal) -> Decimal:
    if abs(value) >= _LIMIT:
        raise RecordError(f"{name} has more than 20 digits before the point: {value!s:.100}")
    exponent = value.as_tuple().exponent
    if isinstance(exponent, int) and exponent < -PLACES:
        try:
            short = value.quantize(Decimal(1).scaleb(-PLACES))
        except InvalidOperation:
            short = None
        if short != value:
            raise _TooLongError(f"{name} has more than {PLACES} digits behind the point: {value!s:.100}")
        return value if short is None else short
    return value


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no number")
