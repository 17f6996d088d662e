"""Bodies of requests that change something."""

from __future__ import annotations

from typing import Any

import orjson
from aiohttp import web


async def json_object(request: web.Request) -> dict[str, Any] | None:
    """The JSON object that a request holds; None: it holds none, or does not say that it does.

    A page of another origin cannot send this content type without being asked first (CORS).
    """
    if request.content_type != "application/json":
        return None
    try:
        given = orjson.loads(await request.read())
    except orjson.JSONDecodeError:
        return None
    return given if isinstance(given, dict) else None
