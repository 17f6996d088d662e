"""The kill switch by REST, for the users whom accounts.toml names as admins: GET and POST /api/kill.

POST takes {"on": true, "account": null, "cancelOrders": false, "flatten": false, "reason": ""}; without an
account it is for all. The answer says what became of it; `confirmed` only if the broker itself says so.
"""

from __future__ import annotations

from typing import Any

from aiohttp import ClientSession, web

from sinks.executor import kill_setup
from sinks.executor.kill import AtBroker, Kill, Report, Wish
from sinks.gateway.bodies import json_object
from sinks.gateway.responses import json, refuse
from sinks.gateway.sessions import Session
from sinks.gateway.sign_in import SignIn, signed_in
from tidewire import accounts, log
from tidewire.config import Settings
from tidewire.errors import ConfigError

_FIELDS = {"on": bool, "account": str, "cancelOrders": bool, "flatten": bool, "reason": str}
_LONGEST_REASON = 200

_log = log.get(__name__)


class KillRoutes:
    """The handlers. Keys of the accounts are read when they are asked, and not kept."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def routes(self, sign_in: SignIn) -> list[web.RouteDef]:
        """The paths."""
        return [
            web.get("/api/kill", signed_in(sign_in, self.show)),
            web.post("/api/kill", signed_in(sign_in, self.turn)),
        ]

    async def show(self, _: web.Request, session: Session) -> web.StreamResponse:
        """What the file, PostgreSQL and the broker say."""
        if not self._may(session):
            return _forbidden()
        try:
            async with ClientSession() as http:
                return json(_shown(await self._kill(http).status()))
        except ConfigError as error:
            return refuse(503, "settings", str(error))

    async def turn(self, request: web.Request, session: Session) -> web.StreamResponse:
        """Turn it."""
        if not self._may(session):
            return _forbidden()
        wish = await _wish(request, session)
        if wish is None:
            return refuse(
                400, "request", "send a JSON object with on, and account, cancelOrders, flatten, reason"
            )
        _log.warning("kill switch", on=wish.on, account=wish.account or "all", user=session.user)
        try:
            async with ClientSession() as http:
                return json(_shown(await self._kill(http).turn(wish)))
        except ConfigError as error:
            return refuse(400, "request", str(error))

    def _kill(self, http: ClientSession) -> Kill:
        return kill_setup.of_settings(self._settings, accounts.load(self._settings), http)

    def _may(self, session: Session) -> bool:
        try:
            return session.user in accounts.admins(self._settings)
        except ConfigError as error:
            _log.error("accounts.toml has mistakes: nobody is an admin", problems=error.problems)
            return False


def _forbidden() -> web.Response:
    return refuse(403, "admin", "only admins may use the kill switch (admins = [...] in accounts.toml)")


async def _wish(request: web.Request, session: Session) -> Wish | None:
    given = await json_object(request)
    if given is None or "on" not in given or given.keys() - _FIELDS.keys():
        return None
    if not all(isinstance(v, _FIELDS[k]) or (k == "account" and v is None) for k, v in given.items()):
        return None
    return Wish(
        given["on"],
        given.get("account"),
        given.get("cancelOrders", False),
        given.get("flatten", False),
        given.get("reason", "")[:_LONGEST_REASON],
        f"{session.user} through the gateway",
    )


def _shown(report: Report) -> dict[str, Any]:
    return {
        "on": report.on,
        "confirmed": report.confirmed,
        "file": report.file,
        "database": report.database,
        "accounts": [_account(each) for each in report.accounts],
    }


def _account(each: AtBroker) -> dict[str, Any]:
    return {
        "account": each.account,
        "suspended": each.suspended,
        "stoppedBy": each.stopped_by,
        "openOrders": each.open_orders,
        "openPositions": each.open_positions,
        "problems": each.problems,
    }
