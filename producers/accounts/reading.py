"""What one look at an account over REST finds: consistent, and down to a moment in the past."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from producers.accounts.recovered import flattened
from producers.accounts.rest import PAGE_ACTIVITIES, PAGE_ORDERS, RestError, TradingApi, rfc3339
from schemas import activity
from schemas import trading_values as values
from schemas.trading_values import Json
from tidewire.clock import NS_PER_MS, NS_PER_SECOND, Clock
from tidewire.errors import RecordError
from tidewire.metrics import ACCOUNT_SNAPSHOTS

MARGIN_NS = 60 * NS_PER_SECOND
"""Activities need not appear in the order of their ids: so far before a cursor is looked again."""
_ATTEMPTS = 20
_PAUSE_SECONDS = 0.25


@dataclass(frozen=True, slots=True)
class Reading:
    """`fills` are FILL activities, newest first, down to the bound asked for; `orders` are the open ones.

    `asked` is when it was begun, ns. The newest fill was the same before and after everything else was read.
    """

    asked: int
    account: Json
    positions: list[Json]
    orders: list[Json]
    fills: list[Json]

    @property
    def cursor(self) -> str | None:
        """Id of the newest fill; None: the account has none."""
        return _newest_id(self.fills)


async def read(api: TradingApi, clock: Clock, bound: int | None, *, opening: bool = False) -> Reading:
    """Read until no fill comes between; fills later than `bound` (ns; None: all) are all among `fills`.

    For an `opening` the bound is a minute before the cursor instead.

    Raises:
        RestError: a request failed, or fills came all the time.
        RecordError: an activity without a time.
    """
    for _ in range(_ATTEMPTS):
        asked = clock()
        fills = await _fills(api, bound, opening)
        account, positions, orders = await asyncio.gather(api.account(), api.positions(), open_orders(api))
        if _newest_id(await api.fills(size=1)) == _newest_id(fills):
            return Reading(asked, account, positions, orders, fills)
        ACCOUNT_SNAPSHOTS.labels("moved").inc()
        await asyncio.sleep(_PAUSE_SECONDS)
    raise RestError("/account/activities/FILL", 0, "fills came between account and positions all the time")


async def open_orders(api: TradingApi) -> list[Json]:
    """All open orders, nested. Raises RestError."""
    return await _orders(api, "open", None)


async def orders_after(api: TradingApi, after: int) -> list[Json]:
    """All orders submitted after a time (ns), nested. Raises RestError."""
    return await _orders(api, "all", after)


def since_when(fills: Sequence[Json]) -> int | None:
    """From when on a snapshot names the fills that it contains, ns; None: from the first.

    A minute before the time in its cursor, as every reader of the snapshot takes it.

    Raises:
        RecordError: the newest activity has no time.
    """
    if not fills:
        return None
    cursor, happened = values.identity(fills[0], "id"), fill_ts(fills[0])
    return min(happened, cursor_ts(cursor) or happened) - MARGIN_NS


def cursor_ts(cursor: str) -> int | None:
    """The time in an activity's id, ns; None: there is none."""
    try:
        return activity.moment(cursor)
    except ValueError:
        return None


def fill_ts(activity: Json) -> int:
    """When a FILL activity happened, ns. Raises RecordError."""
    found = values.time(activity, "transaction_time")
    if found is None:
        raise RecordError("activity without transaction_time")
    return found


async def _fills(api: TradingApi, bound: int | None, opening: bool) -> list[Json]:
    page = found = await api.fills()
    if opening:
        bound = since_when(found)
    while len(page) >= PAGE_ACTIVITIES and (bound is None or fill_ts(page[-1]) > bound):
        page = await api.fills(values.identity(page[-1], "id"))
        found = found + page
    return found if bound is None else [a for i, a in enumerate(found) if i == 0 or fill_ts(a) > bound]


async def _orders(api: TradingApi, status: str, after: int | None) -> list[Json]:
    found: dict[str, Json] = {}
    while True:
        since = {} if after is None else {"after": rfc3339(after)}
        page = await api.orders(status=status, **since)
        new = [order for order in page if _id(order) not in found]
        found |= {_id(order): order for order in new}
        if len(page) < PAGE_ORDERS or not new:
            return list(found.values())
        # `after` is exclusive, and several orders may share the last time: go on a little before it.
        last = max((values.time(order, "submitted_at") or 0 for order in page), default=0)
        after = max(last - NS_PER_MS, (after or 0) + 1)


def by_id(orders: Sequence[Json]) -> dict[str, Json]:
    """Orders and their legs by id. Raises RecordError."""
    return {_id(order): order for order in flattened(list(orders))}


def _id(order: Json) -> str:
    return values.identity(order, "id", "order.")


def _newest_id(fills: Sequence[Json]) -> str | None:
    return values.identity(fills[0], "id") if fills else None
