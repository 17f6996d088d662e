"""One article as a message of a tape, and the small things that articles are made of. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from simulator import rfc3339
from simulator.venue_kinds import news_stream_symbol
from simulator.wire import Message, Streams, pack, timestamp

_NO_WORD = re.compile(r"[^a-z0-9]+")
_TICKER_LETTERS = re.compile(r"[^A-Z0-9]")
_SMALL_WORDS = frozenset({"AND", "OF", "THE", "FOR", "LTD", "INC", "CO", "CORP", "GROUP"})


class Article(NamedTuple):
    """One revision of an article; times in ns since 1970 UTC, whole seconds as at Alpaca."""

    id: int
    headline: str
    summary: str
    content: str
    author: str
    source: str
    symbols: Sequence[str]
    created: int
    updated: int


def message(article: Article, arrival: int, streams: Streams) -> Message:
    """As Alpaca streams it: no images, they are in REST only."""
    fields = {
        "T": "n",
        "id": article.id,
        "headline": article.headline,
        "summary": article.summary,
        "author": article.author,
        "created_at": timestamp(article.created),
        "updated_at": timestamp(article.updated),
        "url": url_of(article),
        "content": article.content,
        "symbols": list(article.symbols),
        "source": article.source,
    }
    stream = streams.get("news", news_stream_symbol(list(article.symbols)))
    return arrival, article.updated, stream, pack(fields), None


def url_of(article: Article) -> str:
    """Where the article would be read."""
    year, month = rfc3339.show(article.created)[2:7].split("-")
    words = _NO_WORD.sub("-", article.headline.lower()).strip("-")[:80]
    return f"https://www.benzinga.com/news/{year}/{month}/{article.id}/{words}"


def ticker_of(entity: str) -> str:
    """A ticker made from a company's name, the same for the same name; empty when it has no letter.

    Initials of three words and more, else the beginning of the first word: Tata Consultancy Services -> TCS,
    Infosys -> INFO.
    """
    words = [_TICKER_LETTERS.sub("", word) for word in entity.upper().replace("-", " ").split()]
    words = [word for word in words if word and word not in _SMALL_WORDS]
    if not words:
        return ""
    text = "".join(word[0] for word in words)[:5] if len(words) > 2 else words[0][:4]
    return text if text[0].isalpha() else f"N{text}"[:5]
