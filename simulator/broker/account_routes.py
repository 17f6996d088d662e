"""REST of the account: itself, positions, activities, configuration, history. Thin: the broker decides."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Mapping
from typing import Any

from aiohttp import web

from simulator.broker.account import CONFIGURATION, Account
from simulator.broker.account_json import account_json, activity_json, history_json, position_json
from simulator.broker.engine import Broker
from simulator.broker.entry import number
from simulator.broker.order_list import bound, bounded
from simulator.broker.rejections import invalid, malformed
from simulator.broker.trading_guard import TradingGuard, answer, json_body
from simulator.broker.updates import activity_moment
from simulator.rfc3339 import LATEST, parse

PAGE = 100
_DAY = 86_400
_FRAMES = {"1Min": 60, "5Min": 300, "15Min": 900, "1H": 3_600, "1D": _DAY}
_CATEGORIES = ("trade_activity", "non_trade_activity")
_PERIODS = {"D": 1, "W": 7, "M": 31, "A": 366}


class AccountRoutes:
    """`done` keeps and tells what a request changed; `remember` keeps a changed configuration."""

    def __init__(
        self,
        broker: Broker,
        guard: TradingGuard,
        done: Callable[[], None],
        remember: Callable[[dict[str, Any]], None],
    ) -> None:
        self._broker = broker
        self._guard = guard
        self._done = done
        self._remember = remember

    def routes(self) -> list[web.RouteDef]:
        """For the application's router."""
        wrap = self._guard.wrap
        return [
            web.get("/v2/account", wrap(self._account)),
            web.get("/v2/account/configurations", wrap(self._configuration)),
            web.patch("/v2/account/configurations", wrap(self._configure)),
            web.get("/v2/account/activities", wrap(self._activities)),
            web.get("/v2/account/activities/{type}", wrap(self._activities)),
            web.get("/v2/account/portfolio/history", wrap(self._history)),
            web.get("/v2/positions", wrap(self._positions)),
            web.delete("/v2/positions", wrap(self._close_all)),
            web.get("/v2/positions/{symbol:.+}", wrap(self._position)),
            web.delete("/v2/positions/{symbol:.+}", wrap(self._close)),
        ]

    def _account(self, _: web.Request, n: int) -> Any:
        return account_json(self._broker.accounts[n], self._broker.view.price, self._broker.view.now())

    def _positions(self, _: web.Request, n: int) -> Any:
        account, price = self._broker.accounts[n], self._broker.view.price
        return [position_json(account, p, price) for p in account.book.open_positions()]

    def _position(self, request: web.Request, n: int) -> Any:
        position = self._broker.position(n, request.match_info["symbol"])
        return position_json(self._broker.accounts[n], position, self._broker.view.price)

    def _close(self, request: web.Request, n: int) -> Any:
        qty, percentage = (number(request.query, name) for name in ("qty", "percentage"))
        if qty is not None and percentage is not None:
            raise malformed("only one of qty or percentage is accepted")
        try:
            return self._broker.close(n, request.match_info["symbol"], qty, percentage)
        finally:
            self._done()

    def _close_all(self, request: web.Request, n: int) -> Any:
        cancel = request.query.get("cancel_orders", "").lower() == "true"
        try:
            return answer(self._broker.close_all(n, cancel_orders=cancel), 207)
        finally:
            self._done()

    def _configuration(self, _: web.Request, n: int) -> Any:
        return self._broker.accounts[n].configuration

    async def _configure(self, request: web.Request, n: int) -> Any:
        body = await json_body(request)
        if not isinstance(body, Mapping):
            raise malformed("failed to decode request body")
        for name, value in body.items():
            if name not in CONFIGURATION or type(value) is not type(CONFIGURATION[name]):
                raise invalid(f"invalid configuration {str(name)[:40]}")
        if body.get("max_margin_multiplier", "1") not in ("1", "2", "4"):
            raise invalid("invalid max_margin_multiplier")
        account = self._broker.accounts[n]
        account.configuration.update(body)
        self._remember({"account": n, "configuration": account.configuration})
        return account.configuration

    def _activities(self, request: web.Request, n: int) -> Any:
        return activities(self._broker.accounts[n], request.query, request.match_info.get("type"))

    def _history(self, request: web.Request, n: int) -> Any:
        frame = request.query.get("timeframe") or "1D"
        if frame not in _FRAMES:
            raise invalid("invalid timeframe")
        account, now = self._broker.accounts[n], self._broker.view.now()
        since = bound(request.query, "start", now - _period(request.query.get("period") or "1M"))
        until = bound(request.query, "end", LATEST)
        current = (now, account.worth(self._broker.view.price).equity)
        samples = [s for s in (*account.samples, current) if since <= s[0] <= until]
        asof = account.closed_at or account.opened
        return history_json(samples, account.last_equity, asof, _FRAMES[frame], frame)


def activities(account: Account, query: Mapping[str, str], kind: str | None) -> list[dict[str, Any]]:
    """Activities by id, newest first unless asked otherwise; `page_token` is the last id of a page.

    Raises:
        Rejection: a parameter is not what it must be.
    """
    limit = bounded(query.get("page_size"), PAGE, PAGE)
    kinds = {k for k in (kind or query.get("activity_types", "")).split(",") if k}
    category = query.get("category", "")
    if category and (kinds or category not in _CATEGORIES):
        raise invalid("invalid category" if not kinds else "category cannot be used with activity_types")
    if "TRANS" in kinds:
        kinds |= {"CSD", "CSW"}
    direction = query.get("direction", "desc")
    if direction not in ("asc", "desc"):
        raise invalid("invalid direction")
    after, until = bound(query, "after", -1), bound(query, "until", LATEST)
    begin, end = _range(account, query)
    token = query.get("page_token")
    if token and direction == "asc":
        begin = max(begin, bisect_right(account.activities, token, key=_key))
    elif token:
        end = min(end, bisect_left(account.activities, token, key=_key))
    places = range(begin, end) if direction == "asc" else range(end - 1, begin - 1, -1)
    found: list[dict[str, Any]] = []
    for place in places:
        activity, execution_id = account.activities[place]
        at, body = _activity(account, activity, execution_id)
        wanted = after < at < until and (not kinds or body["activity_type"] in kinds)
        wanted = wanted and (not category or ("order_id" in body) == (category == "trade_activity"))
        order_id = body.get("order_id")
        if wanted and query.get("order_id", order_id) == order_id:
            found.append(body)
        if len(found) == limit:
            break
    return found


def _activity(account: Account, activity: str, execution_id: str) -> tuple[int, dict[str, Any]]:
    """When it was, in ns, and what REST shows of it."""
    if not execution_id:
        body = account.transfers[activity]
        return parse(body["created_at"]), body
    execution = account.book.executions[execution_id]
    at = execution.revised if activity == execution.revision else execution.at
    return at, activity_json(account, activity, execution)


def _range(account: Account, query: Mapping[str, str]) -> tuple[int, int]:
    """Places of the activities that may lie between `after` and `until`, or on New York's day `date`."""
    after, until = bound(query, "after", -1), bound(query, "until", LATEST)
    known = account.activities
    begin = bisect_left(known, activity_moment(after), key=_key) if after >= 0 else 0
    end = bisect_right(known, activity_moment(until) + "~", key=_key) if until < LATEST else len(known)
    if day := query.get("date", "")[:10].replace("-", ""):
        begin, end = (bisect_left(known, day + last, key=_key) for last in ("", "~"))
    return begin, end


def _key(activity: tuple[str, str]) -> str:
    return activity[0]


def _period(text: str) -> int:
    count, unit = text[:-1], text[-1:]
    if unit not in _PERIODS or not count.isdigit() or not 0 < int(count) <= 1_000:
        raise invalid("invalid period")
    return int(count) * _PERIODS[unit] * _DAY * 10**9
