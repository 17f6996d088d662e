"""One message of Alpaca's news stream -> the content of one record. Pure; see normalize.py.

A headline, an id and both times must be there. The other texts may be missing or null, as in short flashes,
and are then empty.
"""

from __future__ import annotations

from typing import Any

from producers.normalize import Content, Field, Message, long, perhaps, read, text, texts, time_ns

PROVIDER = "benzinga"
"""Who writes Alpaca's news, where a message does not say."""


def article(key: str, value: Any) -> str:
    """An article's number as text."""
    return str(long(key, value))


ARTICLE: tuple[Field, ...] = (
    ("id", "id", article),
    ("provider", "source", perhaps),
    ("ts", "updated_at", time_ns),
    ("created_ts", "created_at", time_ns),
    ("headline", "headline", text),
    ("summary", "summary", perhaps),
    ("content", "content", perhaps),
    ("author", "author", perhaps),
    ("url", "url", perhaps),
    ("symbols", "symbols", texts),
)
_DEFAULTS = dict.fromkeys(("source", "summary", "content", "author", "url", "symbols"))


def news(message: Message) -> Content:
    """T=n. Raises RecordError with the reason."""
    content = read(ARTICLE, {**_DEFAULTS, **message})
    content["provider"] = content["provider"] or PROVIDER
    content["revision"] = content["ts"]
    return content
