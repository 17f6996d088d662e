"""Exit rules by REST: a signed-in user's own accounts, and no others.

::

    GET    /api/exits                         every rule of the user's accounts, and what it watches
    POST   /api/exits                         {"account", "symbol", "rule", "spec"}: set one
    DELETE /api/exits?account=&symbol=&rule=  remove one; a default one for this symbol

With one account `account` may be left out; `rule` is the spec's kind unless it is named. An account that a
user does not see is answered like one that does not exist. As with every request that changes something, a
page of another origin is refused (responses.py), and so is a body that is not declared as JSON.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
from aiohttp import web

from schemas.codec import Record
from schemas.exit_rules import parse, read_parameters, rule_record
from sinks.gateway.bodies import json_object
from sinks.gateway.exit_feed import ExitFeed
from sinks.gateway.exit_rules import MOST_RULES, ExitRules
from sinks.gateway.responses import json, refuse
from sinks.gateway.sessions import Session
from sinks.gateway.sign_in import SignIn, signed_in
from sinks.gateway.visibility import Visibility
from tidewire.clock import Clock
from tidewire.errors import ConfigError, UnreachableError

_KNOWN = {"account", "symbol", "rule", "spec"}


class Exits:
    """The handlers. `now` in ns."""

    def __init__(self, rules: ExitRules, feed: ExitFeed, visibility: Visibility, now: Clock) -> None:
        self._rules, self._feed, self._visibility, self._now = rules, feed, visibility, now

    def routes(self, sign_in: SignIn) -> list[web.RouteDef]:
        """The paths."""
        return [
            web.get("/api/exits", signed_in(sign_in, self.list)),
            web.post("/api/exits", signed_in(sign_in, self.set)),
            web.delete("/api/exits", signed_in(sign_in, self.remove)),
        ]

    async def list(self, _: web.Request, session: Session) -> web.StreamResponse:
        """The rules of the user's accounts."""
        if not self._feed.ready:
            return _starting()
        return json({"exits": self._rules.of(self._visibility.of(session.user))})

    async def set(self, request: web.Request, session: Session) -> web.StreamResponse:
        """Set a rule; answers 201 with it once it is in the log."""
        if not self._feed.ready:
            return _starting()
        given = await json_object(request)
        if given is None:
            return refuse(400, "request", "send a JSON object with symbol and spec")
        try:
            record = self._record(given, session)
        except ConfigError as error:
            return refuse(400, "request", "; ".join(error.problems))
        if record is None:
            return _no_account()
        if self._rules.count(record["account"]) >= MOST_RULES:
            return refuse(409, "rules", f"the account has {MOST_RULES} rules: remove some first")
        return await self._write(record, 201)

    async def remove(self, request: web.Request, session: Session) -> web.StreamResponse:
        """Remove a rule; answers once that is in the log."""
        if not self._feed.ready:
            return _starting()
        asked = request.query
        account = self._account(asked.get("account"), session)
        if account is None:
            return _no_account()
        symbol, rule = asked.get("symbol", "").upper(), asked.get("rule", "")
        found = self._rules.find(account, symbol, rule)
        if found is None:
            return refuse(404, "rule", "there is no such rule")
        spec = found["spec"] if "spec" in found else _spec_of(found)
        who = f"api:{session.user}"
        record = rule_record(account, symbol, rule, parse(spec), who, self._now(), active=False)
        return await self._write(record, 200)

    def _record(self, given: Mapping[str, Any], session: Session) -> Record | None:
        """Raises ConfigError with every mistake; None: the user sees no such account."""
        problems = [f"unknown key {key}" for key in given.keys() - _KNOWN]
        texts = {name: given.get(name) for name in ("account", "symbol", "rule")}
        problems += [
            f"{n} must be text" for n, t in texts.items() if t is not None and not isinstance(t, str)
        ]
        if not given.get("symbol"):
            problems.append("symbol is missing")
        spec = None
        try:
            spec = parse(given["spec"] if isinstance(given.get("spec"), dict) else "null")
        except ConfigError as error:
            problems += [f"spec: {problem}" for problem in error.problems]
        if problems or spec is None:
            raise ConfigError(problems)
        account = self._account(given.get("account"), session)
        if account is None:
            return None
        rule = given.get("rule") or spec.kind
        return rule_record(account, given["symbol"].upper(), rule, spec, f"api:{session.user}", self._now())

    def _account(self, named: str | None, session: Session) -> str | None:
        mine = self._visibility.of(session.user)
        if named is None:
            return mine[0] if len(mine) == 1 else None
        return named if named in mine else None

    async def _write(self, record: Record, status: int) -> web.StreamResponse:
        try:
            await self._feed.write(record)
        except UnreachableError as error:
            return refuse(503, "kafka", str(error), 5)
        names = {name: record[name] for name in ("account", "symbol", "rule", "active")}
        return json(names | {"spec": orjson.loads(record["spec"])}, status)


def _spec_of(watch: Record) -> str:
    """What the default rule that made a watch fires at, as the spec of its removal."""
    more = read_parameters(watch["parameters"])
    found = {
        "percent": more.percent,
        "trail_price": watch["trail_price"],
        "trail_percent": watch["trail_percent"],
        "after_seconds": more.after_seconds,
        "before_close_seconds": more.before_close_seconds,
    }
    given = {name: str(value) for name, value in found.items() if value is not None}
    return orjson.dumps({"kind": watch["kind"], **given}).decode()


def _no_account() -> web.Response:
    return refuse(404, "account", "no such account")


def _starting() -> web.Response:
    return refuse(503, "starting", "the gateway is reading the exit rules", 1)
