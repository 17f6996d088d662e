"""Why the broker refuses a request: Alpaca's HTTP statuses, codes and messages. Pure."""

from __future__ import annotations

from decimal import Decimal

from simulator.broker.amounts import text


class Rejection(Exception):
    """A refused request. `body` is the JSON of the answer, `status` its HTTP status."""

    def __init__(self, status: int, code: int, message: str, **fields: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.body: dict[str, object] = {"code": code, "message": message, **fields}


def malformed(message: str) -> Rejection:
    """The request cannot be read, or contradicts itself."""
    return Rejection(400, 40010001, message)


def invalid(message: str) -> Rejection:
    """A parameter that this order may not have."""
    return Rejection(422, 42210000, message)


def forbidden(message: str, **fields: str) -> Rejection:
    """The account may not do this now."""
    return Rejection(403, 40310000, message, **fields)


def not_found(message: str) -> Rejection:
    """There is no such thing."""
    return Rejection(404, 40410000, message)


def reused() -> Rejection:
    """The account has an order under this client_order_id."""
    return Rejection(422, 40010001, "client_order_id must be unique")


def suspended() -> Rejection:
    """suspend_trade is set in the account's configuration."""
    return forbidden("trading is suspended by user (suspend_trade)")


def wash_trade(existing: str, reason: str) -> Rejection:
    """An order on the other side could trade with the new one."""
    message = "potential wash trade detected. use complex orders"
    return forbidden(message, existing_order_id=existing, reject_reason=reason)


def insufficient_quantity(
    symbol: str, requested: Decimal, existing: Decimal, held: Decimal, *, balance: bool = False
) -> Rejection:
    """More is to be closed than is there and not held by other orders. `balance`: of a coin."""
    available = max(Decimal(0), existing - held)
    asked = f"(requested: {text(requested)}, available: {text(available)})"
    coin = symbol.partition("/")[0]
    message = (
        f"insufficient balance for {coin} {asked}"
        if balance
        else f"insufficient qty available for order {asked}"
    )
    return forbidden(
        message,
        symbol=symbol,
        available=text(available),
        existing_qty=text(existing),
        held_for_orders=text(held),
    )


def insufficient_buying_power(available: Decimal, cost: Decimal) -> Rejection:
    """The order costs more than the account may buy."""
    return forbidden("insufficient buying power", buying_power=text(available), cost_basis=text(cost))
