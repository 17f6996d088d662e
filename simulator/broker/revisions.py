"""What a broker seldom sends, on demand: busts, corrections, and the rarer events of an order. Pure."""

from __future__ import annotations

from decimal import Decimal

from simulator.broker.amounts import ZERO, text
from simulator.broker.book import Execution
from simulator.broker.engine import Broker
from simulator.broker.orders import Order, advance
from simulator.broker.rejections import invalid, not_found
from simulator.broker.updates import activity_id

KEEPING = ("restated", "order_cancel_rejected", "order_replace_rejected")
"""Events that leave the order's state alone."""
STATES = (
    "held", "stopped", "suspended", "calculated", "done_for_day", "pending_cancel", "pending_replace",
    "accepted", "new",
)  # fmt: skip
ENDS = ("rejected", "canceled", "expired")


def emit(broker: Broker, order_id: str, event: str, reason: str | None) -> Order:
    """Make an event of an order happen: with its state, and with the order's end where it is one.

    Raises:
        Rejection: no such order (404), no such event, or the order is not open (422).
    """
    order = _order(broker, order_id)
    order.reason = reason if event == "rejected" else order.reason
    if event in KEEPING:
        broker.announce.say(order, event, broker.exchange.stamp())
        return order
    if event not in (*STATES, *ENDS):
        raise invalid(f"not an event that can be sent: {event[:40]}")
    if not order.open:
        raise invalid(f'order is already in "{order.status}" state')
    if event in ENDS:
        broker.exchange.finish(order, event)
        return order
    ts = broker.exchange.stamp()
    advance(order, event, ts)
    broker.exchange.settle(order)
    broker.announce.say(order, event, ts)
    return order


def bust(broker: Broker, name: str) -> Order:
    """An execution (its id, or the id of an order whose last one it is) never happened.

    The order keeps its filled quantity, since that names its fills; the position, the cash and the
    activities change.

    Raises:
        Rejection: there is none (404), or it is busted already (422).
    """
    n, execution = _execution(broker, name)
    broker.accounts[n].book.bust(execution)
    return _say(broker, n, execution, "trade_bust", execution.id)


def correct(broker: Broker, execution_id: str, qty: Decimal, price: Decimal) -> Order:
    """An execution happened with another quantity and price.

    Raises:
        Rejection: there is none (404), it is busted (422), or the numbers are not positive (422).
    """
    if qty <= ZERO or price <= ZERO:
        raise invalid("qty and price must be > 0")
    n, execution = _execution(broker, execution_id)
    broker.accounts[n].book.correct(execution, qty, price)
    return _say(broker, n, execution, "trade_correct", execution.id)


def _say(broker: Broker, n: int, execution: Execution, event: str, previous: str) -> Order:
    order = _order(broker, execution.order_id)
    ts = broker.exchange.stamp()
    broker.accounts[n].revised(execution, ts, activity_id(ts, broker.new_id()))
    broker.announce.executed(n, execution)
    broker.announce.say(
        order,
        event,
        ts,
        execution_id=broker.new_id(),
        previous_execution_id=previous,
        price=text(execution.price),
        qty=text(execution.qty),
        position_qty=text(broker.accounts[n].book.quantity(execution.symbol)),
    )
    return order


def _order(broker: Broker, order_id: str) -> Order:
    order = broker.find(order_id)
    if order is None:
        raise not_found(f"order not found for {order_id[:80]}")
    return order


def _execution(broker: Broker, name: str) -> tuple[int, Execution]:
    for n, account in broker.accounts.items():
        found = account.book.executions.get(name)
        if found is None and name in account.orders:
            own = [e for e in account.book.executions.values() if e.order_id == name]
            found = next((e for e in reversed(own) if e.state != "canceled"), None)
        if found is not None:
            if found.state == "canceled":
                raise invalid("execution is already busted")
            return n, found
    raise not_found(f"execution not found for {name[:80]}")
