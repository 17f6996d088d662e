"""News: which articles' revisions the history has and the log lacks. Pure, bounded by event time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from producers.audit.minutes import MINUTE, minute_of

KEPT_NS = 3 * 3600 * 1_000_000_000


class Article(NamedTuple):
    """One revision of an article; `revision` is its updated_at in ns."""

    provider: str
    id: str
    revision: int


def article_of(message: Mapping[str, Any]) -> Article | None:
    """The revision that a message of the history speaks of; None: it is not readable."""
    try:
        return Article(str(message["source"]), str(message["id"]), int(message["updated_at"]))
    except (KeyError, TypeError, ValueError):
        return None


class Articles:
    """What the log holds of the last hours of event time."""

    def __init__(self) -> None:
        self._held: set[Article] = set()
        self.newest: int | None = None
        self.first: int | None = None
        """The earliest revision that the log ever had: nobody listened before it."""

    def add(self, article: Article) -> None:
        """The log holds this revision."""
        self._held.add(article)
        self.newest = max(self.newest or 0, article.revision)
        self.first = article.revision if self.first is None else min(self.first, article.revision)
        if len(self._held) % 1000 == 0:
            self._held = {a for a in self._held if a.revision >= self.newest - KEPT_NS}

    def by_minute(
        self, history: Iterable[Article], start: int, end: int
    ) -> dict[int, tuple[list[Article], list[Article]]]:
        """Minute -> what the history has of it, and what of that the log lacks; of [start, end)."""
        found: dict[int, tuple[list[Article], list[Article]]] = {}
        for minute in range(minute_of(start), end, MINUTE):
            found[minute] = ([], [])
        for article in set(history):
            if start <= article.revision < end:
                has, lacks = found[minute_of(article.revision)]
                has.append(article)
                if article not in self._held:
                    lacks.append(article)
        return found
