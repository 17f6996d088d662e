"""What an analyzer is given, and what it answers."""

from __future__ import annotations

import html
from collections.abc import Mapping
from dataclasses import dataclass
from html.parser import HTMLParser
from typing import Any

LONGEST_TEXT = 200_000
"""Characters of a field that are read; an article beyond is cut, not refused."""

_UNSEEN = frozenset({"script", "style", "head", "title", "template"})
_BREAKS = frozenset({"p", "div", "br", "li", "ul", "ol", "tr", "td", "th", "table", "h1", "h2", "h3", "h4"})


@dataclass(frozen=True, slots=True)
class Article:
    """One revision of an article as an analyzer sees it: plain text, no tags, no entities.

    `id` is unique within `provider`; `ts` is when the revision was made, ns since 1970 UTC; `symbols` are
    tickers and pairs, each once and never none.
    """

    id: str
    provider: str
    headline: str
    summary: str
    content: str
    symbols: tuple[str, ...]
    ts: int


@dataclass(frozen=True, slots=True)
class Score:
    """What an analyzer says: `score` -1 (bad) to 1 (good), `confidence` 0 to 1 or None.

    `detail` is whatever it wants to add: a mapping that JSON can hold.
    """

    score: float
    confidence: float | None = None
    detail: Mapping[str, object] | None = None


def article_of(record: Mapping[str, Any]) -> Article:
    """The article of a decoded news record."""
    return Article(
        record["id"],
        record["provider"],
        plain_text(record["headline"]),
        plain_text(record["summary"]),
        plain_text(record["content"]),
        tuple(dict.fromkeys(symbol for symbol in record["symbols"] if symbol)),
        record["ts"],
    )


def plain_text(text: str) -> str:
    """Text without tags, comments, scripts and entities (those escaped twice included), single-spaced."""
    text = text[:LONGEST_TEXT]
    if "<" in text or "&" in text:
        reader = _Text()
        reader.feed(text)
        reader.close()
        text = html.unescape("".join(reader.parts))
    return " ".join(text.split())


class _Text(HTMLParser):
    """Collects what a reader of the page would see."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[str] = []
        self._unseen: str | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if self._unseen is None and tag in _UNSEEN:
            self._unseen = tag
        if tag in _BREAKS:
            self.parts.append(" ")

    def handle_endtag(self, tag: str) -> None:
        if tag == self._unseen:
            self._unseen = None
        if tag in _BREAKS:
            self.parts.append(" ")

    def handle_data(self, data: str) -> None:
        if self._unseen is None:
            self.parts.append(data)
