"""What becomes of each entry of a feed: published, known already, or another source's article. Pure.

An article that only RSS has waits for a moment before it is published: Alpaca often sends the same one a
little later, and one article is to be one record. Should it come later than that, both stand in the log, and
the pair is counted.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from producers.normalize import Content
from producers.rss.quality import Quality
from producers.rss.similar import Article, Index, Key
from tidewire.clock import NS_PER_DAY, NS_PER_SECOND

OLDEST_NS = 7 * NS_PER_DAY
"""Entries that were written longer ago are left out: feeds list them for months."""
RECALL_NS = 14 * NS_PER_DAY
"""So far back a start reads what the log holds."""
HOLD_NS = 60 * NS_PER_SECOND
MOST_KNOWN = 50_000

Outcome = Literal["waiting", "duplicate", "copy", "old"]


@dataclass(frozen=True, slots=True)
class Waiting:
    """An article that is published at `due` (ns) unless its twin comes before."""

    content: Content
    article: Article
    due: int


class Desk:
    """Decides by what the log holds (`heard`) and what the feeds offer (`offer`)."""

    def __init__(self, quality: Quality, *, hold_ns: int = HOLD_NS) -> None:
        self._quality, self._hold_ns = quality, hold_ns
        self._known: OrderedDict[Key, int] = OrderedDict()
        self._copies: OrderedDict[Key, None] = OrderedDict()
        self._waiting: dict[Key, Waiting] = {}
        self._others, self._own = Index(), Index()

    def heard(self, record: Mapping[str, Any], *, live: bool = True) -> list[Key]:
        """A record of alpaca.news, of any source; returns the waiting articles that are copies of it.

        Without `live` it stood in the log at the start, and was compared then.
        """
        article = Article.of(dict(record))
        if article.source == "rss":
            self._know(article.key, record["revision"])
            self._own.add(article)
            return []
        if article.key in self._others:
            return []
        self._others.add(article)
        copies = [w for w in self._waiting.values() if self._are_one(w.article, article)]
        for waiting in copies:
            del self._waiting[waiting.article.key]
            self._copy(waiting.article.key)
            self._quality.add(waiting.article, article)
        if live and not copies and (own := self._own.twin(article)) is not None:
            self._quality.add(own, article)
        return [waiting.article.key for waiting in copies]

    def offer(self, content: Content, now: int, *, dated: bool = True, first_look: bool = False) -> Outcome:
        """An entry of a feed, received at `now` (ns). `dated`: the feed says when it was written.

        `first_look`: nobody looked at this feed before, so when the entry came is not known.
        """
        article = Article.of({**content, "source": "rss", "received_ts": now})
        key, revision = article.key, content["revision"]
        known = self._known.get(key)
        if known is not None and (not dated or revision <= known):
            return "duplicate"
        if dated and revision < now - OLDEST_NS:
            return "old"
        self._know(key, revision)
        if key in self._copies:
            return "copy"
        twin = self._twin(article)
        if twin is not None and known is None:
            self._copy(key)
            if twin.source != "rss":
                self._quality.add(article, twin, timed=not first_look)
            return "copy"
        self._waiting[key] = Waiting(content, article, now if known is not None else now + self._hold_ns)
        return "waiting"

    def due(self, now: int | None = None) -> list[Waiting]:
        """The articles to publish at `now` (ns), oldest offer first; without a time, all that wait."""
        ready = [w for w in self._waiting.values() if now is None or w.due <= now]
        for waiting in ready:
            del self._waiting[waiting.article.key]
            self._own.add(waiting.article)
        return ready

    @property
    def waiting(self) -> int:
        """How many wait."""
        return len(self._waiting)

    def _twin(self, article: Article) -> Article | None:
        """The same article from another source, or from another feed: in the log, or waiting."""
        found = self._others.twin(article) or self._own.twin(article)
        if found is not None:
            return found
        among = Index()
        for waiting in self._waiting.values():
            among.add(waiting.article)
        return among.twin(article)

    @staticmethod
    def _are_one(one: Article, other: Article) -> bool:
        pair = Index()
        pair.add(one)
        return pair.twin(other) is not None

    def _know(self, key: Key, revision: int) -> None:
        self._known[key] = max(revision, self._known.get(key, 0))
        self._known.move_to_end(key)
        if len(self._known) > MOST_KNOWN:
            self._known.popitem(last=False)

    def _copy(self, key: Key) -> None:
        self._copies[key] = None
        if len(self._copies) > MOST_KNOWN:
            self._copies.popitem(last=False)
