"""The watchlist score: if these fail, a symbol's score depends on a crash or on the order of arrival."""

from __future__ import annotations

import math

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from processors.sentiment import watchlist
from processors.sentiment.watchlist import Contribution, State

HOUR = 3_600_000_000_000
HALF_LIFE = 6 * HOUR

scores = st.floats(-1, 1, allow_nan=False)
revisions = st.builds(
    lambda article, ts, score: Contribution(f"a{article}", ts, ts, score),
    st.integers(0, 12),
    st.integers(0, 100 * HOUR),
    scores,
)
histories = st.lists(revisions, min_size=1, max_size=40, unique_by=lambda c: (c.article, c.revision))


def folded(history: list[Contribution], kept: int = watchlist.KEPT) -> State:
    state = watchlist.empty()
    for contribution in history:
        watchlist.add(state, contribution, HALF_LIFE, kept)
    return state


def naive(history: list[Contribution]) -> float:
    """The newest revision of each article, each weighed by its age, all at once."""
    newest: dict[str, Contribution] = {}
    for c in history:
        if c.article not in newest or c.revision > newest[c.article].revision:
            newest[c.article] = c
    now = max(c.ts for c in newest.values())
    weights = [0.5 ** ((now - c.ts) / HALF_LIFE) for c in newest.values()]
    return math.fsum(w * c.score for w, c in zip(weights, newest.values(), strict=True)) / math.fsum(weights)


@settings(max_examples=40)
@given(histories, st.randoms())
def test_the_score_is_the_naive_one_in_any_order_of_arrival(
    history: list[Contribution], chance: st.DataObject
) -> None:
    """Revisions replace, whenever they come; a state that went through its changelog is the same state."""
    state = folded(history)
    assert watchlist.score(state, HALF_LIFE) == pytest.approx(naive(history), abs=1e-9)
    assert watchlist.articles(state) == len({c.article for c in history})
    shuffled = list(history)
    chance.shuffle(shuffled)  # type: ignore[attr-defined]
    other = folded(shuffled)
    assert watchlist.score(other, HALF_LIFE) == pytest.approx(watchlist.score(state, HALF_LIFE), abs=1e-9)
    assert orjson.loads(orjson.dumps(state)) == state
    assert watchlist.newest_ts(state) == watchlist.newest_ts(other)


@settings(max_examples=40)
@given(st.lists(st.tuples(st.integers(0, 4_000 * HOUR), scores), min_size=1, max_size=40), st.randoms())
def test_settled_articles_still_weigh_and_the_state_stays_small(
    history: list[tuple[int, float]], chance: st.DataObject
) -> None:
    """A symbol with a hundred articles a day must not make a row that grows for ever."""
    contributions = [Contribution(f"a{i}", ts, ts, score) for i, (ts, score) in enumerate(history)]
    expected = naive(contributions)
    chance.shuffle(contributions)  # type: ignore[attr-defined]
    state = folded(contributions, kept=3)
    assert watchlist.score(state, HALF_LIFE) == pytest.approx(expected, abs=1e-9)
    assert -1 <= watchlist.score(state, HALF_LIFE) <= 1
    assert len(state["recent"]) <= 3
    assert watchlist.articles(state) == len(history)


def test_repeats_and_older_revisions_change_nothing() -> None:
    """An article sent twice is one article."""
    state = watchlist.empty()
    new, old = Contribution("a", 9, 9, 0.5), Contribution("a", 5, 5, -1.0)
    assert watchlist.add(state, new, HALF_LIFE) == "applied"
    before = orjson.dumps(state)
    assert watchlist.add(state, new, HALF_LIFE) == "duplicate"
    assert watchlist.add(state, old, HALF_LIFE) == "late"
    assert orjson.dumps(state) == before


def test_an_article_of_one_half_life_ago_counts_half() -> None:
    """What the setting says: 6 hours old news counts half."""
    state = folded([Contribution("old", 1, 0, -1.0), Contribution("new", 1, HALF_LIFE, 1.0)])
    assert watchlist.score(state, HALF_LIFE) == pytest.approx((1 - 0.5) / 1.5)
    state = folded([Contribution("old", 1, 0, -1.0), Contribution("new", 1, 5000 * HALF_LIFE, 1.0)])
    assert watchlist.score(state, HALF_LIFE) == 1
