"""/v1/corporate-actions in Alpaca's shape, and /sim/corporate-actions, by which a test announces one."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from datetime import date
from typing import Any

import orjson
from aiohttp import web

from simulator.corporate.announcements import Announcements, bucket
from simulator.exchange_calendar import new_york
from simulator.rest_guard import Guard, reply

LIMIT, MOST = 100, 1_000
_LISTS = ("symbols", "cusips", "types", "ids")

Remember = Callable[[dict[str, Any]], None]


class CorporateActionsRest:
    """`now` is the market's time in ns since 1970 UTC; `remember` keeps what a restart must know."""

    def __init__(
        self, known: Announcements, guard: Guard, now: Callable[[], int], remember: Remember
    ) -> None:
        self._known, self._guard, self._now, self._remember = known, guard, now, remember

    def routes(self) -> list[web.RouteDef]:
        """For the application's router; those of /sim need no keys."""
        return [
            web.get("/v1/corporate-actions", self._guard.wrap(self._list)),
            web.post("/sim/corporate-actions", self._announce),
            web.delete("/sim/corporate-actions/{id}", self._withdraw),
        ]

    async def _list(self, request: web.Request) -> web.Response:
        query = request.query
        today = f"{new_york(self._now()):%Y-%m-%d}"
        start, end = _day(query, "start", today), _day(query, "end", today)
        if start > end:
            raise ValueError("end should not be before start")
        limit = _limit(query.get("limit"))
        sort = query.get("sort", "asc")
        if sort not in ("asc", "desc"):
            raise ValueError("invalid sort")
        wanted = {name: frozenset(filter(None, query.get(name, "").split(","))) for name in _LISTS}
        found = self._known.find(wanted, start, end)
        if sort == "desc":
            found.reverse()
        first = _first(query.get("page_token"), [action["id"] for _, action in found])
        page = found[first : first + limit]
        listed: dict[str, list[dict[str, Any]]] = {}
        for kind, action in page:
            listed.setdefault(bucket(kind), []).append(action)
        more = first + limit < len(found)
        token = base64.urlsafe_b64encode(page[-1][1]["id"].encode()).decode() if more else None
        return reply({"corporate_actions": listed, "next_page_token": token})

    async def _announce(self, request: web.Request) -> web.Response:
        try:
            body = orjson.loads(await request.read())
            fields = dict(body)
            action = self._known.put(str(fields.pop("type", "")), fields)
        except (ValueError, TypeError) as error:
            return reply({"message": str(error)}, 422)
        self._remember({"announced": {"type": body["type"], **action}})
        return reply(action)

    async def _withdraw(self, request: web.Request) -> web.Response:
        name = request.match_info["id"]
        if not self._known.remove(name):
            return reply({"message": f"corporate action not found for {name[:80]}"}, 404)
        self._remember({"withdrawn": name})
        return web.Response(status=204)


def recall(known: Announcements, entry: Mapping[str, Any]) -> None:
    """Take what an earlier run has remembered."""
    if "announced" in entry:
        fields = dict(entry["announced"])
        known.put(fields.pop("type"), fields)
    if "withdrawn" in entry:
        known.remove(entry["withdrawn"])


def _day(query: Mapping[str, str], name: str, default: str) -> str:
    try:
        return date.fromisoformat((query.get(name) or default)[:10]).isoformat()
    except ValueError:
        raise ValueError(f"invalid {name}") from None


def _limit(text: str | None) -> int:
    if text is None:
        return LIMIT
    if not text.isdigit() or not 1 <= int(text) <= MOST:
        raise ValueError(f"limit must be between 1 and {MOST}")
    return int(text)


def _first(token: str | None, ids: list[str]) -> int:
    if not token:
        return 0
    try:
        return ids.index(base64.urlsafe_b64decode(token.encode()).decode()) + 1
    except ValueError:
        raise ValueError("invalid page_token") from None
