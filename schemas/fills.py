"""What a trade update fills: one value a fill, whether the order had one leg or several. Pure.

Whoever counts fills (positions, tables, reports) takes them from here, so that all mean the same.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal

from schemas.event_id import fill_id, order_event_id, plain_quantity

FILL_EVENTS = ("fill", "partial_fill")
REVISION_EVENTS = ("trade_bust", "trade_correct")
"""Events that undo or replace an earlier execution, named by `previous_execution_id`."""

OPTION_MULTIPLIER = Decimal(100)
"""Shares of a standard option contract; adjusted contracts differ and are not known here."""

_OCC = re.compile(r"[A-Z0-9.]{1,6}\d{6}[CP]\d{8}")
_OCC_TAIL = 15


@dataclass(frozen=True, slots=True)
class Fill:
    """One execution. `quantity` is positive; `price` is USD a share, a unit or a contract's share.

    `kind`: fill; bust: `previous_execution_id` never happened; correct: it happened with this quantity and
    price. `position_quantity` is what the broker says it left, negative for a short position.
    """

    account: str
    order_id: str
    symbol: str
    asset_class: str
    side: Literal["buy", "sell"]
    quantity: Decimal
    price: Decimal
    cumulative_quantity: Decimal
    ts: int
    execution_id: str | None
    position_quantity: Decimal | None
    event_id: bytes
    kind: Literal["fill", "bust", "correct"] = "fill"
    previous_execution_id: str | None = None

    @property
    def signed(self) -> Decimal:
        """Quantity as the position changes: negative when sold."""
        return self.quantity if self.side == "buy" else -self.quantity


def fills(update: Mapping[str, Any]) -> tuple[Fill, ...]:
    """The fills of one decoded `trade_update` record: none for events that fill nothing.

    Raises:
        ValueError: it says that it filled something, but not what.
    """
    event = update["event"]
    if event not in FILL_EVENTS and event not in REVISION_EVENTS:
        return ()
    kind: Any = {"trade_bust": "bust", "trade_correct": "correct"}.get(event, "fill")
    if update["legs"]:
        return tuple(_leg(update, leg, kind) for leg in update["legs"])
    quantity, price = update["quantity"], update["price"]
    if quantity is None or price is None:
        raise ValueError(f"{event} of order {update['order_id']} without quantity or price")
    return (
        Fill(
            update["account"],
            update["order_id"],
            update["symbol"],
            asset_class(update["symbol"], update["asset_class"]),
            _side(update["side"], update["order_id"]),
            quantity,
            price,
            update["cumulative_quantity"],
            update["ts"],
            update["execution_id"],
            update["position_quantity"],
            update["event_id"],
            kind,
            update["previous_execution_id"],
        ),
    )


def asset_class(symbol: str, named: str = "") -> str:
    """us_equity, us_option or crypto: as named, else by the symbol's form."""
    if named:
        return named
    if _OCC.fullmatch(symbol):
        return "us_option"
    return "crypto" if "/" in symbol else "us_equity"


def underlying(symbol: str) -> str:
    """The stock of an option's OCC symbol; anything else is its own."""
    return symbol[:-_OCC_TAIL] if _OCC.fullmatch(symbol) else symbol


def multiplier(of_class: str) -> Decimal:
    """How many units one of quantity stands for: 100 for options, else 1."""
    return OPTION_MULTIPLIER if of_class == "us_option" else Decimal(1)


def _leg(update: Mapping[str, Any], leg: Mapping[str, Any], kind: Any) -> Fill:
    cumulative = leg["cumulative_quantity"] if leg["cumulative_quantity"] is not None else leg["quantity"]
    filled = fill_id(leg["order_id"], plain_quantity(cumulative))
    return Fill(
        update["account"],
        leg["order_id"],
        leg["symbol"],
        asset_class(leg["symbol"]),
        _side(leg["side"], leg["order_id"]),
        leg["quantity"],
        leg["price"],
        cumulative,
        leg["ts"],
        leg["execution_id"],
        leg["position_quantity"],
        filled if kind == "fill" else order_event_id(leg["order_id"], update["event"], leg["ts"]),
        kind,
        update["previous_execution_id"],
    )


def _side(side: str, order_id: str) -> Literal["buy", "sell"]:
    if side not in ("buy", "sell"):
        raise ValueError(f"order {order_id} neither buys nor sells: side is {side!r}")
    return "buy" if side == "buy" else "sell"
