"""What an account activity that is no fill does to a position and to cash, and when. Pure.

Alpaca's documentation and samples say: a fee in kind (CFEE) has a negative quantity and no amount; of a cash
dividend the quantity is what it was paid for, and only one without an amount brings shares; a split takes the
old shares away and brings the new ones; an exercise or assignment takes the option away at no price, and an
OPTRD brings or takes the shares at the strike, whatever its `price` says: `net_amount` is the truth.
Whoever counts activities (positions, reports) takes their effect from here, so that all mean the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from decimal import ROUND_HALF_EVEN, Context, Decimal
from functools import lru_cache
from typing import Any, Literal
from zoneinfo import ZoneInfo

from schemas.fills import asset_class, multiplier

Kind = Literal["none", "cash", "trade", "proceeds", "rescale", "transfer"]
"""none: the trade stream tells of it. trade: at `price`. proceeds: cash for what left by another activity.
rescale: more or fewer of the same, the cost stays. transfer: comes with a cost and without cash, or leaves
with its cost."""

EXECUTIONS = frozenset({"FILL", "BUST", "CORRECT"})
"""Types that tell of executions, which come as order events."""
CANCELED = "canceled"
EXECUTED = ("", "executed")
"""Statuses of an activity that stands as it was booked."""

_SPLITS = frozenset({"SPLIT", "SSP"})
_OPTIONS = frozenset({"OPEXP", "OPEXC", "OPXRC", "OPASN", "OPCSH", "OPCA", "OPTRD"})
_REMOVALS = frozenset({"MA", "REORG", "FIMAT"})
_FEES = frozenset({"CFEE", "FEE"})
_TRANSFERS = frozenset({"NC", "SC", "SPIN", "SSO", "JNLS", "JNL", "ACATS", "FOPT", "VOF", "PTR"})
_PAID = ("DIV", "CGD", "INT")
"""What is paid for a quantity that stays where it is."""
_AT_OPENING = _SPLITS | _REMOVALS | frozenset({"NC", "SC", "SPIN", "SSO", "VOF"})
"""Happen before the session of their date; what else has only a date happens after it."""

_NEW_YORK = ZoneInfo("America/New_York")
_ZERO = Decimal(0)
_PLACE = Decimal("1e-18")
_CONTEXT = Context(prec=150, rounding=ROUND_HALF_EVEN)
_SECOND = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Effect:
    """`quantity` is the signed change of the position in `symbol` (empty: of none), `price` USD each, `cash`
    the signed change of cash in USD. `ts` is its place among the fills in ns. Activities of one `group`
    (empty: it is alone) belong together. `known` is False where a quantity was told that means nothing known.
    """

    kind: Kind
    symbol: str
    quantity: Decimal
    price: Decimal
    cash: Decimal
    ts: int
    group: str = ""
    known: bool = True


def effect_of(activity: Mapping[str, Any]) -> Effect:
    """The effect of one decoded `account_activity` record, whatever its status."""
    of_type, symbol = activity["activity_type"], activity["symbol"] or ""
    quantity, cash = activity["quantity"] or _ZERO, activity["net_amount"] or _ZERO
    ts = moment(activity)
    kind = _kind(activity, of_type, quantity, cash) if symbol else "cash"
    if of_type in EXECUTIONS:
        return Effect("none", "", _ZERO, _ZERO, _ZERO, ts)
    if kind == "cash":
        known = not quantity or of_type.startswith(_PAID) or of_type in _FEES
        return Effect("cash", "", _ZERO, _ZERO, cash, ts, known=known)
    price = _price(activity, kind, quantity, cash)
    return Effect(kind, symbol, quantity, price, cash, ts, _group(activity, kind))


def moment(activity: Mapping[str, Any]) -> int:
    """Its place among the fills, ns: the time of its id; where that is a mere date, the day's begin or end.

    What is booked after the session (fees, expiries) is placed when it was booked, if that is told.
    """
    ts: int = activity["ts"]
    of_type, created = activity["activity_type"], activity["created_ts"]
    if not _is_midnight(ts) or of_type in _AT_OPENING or of_type.startswith("DIV"):
        return ts
    if created is not None and created > ts:
        return int(created)
    return _next_midnight(ts) - 1


def booked(activity: Mapping[str, Any]) -> int:
    """When Alpaca booked it, as far as is told, ns by its clock."""
    created: int | None = activity["created_ts"]
    ts: int = activity["ts"]
    return ts if created is None else max(ts, created)


def _kind(activity: Mapping[str, Any], of_type: str, quantity: Decimal, cash: Decimal) -> Kind:
    subtype = activity["subtype"] or ""
    if not quantity:
        return "proceeds" if of_type in _REMOVALS or of_type == "OPCSH" else "cash"
    if of_type in _SPLITS:
        return "transfer" if subtype == "USPLIT" else "rescale"
    if of_type.startswith("DIV"):
        return "cash" if cash or activity["per_share_amount"] is not None else "rescale"
    if of_type in _REMOVALS:
        in_shares = subtype in ("SMA", "SCMA") or (not subtype and not cash and activity["price"])
        return "transfer" if in_shares else "trade"
    if of_type in _OPTIONS or (of_type in _FEES and quantity < 0):
        return "trade"
    return "transfer" if of_type in _TRANSFERS else "cash"


def _price(activity: Mapping[str, Any], kind: Kind, quantity: Decimal, cash: Decimal) -> Decimal:
    told: Decimal = activity["price"] or _ZERO
    if kind == "transfer":
        return told
    if kind != "trade":
        return _ZERO
    if activity["net_amount"] is None and activity["activity_type"] == "OPTRD":
        return told
    if not cash or (cash > 0) == (quantity > 0):  # a fee that takes both has no price
        return _ZERO
    units = quantity * multiplier(asset_class(activity["symbol"]))
    return _CONTEXT.quantize(_CONTEXT.divide(-cash, units), _PLACE)


def _group(activity: Mapping[str, Any], kind: Kind) -> str:
    if activity["group_id"]:
        return str(activity["group_id"])
    if kind == "rescale" and activity["activity_type"] in _SPLITS:
        return f"{activity['activity_type']}:{activity['date'] or activity['ts']}"
    return ""


@lru_cache(4096)
def _offset(hour: int) -> int:
    """By how many seconds New York is behind UTC in this hour since 1970."""
    offset = datetime.fromtimestamp(hour * 3600, _NEW_YORK).utcoffset()
    assert offset is not None
    return -int(offset.total_seconds())


def day_of(ts: int) -> int:
    """The day in New York of a time in ns, counted from 1970."""
    seconds = ts // _SECOND
    return (seconds - _offset(seconds // 3600)) // 86_400


def _is_midnight(ts: int) -> bool:
    seconds, rest = divmod(ts, _SECOND)
    return not rest and not (seconds - _offset(seconds // 3600)) % 86_400


def _next_midnight(ts: int) -> int:
    day = datetime.fromtimestamp(ts // _SECOND, _NEW_YORK).date() + timedelta(days=1)
    return int(datetime.combine(day, time(), _NEW_YORK).timestamp()) * _SECOND
