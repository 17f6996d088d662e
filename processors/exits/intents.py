"""A trigger -> the order intent that follows from it: the same however often it is made. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from schemas.event_id import intent_event_id
from schemas.exit_rules import Parameters, read_parameters
from schemas.order_ids import client_order_id

_PLACES = Decimal("0.000000001")
_HUNDRED = Decimal(100)


def intent_of(trigger: Mapping[str, Any]) -> dict[str, Any]:
    """What the executor is to do. Quantity is left out: the broker says what is held, and on which side.

    `side` and the prices are those that the rule saw, so that a person can read the intent; a limit price is
    as far beyond the reference price as the rule allows, and left to the executor where the rule watched
    another symbol than the position's.
    """
    watch = json.loads(trigger["watch"])
    parameters = read_parameters(watch["parameters"])
    long = Decimal(watch["quantity"]) > 0
    price = _reference(trigger)
    return {
        "account": trigger["account"],
        "ts": trigger["ts"],
        "intent_id": trigger["trigger_id"],
        "client_order_id": client_order_id(trigger["trigger_id"], 0),
        "origin": f"exit:{trigger['rule']}",
        "symbol": trigger["symbol"],
        "side": "sell" if long else "buy",
        "order_type": parameters.order.type,
        "time_in_force": "gtc" if watch["asset_class"] == "crypto" else "day",
        "quantity": None,
        "notional": None,
        "limit_price": _limit(price, parameters, long),
        "stop_price": None,
        "position_epoch": trigger["position_epoch"],
        "attempt": 0,
        "expires_ts": None,
        "reason": f"{trigger['kind']} of rule {trigger['rule']} fired at {trigger['threshold']}",
        "trigger_id": trigger["trigger_id"],
        "kind": "exit",
        "extended_hours": parameters.extended_hours,
        "foreign_orders": parameters.foreign_orders,
        "reference_price": price,
        "run_id": None,
        "received_ts": trigger["received_ts"],
        "source": trigger["source"],
        "event_id": intent_event_id(trigger["account"], trigger["trigger_id"]),
    }


def _reference(trigger: Mapping[str, Any]) -> Decimal | None:
    """The position's own price that fired the rule, exactly as the record had it."""
    if trigger["reference_symbol"] != trigger["symbol"] or not trigger["inputs"]:
        return None
    price = Decimal(repr(float(trigger["inputs"][-1]["value"])))
    return price if price > 0 else None


def _limit(price: Decimal | None, parameters: Parameters, long: bool) -> Decimal | None:
    offset = parameters.order.limit_offset_percent
    if price is None or offset is None:
        return None
    share = offset / _HUNDRED
    return (price * (1 - share if long else 1 + share)).quantize(_PLACES)
