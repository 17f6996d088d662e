"""Whether two articles are one: alike headlines within some hours, from different sources. Pure.

A headline is normalised: Unicode's compatible form, no case, no accents, words and numbers only. Two are
alike when they are then equal, or when both have at least five words, the same numbers, and at least four
fifths of all their words in common (words in both, divided by words in either). Between the times of the two
articles may lie six hours. Nothing else is looked at: texts differ between sources, and so do symbols.
"""

from __future__ import annotations

import re
import unicodedata
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

from tidewire.clock import NS_PER_SECOND

WINDOW_NS = 6 * 3600 * NS_PER_SECOND
LEAST_WORDS = 5
MOST_ARTICLES = 5_000
_SHARE = (4, 5)
_WORD = re.compile(r"\w+(?:[.,]\d+)*")
_LONGEST = 1_000

Key = tuple[str, str]
"""Provider and article id."""


def words(headline: str) -> tuple[str, ...]:
    """The words of a headline in their normal form."""
    text = unicodedata.normalize("NFKD", headline[:_LONGEST].casefold())
    text = "".join(c for c in text if not unicodedata.combining(c)).replace("'", "").replace("’", "")
    return tuple(word.replace(",", "") for word in _WORD.findall(text))


def alike(one: tuple[str, ...], other: tuple[str, ...]) -> bool:
    """Whether two normalised headlines say the same, by the rule above; an empty one is like none."""
    if one == other:
        return bool(one)
    if min(len(one), len(other)) < LEAST_WORDS:
        return False
    a, b = set(one), set(other)
    if _numbers(a) != _numbers(b):
        return False
    return len(a & b) * _SHARE[1] >= len(a | b) * _SHARE[0]


def _numbers(found: set[str]) -> set[str]:
    return {word for word in found if any(c.isdigit() for c in word)}


@dataclass(frozen=True, slots=True)
class Article:
    """What is kept of an article. Times in ns; `fields`: which of its texts were not empty."""

    key: Key
    source: str
    words: tuple[str, ...]
    created_ts: int
    received_ts: int
    fields: frozenset[str]

    @classmethod
    def of(cls, record: dict[str, Any]) -> Article:
        """From a news record, or from a content with `received_ts` and `source`."""
        names = ("headline", "summary", "content", "author", "symbols")
        return cls(
            (record["provider"], record["id"]),
            record["source"],
            words(record["headline"]),
            record["created_ts"],
            record["received_ts"],
            frozenset(name for name in names if record[name]),
        )


class Index:
    """The newest articles, looked up by likeness."""

    def __init__(self, most: int = MOST_ARTICLES) -> None:
        self._most = most
        self._articles: OrderedDict[Key, Article] = OrderedDict()

    def add(self, article: Article) -> None:
        """Keep an article; of several revisions the first that was received is kept."""
        if article.key not in self._articles:
            self._articles[article.key] = article
            if len(self._articles) > self._most:
                self._articles.popitem(last=False)

    def remove(self, key: Key) -> None:
        """Forget one."""
        self._articles.pop(key, None)

    def twin(self, article: Article) -> Article | None:
        """The earliest received article of another provider that is the same one; None without any."""
        return min(
            (
                other
                for other in self._articles.values()
                if other.key[0] != article.key[0]
                and abs(other.created_ts - article.created_ts) <= WINDOW_NS
                and alike(other.words, article.words)
            ),
            key=lambda other: (other.received_ts, other.key),
            default=None,
        )

    def __contains__(self, key: Key) -> bool:
        return key in self._articles

    def __len__(self) -> int:
        return len(self._articles)
