"""What REST tells of orders and fills -> the records that the stream would have sent. Pure.

The ids are the stream's: a fill is named by its order and cumulative quantity, the end of an order by order,
event and time.
"""

from __future__ import annotations

from producers.accounts import updates
from producers.accounts.updates import Content
from schemas import trading_values as values
from schemas.event_id import plain_quantity
from schemas.trading_values import Json
from tidewire.errors import RecordError

ENDINGS = {
    "canceled": "canceled_at",
    "expired": "expired_at",
    "rejected": "failed_at",
    "replaced": "replaced_at",
}
"""Events after which an order does nothing more, besides its last fill; and where REST has their time."""

BEGINNING = "new"
"""The event that stands for an open order of which the stream told nothing."""


def fill(account: str, activity: Json, order: Json) -> Content:
    """The fill of a FILL activity, with what the activity lacks from its order. Raises RecordError."""
    cumulative = values.needed(activity, "cum_qty")
    event = "partial_fill" if values.needed(activity, "leaves_qty") else "fill"
    ts = values.time(activity, "transaction_time")
    if ts is None:
        raise RecordError("transaction_time is missing")
    found = updates.of_order(account, event, order, ts)
    if found["cumulative_quantity"] != cumulative:  # the order has been filled further since
        found |= {"average_price": None, "filled_ts": None, "cumulative_quantity": cumulative}
    found |= {
        "side": found["side"] or values.side(activity),
        "status": "filled" if event == "fill" else "partially_filled",
        "quantity": values.needed(activity, "qty"),
        "price": values.needed(activity, "price"),
    }
    return updates.identified(found)


def fill_name(activity: Json) -> tuple[str, str]:
    """Order id and plain cumulative quantity: they name a FILL activity's fill. Raises RecordError."""
    return values.identity(activity, "order_id"), plain_quantity(values.needed(activity, "cum_qty"))


def ending(account: str, order: Json) -> Content | None:
    """How an order ended; None: it has not, or by its last fill. Raises RecordError."""
    event = values.text(order, "status") or ""
    if event not in ENDINGS:
        return None
    return _stated(account, event, order, (ENDINGS[event], "updated_at"))


def beginning(account: str, order: Json) -> Content | None:
    """An open order that the stream never told of; None: it is not open. Raises RecordError."""
    if (values.text(order, "status") or "") in (*ENDINGS, "filled"):
        return None
    return _stated(account, BEGINNING, order, ("submitted_at", "created_at"))


def flattened(orders: list[Json]) -> list[Json]:
    """Nested orders and their legs in one row; the legs of a multi-leg order are no orders of their own.

    Raises:
        RecordError: legs are no objects.
    """
    found: list[Json] = []
    for order in orders:
        found.append(order)
        if order.get("order_class") != updates.MULTI_LEG:
            found += flattened(values.objects(order, "legs"))
    return found


def _stated(account: str, event: str, order: Json, times: tuple[str, ...]) -> Content:
    ts = next((ts for name in times if (ts := values.time(order, name)) is not None), None)
    if ts is None:
        raise RecordError(f"order is {event}, and {' and '.join(times)} are missing")
    return updates.identified(updates.of_order(account, event, order, ts))
