"""What order an intent becomes: by the order table, the session, and where needed a price. Pure."""

from __future__ import annotations

from decimal import Decimal

from schemas.exit_rules import PERMANENT
from schemas.fills import asset_class
from sinks.executor.broker_types import BrokerClock, NewOrder
from sinks.executor.facts import Facts
from sinks.executor.intents import Intent
from sinks.executor.order_table import No, Shape, exit_shape, forbids, in_steps, limit_through, session_of
from sinks.executor.risk import DUST, Breach
from sinks.executor.sizing import Size, held
from tidewire.risk_limits import RiskLimits

_MARGINED = "crypto"
"""Positions of this class are always long, and orders for them say no purpose."""


def needs_quote(intent: Intent, clock: BrokerClock, kind: str) -> bool:
    """Whether an exit's order needs a price of its own."""
    limited = intent.order_type == "limit" and intent.limit_price is None
    return limited or (kind != "crypto" and not clock.is_open)


def shape(
    intent: Intent, size: Size | None, facts: Facts, client_order_id: str, limits: RiskLimits
) -> NewOrder | Breach:
    """The order of an exit's size (None: the intent says everything), or why there can be none."""
    if size is None:
        return _own(intent, facts, client_order_id)
    kind = asset_class(intent.symbol)
    quantity = _tradable(size.quantity, kind, facts)
    if quantity <= 0:
        # Little of much is left by others' orders; only where little is held is it all that can be done.
        dust = _tradable(held(facts.position), kind, facts) <= 0
        return Breach(DUST if dust else "size", f"{size.quantity:f} are less than the broker trades")
    found = exit_shape(
        kind, session_of(facts.clock), quantity, facts.asset,
        extended_hours=intent.extended_hours, limit=intent.order_type == "limit",
    )  # fmt: skip
    if isinstance(found, No):
        return _refusal(found)
    price = None
    if found.priced:
        if intent.limit_price is not None:
            price = in_steps(size.side, intent.limit_price, kind, facts.asset)
        else:
            price = limit_through(size.side, facts.quote, limits.limit_offset_percent, kind, facts.asset)
        if price is None:
            return Breach("price", "a limit order is needed, and nobody quotes the other side")
    return _exit(intent, Size(size.side, quantity), client_order_id, kind, found, price)


def _exit(
    intent: Intent, size: Size, client_order_id: str, kind: str, found: Shape, price: Decimal | None
) -> NewOrder:
    purpose = "sell_to_close" if size.side == "sell" else "buy_to_close"
    return NewOrder(
        client_order_id=client_order_id,
        symbol=intent.symbol,
        side=size.side,
        type=found.type,
        time_in_force=found.time_in_force,
        quantity=size.quantity,
        limit_price=price,
        extended_hours=found.extended_hours,
        position_intent=None if kind == _MARGINED else purpose,
    )


def _own(intent: Intent, facts: Facts, client_order_id: str) -> NewOrder | Breach:
    order = NewOrder(
        client_order_id=client_order_id,
        symbol=intent.symbol,
        side="buy" if intent.side == "buy" else "sell",
        type=intent.order_type,  # type: ignore[arg-type]  # checked where the intent was read
        time_in_force=intent.time_in_force,  # type: ignore[arg-type]
        quantity=intent.quantity,
        notional=intent.notional,
        limit_price=intent.limit_price,
        stop_price=intent.stop_price,
        extended_hours=intent.extended_hours,
    )
    no = forbids(order, asset_class(intent.symbol), session_of(facts.clock), facts.asset)
    return order if no is None else _refusal(no)


def _refusal(no: No) -> Breach:
    return Breach("trading_hours", no.reason) if no.later else Breach("order_type", PERMANENT + no.reason)


def _tradable(quantity: Decimal, kind: str, facts: Facts) -> Decimal:
    """A coin's dust below the broker's step stays: it could be sold by nobody."""
    asset = facts.asset
    if kind != "crypto" or asset is None:
        return quantity
    step, least = asset.min_trade_increment, asset.min_order_size
    if step is not None and step > 0:
        quantity -= quantity % step
    return quantity if least is None or quantity >= least else Decimal(0)
