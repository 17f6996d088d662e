"""The default analyzer: if these fail, good news counts as bad, or markup counts as words."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.sentiment import LABELS, figures
from processors.sentiment.article import Article, article_of, plain_text
from processors.sentiment.lexicon import analyze


def score(headline: str, summary: str = "", content: str = "") -> float:
    return analyze(Article("1", "benzinga", headline, summary, content, ("AAPL",), 0)).score


@pytest.mark.parametrize(
    "headline",
    [
        "Apple beats Q3 estimates, raises guidance",
        "Shares up 5% after upgrade",
        "Losses narrow as costs fall",
        "Tesla hits record high",
        "Drugmaker wins FDA approval",
        "Sensex surges 400 points, banks rally",
    ],
)
def test_good_news_is_good(headline: str) -> None:
    """Results above estimates, movements up, burdens that shrink."""
    assert score(headline) > 0.3


@pytest.mark.parametrize(
    "headline",
    [
        "Apple misses Q3 estimates, cuts guidance",
        "Shares down 5% after downgrade",
        "Losses widen as debt rises",
        "Retailer files for Chapter 11 bankruptcy",
        "Company falls short of expectations",
        "Regulator probes lender over fraud",
    ],
)
def test_bad_news_is_bad(headline: str) -> None:
    """Results below estimates, movements down, burdens that grow."""
    assert score(headline) < -0.3


def test_what_says_nothing_is_neutral_and_without_confidence() -> None:
    """Else every announcement would move the watchlist."""
    found = analyze(Article("1", "x", "Company to hold annual meeting on Tuesday", "", "", ("A",), 0))
    assert (found.score, found.confidence, found.detail) == (0, 0, None)


def test_negation_turns_around_degree_counts_and_the_headline_weighs_most() -> None:
    """`not profitable` is no praise; 12% is more than 1%; a headline outweighs a word in the text."""
    assert score("Start-up is not profitable") < 0 < score("Start-up is profitable")
    assert score("Shares rise 12%") > score("Shares rise 1%") > score("Shares may rise")
    assert score("Shares plunge", "A rally ended") < 0
    assert score("Company reports results", "Shares plunge") < score("Company reports results") == 0


def test_markup_and_entities_are_no_words() -> None:
    """Alpaca's content is HTML, its summaries hold entities, some of them escaped twice."""
    text = "<p>R&amp;D of AT&amp;amp;T&#39;s unit</p><script>loss()</script><!-- fraud --><b>ri</b>ses"
    assert plain_text(text) == "R&D of AT&T's unit rises"
    assert plain_text("profit <5% & rising > costs") == "profit <5% & rising > costs"
    record = {
        "id": "1",
        "provider": "b",
        "headline": "Apple&#39;s",
        "summary": "",
        "content": "<div>a</div>b",
    }
    article = article_of(record | {"symbols": ["A", "B", "A", ""], "ts": 5})
    assert (article.headline, article.content, article.symbols) == ("Apple's", "a b", ("A", "B"))


@given(st.text(max_size=300), st.text(max_size=300))
def test_any_text_gets_a_score_in_range_always_the_same(headline: str, content: str) -> None:
    """No text may end the processor."""
    article = Article("1", "x", plain_text(headline), "", plain_text(content), ("A",), 0)
    found = analyze(article)
    assert math.isfinite(found.score)
    assert -1 <= found.score <= 1
    assert found.confidence is not None
    assert 0 <= found.confidence <= 1
    assert analyze(article) == found


def test_the_figures_of_the_measurement() -> None:
    """Accuracy and F1 as they are defined, or the decision rests on wrong numbers."""
    rows = [("a", "positive"), ("b", "positive"), ("c", "negative"), ("d", "neutral")]
    accuracy, macro, each = figures(rows, lambda h: "positive" if h in "ac" else "neutral")
    assert accuracy == 0.5
    assert each == {"positive": 0.5, "neutral": pytest.approx(2 / 3), "negative": 0.0}
    assert macro == pytest.approx(sum(each.values()) / len(LABELS))
