"""GET /v2/orders: which orders a query means, by the times at which they were submitted. Pure."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from simulator.broker.account import Account
from simulator.broker.order_json import Find, order_json
from simulator.broker.orders import Order
from simulator.broker.rejections import invalid, malformed
from simulator.rfc3339 import LATEST, parse_bound

DEFAULT_LIMIT, MOST = 50, 500
_STATUSES = ("open", "closed", "all")


@dataclass(frozen=True, slots=True)
class Query:
    """Bounds are exclusive, ns since 1970 UTC."""

    status: str = "open"
    limit: int = DEFAULT_LIMIT
    after: int = -1
    until: int = LATEST
    newest_first: bool = True
    nested: bool = False
    symbols: frozenset[str] = frozenset()
    side: str = ""
    asset_classes: frozenset[str] = frozenset()


def read_query(query: Mapping[str, str]) -> Query:
    """A request's query.

    Raises:
        Rejection: a parameter is not what it must be (422).
    """
    status, direction, side = (
        query.get("status", "open"),
        query.get("direction", "desc"),
        query.get("side", ""),
    )
    if status not in _STATUSES:
        raise invalid("invalid status")
    if direction not in ("asc", "desc"):
        raise invalid("invalid direction")
    if side not in ("", "buy", "sell"):
        raise invalid("invalid side")
    return Query(
        status,
        bounded(query.get("limit"), DEFAULT_LIMIT, MOST),
        bound(query, "after", -1),
        bound(query, "until", LATEST),
        direction == "desc",
        query.get("nested", "").lower() == "true",
        frozenset(s.upper().replace("/", "") for s in query.get("symbols", "").split(",") if s),
        side,
        frozenset(c for c in query.get("asset_class", "").split(",") if c),
    )


def bounded(given: str | None, default: int, most: int) -> int:
    """A count between 1 and `most`.

    Raises:
        Rejection: it is none (422).
    """
    if given is None:
        return default
    if not given.isascii() or not given.isdigit() or not 1 <= int(given) <= most:
        raise invalid(f"limit must be between 1 and {most}")
    return int(given)


def bound(query: Mapping[str, str], name: str, default: int) -> int:
    """A time of a query, in ns.

    Raises:
        Rejection: it is no time (400).
    """
    given = query.get(name)
    if not given:
        return default
    try:
        return parse_bound(given.replace(" ", "+"))
    except ValueError:
        raise malformed(f"failed to parse {name}") from None


def orders(account: Account, query: Query, find: Find) -> list[dict[str, Any]]:
    """The orders that a query means, as JSON."""
    found: list[dict[str, Any]] = []
    for order in _in_order(account, query):
        if not _means(query, order):
            continue
        whole = query.nested or order.order_class == "mleg"
        found.append(order_json(order, find if whole else None))
        if len(found) == query.limit:
            break
    return found


def _in_order(account: Account, query: Query) -> Iterator[Order]:
    if query.status == "open":
        working = [o for orders in account.holds.working.values() for o in orders.values()]
        keys = sorted((o.submitted, o.id) for o in working)
    else:
        keys = account.submitted
    begin = bisect_right(keys, query.after, key=lambda k: k[0])
    end = bisect_left(keys, query.until, key=lambda k: k[0])
    places = range(end - 1, begin - 1, -1) if query.newest_first else range(begin, end)
    for place in places:
        order = account.orders.get(keys[place][1])
        if order is not None:
            yield order


def _means(query: Query, order: Order) -> bool:
    if query.status != "all" and order.open != (query.status == "open"):
        return False
    if order.role == "leg" or (query.nested and order.role):
        return False
    if query.symbols and order.symbol.replace("/", "") not in query.symbols:
        return False
    if query.asset_classes and order.asset_class not in query.asset_classes:
        return False
    return not query.side or order.side == query.side
