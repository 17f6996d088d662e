"""/v1beta1/news: the newest revision of every published article, by the time of its update."""

from __future__ import annotations

import base64
import re
from bisect import bisect_left, insort
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from aiohttp import web

from simulator.history import Place
from simulator.rest_guard import Guard, reply
from simulator.rest_series import bounds, choice, limit_of, shown, symbols_of
from simulator.venue import Venue

_SYMBOL = re.compile(r"[A-Z0-9][A-Z0-9.:/-]{0,15}")
_IMAGES = {"large": "2048x1536", "small": "1024x768", "thumb": "250x187"}
_KEPT = 200_000


class Listed(NamedTuple):
    """An article among the others: ordered by update (ns since 1970 UTC), then id."""

    updated: int
    id: int
    symbols: frozenset[str]
    has_content: bool
    place: Place


class Archive:
    """The articles that were published, read from the ledger when asked for; the oldest go beyond 200,000."""

    def __init__(self, venue: Venue) -> None:
        self._history = venue.history
        self._read = venue.read
        self._seen = 0
        self._articles: dict[int, Listed] = {}
        self._ordered: list[Listed] = []

    def listed(self) -> list[Listed]:
        """All articles, each in its newest revision, by update and id."""
        for entry in self._history.since(self._seen):
            self._seen = entry.number + 1
            message = self._read(entry.place)
            if message is not None:
                self._add(message, entry.ns, entry.place)
        return self._ordered

    def article(self, place: Place) -> dict[str, Any] | None:
        """An article as REST shows it; None when it is older than the ledger's files."""
        message = self._read(place)
        if message is None:
            return None
        images = [
            {"size": size, "url": f"https://cdn.benzinga.com/{pixels}/{message['id']}.jpg"}
            for size, pixels in _IMAGES.items()
        ]
        return {**shown(message), "images": images}

    def _add(self, message: dict[str, Any], updated: int, place: Place) -> None:
        old = self._articles.get(message["id"])
        if old is not None and old.updated > updated:
            return
        if old is not None:
            del self._ordered[bisect_left(self._ordered, old[:2], key=_key)]
        new = Listed(updated, message["id"], frozenset(message["symbols"]), bool(message["content"]), place)
        self._articles[new.id] = new
        insort(self._ordered, new, key=_key)
        if len(self._ordered) > _KEPT:
            del self._articles[self._ordered.pop(0).id]


class NewsRest:
    """The route over an archive."""

    def __init__(self, venue: Venue, guard: Guard) -> None:
        self._archive = Archive(venue)
        self.handle = guard.wrap(self._news)

    async def _news(self, request: web.Request) -> web.Response:
        query = request.query
        descending = choice(query.get("sort", "desc"), ("asc", "desc"), "sort") == "desc"
        limit = limit_of(query.get("limit", "10"), 50)
        token = _decode(query["page_token"]) if query.get("page_token") else None
        wanted = _filter(query)
        with_content = _flag(query, "include_content")
        ordered = self._archive.listed()
        rows = [row for row in (reversed(ordered) if descending else ordered) if wanted(row)]
        if token is not None:
            rows = [row for row in rows if (_key(row) < token if descending else _key(row) > token)]
        news = [article for row in rows[:limit] if (article := self._archive.article(row.place)) is not None]
        if not with_content:
            news = [{**article, "content": ""} for article in news]
        following = _encode(rows[limit - 1]) if len(rows) > limit else None
        return reply({"news": news, "next_page_token": following})


def _filter(query: Mapping[str, str]) -> Callable[[Listed], bool]:
    start, end = bounds(query, 0)
    text = query.get("symbols", "")
    symbols = frozenset(symbols_of(text, _SYMBOL.fullmatch)) if text.strip() else None
    contentless = not _flag(query, "exclude_contentless")

    def wanted(row: Listed) -> bool:
        return (
            start <= row.updated <= end
            and (symbols is None or not symbols.isdisjoint(row.symbols))
            and (contentless or row.has_content)
        )

    return wanted


def _key(row: Listed) -> tuple[int, int]:
    return row.updated, row.id


def _flag(query: Mapping[str, str], name: str) -> bool:
    return choice(query.get(name, "false").lower(), ("true", "false"), name) == "true"


def _encode(row: Listed) -> str:
    return base64.urlsafe_b64encode(f"{row.updated}|{row.id}".encode()).decode()


def _decode(text: str) -> tuple[int, int]:
    try:
        updated, identity = base64.urlsafe_b64decode(text.encode()).decode().split("|")
        return int(updated), int(identity)
    except ValueError as error:
        raise ValueError("invalid page_token") from error
