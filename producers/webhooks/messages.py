"""A request's body -> messages as Alpaca's streams send them. Pure.

Market data is a JSON array of messages in the stream's shape ({"T": "t", "S": "AAPL", ...}); news is an
article, or an array of them, as Alpaca's news stream sends it. Times are RFC 3339 texts or integer ns.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import orjson

from producers.channel import Message
from producers.history import times
from schemas.fills import asset_class
from tidewire.errors import RecordError

PROVIDER = "webhook"
"""Who wrote an article whose sender does not say."""
EVERYBODY = "*"
_KINDS = {"us_equity": "stocks", "us_option": "options", "crypto": "crypto"}
_TIMES = ("t", "created_at", "updated_at")
_ACCOUNT = re.compile(r"[A-Za-z0-9._-]{1,64}")


def market_data(body: bytes) -> list[tuple[str, Message]]:
    """The messages with their kind (stocks, options, crypto). Raises RecordError: no such body."""
    return [(_kind(message), _timed(message)) for message in _objects(body)]


def news(body: bytes) -> list[tuple[str, Message]]:
    """The articles, each with the kind `news`. Raises RecordError: no such body."""
    found = []
    for article in _objects(body):
        article["T"] = "n"
        if not article.get("source"):
            article["source"] = PROVIDER
        found.append(("news", _timed(article)))
    return found


def account(body: bytes) -> str:
    """Whose orders a trade update is about: its `account`, else * for all.

    Nothing else is read: what is true of an order, Alpaca itself is asked. Raises RecordError: no object.
    """
    update = _loaded(body)
    if not isinstance(update, dict):
        raise RecordError("a JSON object is expected")
    name = update.get("account")
    return name if isinstance(name, str) and _ACCOUNT.fullmatch(name) else EVERYBODY


def _objects(body: bytes) -> list[dict[Any, Any]]:
    found = _loaded(body)
    if isinstance(found, dict):
        found = [found]
    if not isinstance(found, list) or not all(isinstance(message, dict) for message in found):
        raise RecordError("a JSON array of messages is expected")
    return found


def _loaded(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise RecordError(f"not JSON: {error}") from None


def _kind(message: Mapping[Any, Any]) -> str:
    symbol = message.get("S")
    return _KINDS[asset_class(symbol)] if isinstance(symbol, str) else "stocks"


def _timed(message: dict[Any, Any]) -> Message:
    for name in _TIMES:
        if isinstance(text := message.get(name), str):
            try:
                message[name] = times.parse(text)
            except ValueError:
                continue  # the encoder says it
    return message
