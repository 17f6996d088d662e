"""Which decoded records must not be folded, and why. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from processors.portfolio.exact import LARGEST
from processors.portfolio.opening import reach_of
from schemas.activities import effect_of
from schemas.fills import Fill, fills
from tidewire.accounts import NAME


def of_update(update: Mapping[str, Any]) -> str | None:
    """Why a trade update cannot be folded; None: it can."""
    if not NAME.fullmatch(update["account"]):
        return f"{update['account']!r} is no name of an account"
    if _too_large(*(v for v in update.values() if isinstance(v, Decimal))):
        return f"a number beyond {LARGEST:.0e}"
    try:
        found = fills(update)
    except ValueError as error:
        return str(error)
    return next(filter(None, map(_of_fill, found)), None)


def of_snapshot(snapshot: Mapping[str, Any]) -> str | None:
    """Why a snapshot cannot be folded; None: it can."""
    if not NAME.fullmatch(snapshot["account"]):
        return f"{snapshot['account']!r} is no name of an account"
    for part in (snapshot, *snapshot["positions"], *snapshot["orders"]):
        if _too_large(*(v for v in part.values() if isinstance(v, Decimal))):
            return f"a number beyond {LARGEST:.0e}"
    symbols = [position["symbol"] for position in snapshot["positions"]]
    if len(set(symbols)) < len(symbols):
        return "two positions of one symbol"
    try:
        reach_of(snapshot)
    except ValueError as error:
        return str(error)
    return None


def of_activity(activity: Mapping[str, Any]) -> str | None:
    """Why an account activity cannot be folded; None: it can."""
    if not NAME.fullmatch(activity["account"]):
        return f"{activity['account']!r} is no name of an account"
    if not activity["activity_id"]:
        return "an activity without an id"
    if _too_large(*(v for v in activity.values() if isinstance(v, Decimal))):
        return f"a number beyond {LARGEST:.0e}"
    effect = effect_of(activity)
    if _too_large(effect.quantity * effect.price):
        return f"{activity['activity_type']} of {effect.quantity} at {effect.price}: beyond what is folded"
    return None


def of_mark(mark: Mapping[str, Any]) -> str | None:
    """Why a mark cannot be folded; None: it can."""
    price = mark["price"]
    return None if 0 <= price < LARGEST else f"price {price} is not a price in USD"


def _of_fill(fill: Fill) -> str | None:
    if not 0 < fill.quantity < LARGEST or not 0 <= fill.price < LARGEST:
        return f"{fill.kind} of {fill.quantity} at {fill.price}"
    if _too_large(fill.quantity * fill.price, fill.position_quantity, fill.cumulative_quantity):
        return f"{fill.kind} of {fill.quantity} at {fill.price}: beyond what is folded"
    return None


def _too_large(*values: Decimal | None) -> bool:
    return any(value is not None and abs(value) >= LARGEST for value in values)
