"""What every HTTP answer has: JSON, no caching, security headers, and errors as JSON."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import orjson
from aiohttp import web

from sinks.gateway import origins
from tidewire import log, metrics
from tidewire.errors import UnreachableError

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    # Not no-referrer: with that, browsers send `Origin: null` with our own sign-in forms.
    "Referrer-Policy": "same-origin",
}

_log = log.get(__name__)


def json(data: Any, status: int = 200) -> web.Response:
    """A JSON answer."""
    return web.Response(body=orjson.dumps(data), status=status, content_type="application/json")


def refuse(status: int, reason: str, message: str, retry_after: float | None = None) -> web.Response:
    """An error as JSON, counted by its reason."""
    metrics.GATEWAY_REFUSED.labels(reason).inc()
    response = json({"error": message}, status)
    if retry_after is not None:
        response.headers["Retry-After"] = str(max(1, round(retry_after)))
    return response


def middleware(named: tuple[str, ...]) -> Any:
    """Refuses what other sites' pages send, turns errors into JSON, adds the headers."""

    @web.middleware
    async def around(request: web.Request, handler: Handler) -> web.StreamResponse:
        response = await _answer(request, handler, named)
        if not response.prepared:
            response.headers.update(_HEADERS)
        return response

    return around


async def _answer(request: web.Request, handler: Handler, named: tuple[str, ...]) -> web.StreamResponse:
    if request.method not in ("GET", "HEAD") and not own_page(request, named):
        return refuse(403, "origin", "this origin may not use the gateway")
    try:
        return await handler(request)
    except web.HTTPException as error:
        if error.status < 400:
            raise
        return json({"error": error.reason.lower()}, error.status)
    except UnreachableError:
        return refuse(503, "database", "sign-in is not available: the database does not answer", 5)
    except Exception:
        _log.exception("a request failed", path=request.match_info.route.resource and "known")
        return json({"error": "internal error"}, 500)


def own_page(request: web.Request, named: tuple[str, ...]) -> bool:
    """Whether the Origin header, if there is one, is allowed. Two of them are none that a browser sends."""
    found = request.headers.getall("Origin", [])
    return len(found) < 2 and origins.allowed(found[0] if found else None, request.host, named)
