"""What order an intent becomes: type, time in force and price by asset class and session. Pure."""

from __future__ import annotations

from decimal import ROUND_DOWN, ROUND_UP, Decimal

from schemas.fills import asset_class
from sinks.executor.broker_types import BrokerClock, NewOrder, Side
from sinks.executor.facts import Facts
from sinks.executor.intents import Intent
from sinks.executor.risk import Breach
from sinks.executor.sizing import Size
from tidewire.risk_limits import RiskLimits

_HUNDRED = Decimal(100)


def needs_quote(intent: Intent, clock: BrokerClock, kind: str) -> bool:
    """Whether an exit's order needs a price of its own."""
    limited = intent.order_type == "limit" and intent.limit_price is None
    return limited or (kind != "crypto" and not clock.is_open)


def shape(
    intent: Intent, size: Size | None, facts: Facts, client_order_id: str, limits: RiskLimits
) -> NewOrder | Breach:
    """The order of an exit's size (None: the intent says everything), or why there can be none."""
    kind = asset_class(intent.symbol)
    closed = kind != "crypto" and not facts.clock.is_open
    if closed and not (intent.extended_hours and kind == "us_equity"):
        return Breach("trading_hours", f"the market is closed, and {intent.symbol} may not trade outside it")
    if size is None:
        return _own(intent, client_order_id, closed)
    if intent.order_type != "limit" and not closed:
        return _exit(intent, size, client_order_id, kind)
    price = intent.limit_price or _through(size.side, facts, limits)
    if price is None:
        return Breach("price", "a limit order is needed, and nobody quotes the other side")
    return _exit(intent, size, client_order_id, kind, price, closed)


def _own(intent: Intent, client_order_id: str, extended: bool) -> NewOrder | Breach:
    if extended and intent.order_type != "limit":
        return Breach("trading_hours", "outside the regular session only limit orders trade")
    return NewOrder(
        client_order_id=client_order_id, symbol=intent.symbol, side="buy" if intent.side == "buy" else "sell",
        type=intent.order_type, time_in_force=intent.time_in_force,  # type: ignore[arg-type]
        quantity=intent.quantity, notional=intent.notional, limit_price=intent.limit_price,
        stop_price=intent.stop_price, extended_hours=extended,
    )  # fmt: skip


def _exit(
    intent: Intent,
    size: Size,
    client_order_id: str,
    kind: str,
    price: Decimal | None = None,
    extended: bool = False,
) -> NewOrder:
    purpose = "sell_to_close" if size.side == "sell" else "buy_to_close"
    return NewOrder(
        client_order_id=client_order_id, symbol=intent.symbol, side=size.side,
        type="market" if price is None else "limit", time_in_force="gtc" if kind == "crypto" else "day",
        quantity=size.quantity, limit_price=price, extended_hours=extended,
        position_intent=None if kind == "crypto" else purpose,
    )  # fmt: skip


def _through(side: Side, facts: Facts, limits: RiskLimits) -> Decimal | None:
    """A price through the other side's quote, so that the order trades at once and yet not at any price."""
    quote = facts.quote
    near = None if quote is None else (quote.bid if side == "sell" else quote.ask)
    if not near:
        return None
    offset = near * limits.limit_offset_percent / _HUNDRED
    rough = near - offset if side == "sell" else near + offset
    step = Decimal("0.01") if near >= 1 else Decimal("0.0001")
    return rough.quantize(step, ROUND_DOWN if side == "sell" else ROUND_UP)
