"""Entries of feeds become articles: a wrong ticker scores the wrong stock, a wrong id repeats an article at
every look.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from producers.rss.articles import content, host
from producers.rss.similar import Article, alike, words
from producers.rss.tickers import tickers
from tidewire.errors import RecordError

SECOND = 10**9
NOW = 1_763_740_800 * SECOND


def entry(**other: Any) -> dict[str, Any]:
    return {
        "id": "guid-1", "link": "https://example.com/1", "headline": "Apple (NASDAQ: AAPL) rises",
        "summary": "s", "content": "<p>Also $MSFT</p>", "author": "Ann", "published": NOW - 60 * SECOND,
        "updated": None, "categories": [], **other,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("$AAPL and $BRK.B, not $5 or US$ or $aapl or $TOOLONG", ["AAPL", "BRK.B"]),
        ("Apple (NASDAQ: AAPL) beats Ford (NYSE:F)", ["AAPL", "F"]),
        ("Two (NYSE: BRK.A, BRK.B; NasdaqGS: GOOG)", ["BRK.A", "BRK.B", "GOOG"]),
        ("UEC (NYSE American: UEC) and again $UEC", ["UEC"]),
        ("IT IS ALL ON FOR A (CEO: TIM) (TSX: SHOP) NASDAQ: AAPL", []),
        ("lower (nasdaq: aapl)", []),
        ("", []),
    ],
)
def test_tickers_are_found_by_the_stated_rules_and_never_guessed(text: str, found: list[str]) -> None:
    """A capital word taken for a ticker would move the score of a company that nobody wrote about."""
    assert tickers(text) == found


@settings(max_examples=25)
@given(st.text(alphabet="AB$(): ,NYSE.", max_size=200))
def test_any_text_has_tickers_each_once_and_few(text: str) -> None:
    """Feeds are anybody's text; it must not end or flood the service."""
    found = tickers(text)
    assert len(found) == len(set(found)) <= 50
    assert all(f in text for f in found)


def test_an_entry_becomes_the_same_record_at_every_look() -> None:
    """An id that changed from look to look would publish each article once a minute."""
    first, later = (content(entry(), "example.com", at) for at in (NOW, NOW + 3600 * SECOND))
    assert first == later
    assert (first["id"], first["provider"], first["revision"]) == ("guid-1", "example.com", NOW - 60 * SECOND)
    assert first["symbols"] == ["AAPL", "MSFT"]
    assert content(entry(id=""), "example.com", NOW)["id"] == "https://example.com/1"
    updated = content(entry(updated=NOW - SECOND), "example.com", NOW)
    assert (updated["revision"], updated["created_ts"]) == (NOW - SECOND, NOW - 60 * SECOND)


@pytest.mark.parametrize(
    "bad",
    [
        {"link": "javascript:alert(1)"}, {"link": "data:text/html,x"}, {"id": "", "link": ""},
        {"headline": ""}, {"headline": "x" * 3000}, {"content": "x" * 1_000_001},
        {"published": NOW + 90_000 * SECOND}, {"published": 5}, {"author": "\ud800"},
        {"categories": ["\ud800"]},
    ],
)  # fmt: skip
def test_an_entry_that_is_hostile_is_refused_with_a_reason(bad: dict[str, Any]) -> None:
    """A javascript: link that got into the log would run in whatever page shows the news."""
    with pytest.raises(RecordError):
        content(entry(**bad), "example.com", NOW)


def test_a_provider_is_the_host_alone() -> None:
    """Feeds' URLs hold tokens; a record or a metric with one would give it to every reader."""
    assert host("https://user:token@news.example.com:8443/rss?key=secret") == "news.example.com"


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("Apple’s Q4 revenue rises 8% to $94.9B", "APPLES Q4 REVENUE RISES 8% TO $94.9B!", True),
        ("Apple Q4 revenue rises 8% on iPhone sales", "Apple Q4 revenue rises 9% on iPhone sales", False),
        ("Fed holds rates steady for third meeting", "Fed holds rates steady, third meeting", True),
        ("Tesla recalls cars", "Tesla recalls trucks", False),
        ("Société Générale beats", "Societe Generale beats", True),
        ("Boeing to sell its drone unit to a rival", "Airbus to buy a drone unit from a rival firm", False),
        ("", "", False),
        ("!!!", "???", False),
    ],
)  # fmt: skip
def test_headlines_are_alike_when_they_say_the_same(one: str, other: str, same: bool) -> None:
    """Too strict and every article is scored twice; too loose and news is dropped as a copy."""
    assert alike(words(one), words(other)) is same
    assert alike(words(other), words(one)) is same


headlines = st.lists(st.sampled_from(list("abcdef12")), max_size=9)


@settings(max_examples=40)
@given(headlines, headlines)
def test_likeness_is_the_stated_rule(one: list[str], other: list[str]) -> None:
    """Against the rule written out plainly."""
    both, either = set(one) & set(other), set(one) | set(other)
    long = len(one) >= 5 and len(other) >= 5
    numbers = {"1", "2"}
    expected = (one == other and bool(one)) or (
        long and set(one) & numbers == set(other) & numbers and len(both) / max(len(either), 1) >= 0.8
    )
    assert alike(tuple(one), tuple(other)) == expected


def test_the_fields_of_an_article_are_those_that_say_something() -> None:
    """The quality comparison would praise a source for empty texts."""
    made = content(entry(summary="", author=""), "h", NOW)
    assert Article.of({**made, "source": "rss", "received_ts": 1}).fields == {
        "headline",
        "content",
        "symbols",
    }
