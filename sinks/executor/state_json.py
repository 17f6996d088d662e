"""A state of the machine to the ledger's JSON and back, exactly. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields
from decimal import Decimal
from typing import Any

from sinks.executor.broker_types import NewOrder
from sinks.executor.moves import State

_AMOUNTS = frozenset(
    {"base", "before", "worth_before", "filled", "average", "remaining"}
    | {"quantity", "notional", "limit_price", "stop_price"}
)


def dump(state: State) -> dict[str, Any]:
    """The state as JSON can hold it; amounts become text."""
    plain = asdict(state)
    return {name: _lower(value) for name, value in plain.items()}


def load(kept: Mapping[str, Any]) -> State:
    """The state that was kept; a field that an older version did not know has its default.

    Raises:
        TypeError, KeyError, ArithmeticError: it is none.
    """
    known = {field.name for field in fields(State)}
    given = {name: _raise(name, value) for name, value in kept.items() if name in known}
    if given.get("order") is not None:
        order = {name: _raise(name, value) for name, value in kept["order"].items()}
        given["order"] = NewOrder(**order)
    if given.get("ending") is not None:
        outcome, reason = kept["ending"]
        given["ending"] = (outcome, reason)
    given["told"] = tuple(given.get("told", ()))
    return State(**given)


def _lower(value: Any) -> Any:
    if isinstance(value, Decimal):
        return f"{value:f}"
    if isinstance(value, tuple):
        return [_lower(part) for part in value]
    if isinstance(value, dict):
        return {name: _lower(part) for name, part in value.items()}
    return value


def _raise(name: str, value: Any) -> Any:
    return Decimal(value) if name in _AMOUNTS and value is not None else value
