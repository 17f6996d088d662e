"""News made from a seed. Pure: same seed and start, same articles at the same times.

Articles are about the symbols of the running markets, some of them about a pair in the form BTCUSD beside
tickers. Now and then an article is a revision of an earlier one (same id, newer `updated_at`), names a great
many symbols, or has HTML entities in its summary, as real ones have.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterator, Sequence
from html import escape

from simulator.news.articles import Article, message
from simulator.wire import Message, Streams

_GOOD = (
    "{name} beats quarterly estimates, raises full-year outlook",
    "{name} shares rally after record revenue and strong demand",
    "Analysts upgrade {name} on improving margins",
    "{name} announces $10 billion buyback, dividend increase",
    "{name} wins landmark contract, shares surge",
)
_BAD = (
    "{name} misses estimates, cuts guidance as demand weakens",
    "{name} falls after regulators open probe into accounting",
    "Analysts downgrade {name}, warn of slowing growth",
    "{name} to cut 4,000 jobs amid losses",
    "{name} recalls products after safety failure; shares plunge",
)
_PLAIN = (
    "What's going on with {name} shares Wednesday?",
    "{name} to present at technology conference",
    "{name} names new chief financial officer",
    "A look at {name}'s short interest",
    "{name} schedules annual shareholder meeting",
)
_COINS = (
    "{name} climbs as ETF inflows hit a record",
    "{name} tumbles, liquidations top $500 million",
    "{name} steady ahead of Fed decision",
)
_TONES: Sequence[Sequence[str]] = (_GOOD, _BAD, _PLAIN)
_TONE_WEIGHTS = (5, 4, 4)
_AUTHORS = ("Benzinga Newsdesk", "A. Reporter", "Markets Desk", "Charles Example", "")
_REVISION_SHARE = 0.12
_CRYPTO_SHARE = 0.15
_ENTITY_SHARE = 0.2
_MANY_SHARE = 0.03
MANY_SYMBOLS = 150
REMEMBERED = 50
_SECOND = 1_000_000_000
_IDS_SINCE = 1_700_000_000_000
"""The first id is in ms since November 2023, so that ids go on after a restart."""


class SyntheticNews:
    """An endless tape of articles from `start` (ns since 1970 UTC) on, `seconds` apart on average."""

    def __init__(
        self,
        tickers: Sequence[str],
        pairs: Sequence[str],
        seed: int,
        start: int,
        seconds: float,
        limit: int | None = None,
    ) -> None:
        self._random = random.Random(f"news|{seed}|{','.join(tickers)}|{','.join(pairs)}")
        self._tickers = list(tickers)
        self._pairs = [pair.replace("/", "") for pair in pairs]
        self._start = start
        self._seconds = seconds
        self._limit = limit
        self._next_id = start // 1_000_000 - _IDS_SINCE
        self._recent: deque[Article] = deque(maxlen=REMEMBERED)

    def read(self, streams: Streams) -> Iterator[list[Message]]:
        """One article a block, by arrival time."""
        at, count = 0.0, 0
        while self._limit is None or count < self._limit:
            at += self._random.expovariate(1 / self._seconds)
            arrival = self._start + int(at * _SECOND)
            article = self._revision(arrival) or self._article(arrival)
            self._recent.append(article)
            count += 1
            yield [message(article, arrival, streams)]

    def _revision(self, arrival: int) -> Article | None:
        """An earlier article with more in it; mostly None, also when no whole second has passed since."""
        if self._random.random() >= _REVISION_SHARE or not self._recent:
            return None
        old = self._random.choice(list(self._recent))
        newest = max(article.updated for article in self._recent if article.id == old.id)
        updated = arrival // _SECOND * _SECOND
        if updated <= newest:
            return None
        headline = old.headline.removeprefix("UPDATE: ")
        more = "<p>This story has been updated with a comment from the company.</p>"
        return old._replace(headline=f"UPDATE: {headline}", content=old.content + more, updated=updated)

    def _article(self, arrival: int) -> Article:
        symbols = self._symbols()
        tone = self._random.choices(_TONES, _TONE_WEIGHTS)[0]
        if symbols[0] in self._pairs:
            tone = _COINS
        headline = self._random.choice(tone).format(name=symbols[0])
        summary = f"{headline}. Shares of {symbols[0]} are in focus today."
        if self._random.random() < _ENTITY_SHARE:
            summary = (
                f"{symbols[0]}&#39;s results &amp; outlook: {escape(headline, quote=True)}&nbsp;&hellip;"
            )
        self._next_id += 1
        created = arrival // _SECOND * _SECOND
        return Article(
            self._next_id,
            headline,
            summary,
            "" if self._random.random() < 0.1 else f"<p>{escape(headline)}</p><p>&nbsp;</p><p>More soon.</p>",
            self._random.choice(_AUTHORS),
            "benzinga",
            symbols,
            created,
            created,
        )

    def _symbols(self) -> list[str]:
        chance = self._random.random()
        if self._pairs and (chance < _CRYPTO_SHARE or not self._tickers):
            pair = self._random.choice(self._pairs)
            return [pair, *self._some_tickers(self._random.choice((0, 1, 2)))]
        if chance < _CRYPTO_SHARE + _MANY_SHARE:
            filler = [f"X{number:03d}" for number in range(MANY_SYMBOLS - len(self._tickers))]
            return [*self._tickers, *filler][:MANY_SYMBOLS]
        return self._some_tickers(self._random.choices((1, 2, 3), (7, 2, 1))[0])

    def _some_tickers(self, count: int) -> list[str]:
        return self._random.sample(self._tickers, min(count, len(self._tickers)))
