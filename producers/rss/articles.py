"""One entry of a feed -> the content of a news record. Pure.

The article's id is its guid, else its link; its revision is when it was updated, else published, else first
seen. Who published it is the feed's host.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import orjson

from producers.normalize import EARLIEST_NS, Content
from producers.rss.tickers import tickers
from tidewire.clock import NS_PER_DAY
from tidewire.errors import RecordError

LONGEST_NAME = 2_000
"""Characters of an id, a URL, a headline or an author."""
LONGEST_TEXT = 1_000_000
AHEAD_NS = NS_PER_DAY
"""So far ahead of its receipt may an article's time be; feeds mistake time zones."""
_TAG = re.compile(r"<[^<>]*>")


def host(url: str) -> str:
    """The provider that a feed's URL stands for; never its path, which may hold a token."""
    return urlsplit(url).hostname or "rss"


def content(entry: Mapping[str, Any], provider: str, received_ns: int) -> Content:
    """The content of an entry as parsing.py gives it. Raises RecordError with the reason."""
    link = _checked("link", entry["link"], LONGEST_NAME)
    if link and urlsplit(link).scheme.lower() not in ("http", "https"):
        raise RecordError(f"link is no http(s) URL: {link[:60]!r}")
    id = _checked("id", entry["id"], LONGEST_NAME) or link
    if not id:
        raise RecordError("neither guid nor link")
    headline = _checked("headline", entry["headline"], LONGEST_NAME)
    if not headline:
        raise RecordError("no headline")
    summary = _checked("summary", entry["summary"], LONGEST_TEXT)
    text = _checked("content", entry["content"], LONGEST_TEXT)
    updated = entry["updated"] or entry["published"]
    revision = received_ns if updated is None else _time(updated, received_ns)
    published = entry["published"]
    return {
        "id": id,
        "provider": provider,
        "ts": revision,
        "revision": revision,
        "created_ts": revision if published is None else min(_time(published, received_ns), revision),
        "headline": headline,
        "summary": summary,
        "content": text,
        "author": _checked("author", entry["author"], LONGEST_NAME),
        "url": link,
        "symbols": tickers(f"{headline}\n{summary}\n{_TAG.sub(' ', text)}"),
        "extra": _extra(entry["categories"]),
    }


def is_dated(entry: Mapping[str, Any]) -> bool:
    """Whether the feed says when it was written."""
    return bool(entry["updated"] or entry["published"])


def _extra(categories: list[str]) -> str | None:
    if not categories:
        return None
    try:
        return orjson.dumps({"categories": categories}).decode()
    except TypeError:
        raise RecordError("categories are not valid UTF-8") from None


def _checked(name: str, value: str, longest: int) -> str:
    if len(value) > longest:
        raise RecordError(f"{name} has {len(value)} characters, {longest} are allowed")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise RecordError(f"{name} is not valid UTF-8") from None
    return value


def _time(value: int, received_ns: int) -> int:
    if not EARLIEST_NS <= value <= received_ns + AHEAD_NS:
        raise RecordError(f"its time is before 1990 or more than a day ahead: {value} ns")
    return value
