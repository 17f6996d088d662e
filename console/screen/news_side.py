"""The screen's view of the news: the newest articles, each with the scores of its symbols."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from console.screen.follower import Decode, Follower
from console.screen.state import Headline
from tidewire.config import Settings

_KEPT = 200


class NewsSide(Follower):
    """Follows articles and their scores; articles by (provider, id)."""

    def __init__(self, settings: Settings, news: str, sentiment: str, decode: Decode) -> None:
        takes = {"news": self._take_article, "news_sentiment": self._take_score}
        super().__init__(settings, (news, sentiment), decode, _KEPT, takes)
        self._articles: dict[tuple[str, str], tuple[int, str]] = {}
        self._scores: dict[tuple[str, str], dict[str, float]] = {}

    def headlines(self) -> tuple[Headline, ...]:
        """Newest first."""
        newest = sorted(self._articles.items(), key=lambda item: -item[1][0])[:20]
        return tuple(
            Headline(ts, text, tuple(self._scores.get(key, {}).items())) for key, (ts, text) in newest
        )

    def _take_article(self, record: Mapping[str, Any]) -> None:
        key = record["provider"], record["id"]
        if record["ts"] >= self._articles.get(key, (0, ""))[0]:
            self._articles[key] = record["ts"], record["headline"]
        _forget(self._articles)

    def _take_score(self, record: Mapping[str, Any]) -> None:
        key = record["provider"], record["article_id"]
        self._scores.setdefault(key, {})[record["symbol"]] = record["score"]
        _forget(self._scores)


def _forget(held: dict[tuple[str, str], Any]) -> None:
    while len(held) > 2 * _KEPT:
        held.pop(next(iter(held)))
