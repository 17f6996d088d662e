"""Orders that depend on each other: bracket, one-cancels-other, one-triggers-other.

The entry's legs are held until it is filled completely. Then the take-profit works, and the stop-loss watches
the market while still held, so that the position's quantity is held once; when its price is reached the
take-profit is canceled and it trades. A stop-loss without a take-profit works like any other.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

from simulator.broker.entry import Entry
from simulator.broker.floor import Floor
from simulator.broker.orders import Order, Role, advance

_ENTRIES = ("bracket", "oto")


def legs(entry: Entry, parent: Order, new_id: Callable[[], str]) -> list[Order]:
    """The held legs of a complex order; none for a simple one."""
    made = []
    if entry.order_class in _ENTRIES and entry.take_profit is not None:
        made.append(_leg(parent, new_id(), new_id(), "take_profit", "limit", entry.take_profit, None))
    if entry.order_class in (*_ENTRIES, "oco") and entry.stop_loss is not None:
        kind = "stop" if entry.stop_loss_limit is None else "stop_limit"
        limit = entry.stop_loss_limit
        made.append(_leg(parent, new_id(), new_id(), "stop_loss", kind, limit, entry.stop_loss))
    return made


def _leg(
    parent: Order, id: str, client_id: str, role: Role, kind: str, limit: Decimal | None, stop: Decimal | None
) -> Order:
    side = parent.side
    if parent.order_class in _ENTRIES:
        side = "sell" if parent.side == "buy" else "buy"
    return Order(
        id, parent.account, client_id, parent.symbol, parent.asset_class, side, kind, parent.tif,
        order_class=parent.order_class, qty=parent.qty, limit_price=limit, stop_price=stop,
        intent=f"{side}_to_close", status="held", created=parent.created, updated=parent.updated,
        submitted=parent.submitted, expires=parent.expires, parent=parent.id, role=role,
    )  # fmt: skip


def after_fill(exchange: Floor, order: Order, *, complete: bool) -> None:
    """An order of a group has filled, wholly or in part."""
    if order.order_class in _ENTRIES and not order.role:
        if complete:
            watch(exchange, order)
        return
    other = sibling(exchange, order)
    if other is None or not other.open:
        return
    if complete:
        exchange.finish(other, "canceled")
    else:
        other.qty = other.filled_qty + order.remaining
        exchange.settle(other)
        exchange.announce.say(other, "restated", exchange.stamp())


def watch(exchange: Floor, parent: Order) -> None:
    """The legs of an entry that is filled, or the stop of a one-cancels-other, come to life."""
    found = [leg for leg in map(exchange.find, parent.legs) if leg is not None and leg.open]
    alone = len(found) == 1 and parent.order_class != "oco"
    for leg in found:
        if not leg.open:  # the take-profit has traded at once and canceled the stop
            continue
        exchange.wait(leg)
        if leg.role == "take_profit" or alone:
            exchange.activate(leg, exchange.view.now())
        else:
            leg.live = True
            exchange.announce.changed(leg)


def stop_triggered(exchange: Floor, stop: Order) -> None:
    """A watching stop-loss is reached: its take-profit goes."""
    stop.live = False
    other, stop_parent = sibling(exchange, stop), stop.parent
    if other is not None and other.open:
        stop.parent = None  # the take-profit's end must not take the stop with it
        exchange.finish(other, "canceled")
        stop.parent = stop_parent


def after_end(exchange: Floor, order: Order) -> None:
    """An order of a group has ended unfilled: what waits for it, or beside it, ends too."""
    if order.status == "replaced" or order.order_class in ("", "simple"):
        return
    for leg in map(exchange.find, order.legs):
        if leg is not None and leg.open and leg.parent == order.id:
            if leg.order_class == "mleg":
                advance(leg, order.status, order.updated)
                exchange.settle(leg)
                exchange.announce.changed(leg)
            else:
                exchange.finish(leg, "canceled")
    other = sibling(exchange, order) if order.role else None
    if other is not None and other.open and other.parent is not None:
        exchange.finish(other, "canceled")


def sibling(exchange: Floor, order: Order) -> Order | None:
    """The other half of a take-profit and a stop-loss."""
    if order.order_class == "oco":
        other = order.parent if order.role else next(iter(order.legs), None)
        return exchange.find(other) if other is not None else None
    parent = exchange.find(order.parent) if order.parent is not None else None
    if parent is None or not order.role:
        return None
    return next((o for o in map(exchange.find, parent.legs) if o is not None and o.id != order.id), None)
