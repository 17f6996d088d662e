"""The default analyzer: words of a finance lexicon, with negation, degree and movements. Deterministic.

Good and bad are added up apart, the headline's words weighing more than the summary's and the content's, and
the score is (good - bad) / (good + bad + 1): one strong word is not yet certainty, and an article that says
both stands between. Confidence grows with what was found, and is 0 where nothing was.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

from processors.sentiment import words
from processors.sentiment.article import Article, Score

HEADLINE, SUMMARY, CONTENT = 1.0, 0.35, 0.1
"""How much a word weighs where."""
_CHARACTERS = 4_000  # of each part: an article says at its beginning what it is about
_REACH = 3  # tokens that a negation reaches ahead
_SPAN = 6  # tokens between "beats" and "estimates"
_LONGEST = max(len(phrase.split()) for phrase in words.PHRASES)

_TOKEN = re.compile(r"[a-z]+(?:['-][a-z]+)*|\d+-week|\d[\d,.]*%?|[.;:?!]")
_CLAUSE_ENDS = frozenset(".;:?!")
_PHRASES = {tuple(phrase.split()): strength for phrase, strength in words.PHRASES.items()}
_BEFORE = frozenset({"after", "despite", "amid", "from"})
_BACKGROUND_DEGREE = 0.5
_BUT = frozenset({"but", "however", "despite", "although", "though"})


def analyze(article: Article) -> Score:
    """The same score for every symbol of the article."""
    good = bad = 0.0
    found: list[str] = []
    parts = ((article.headline, HEADLINE), (article.summary, SUMMARY), (article.content, CONTENT))
    for text, weight in parts:
        for strength, words_ in signals(text[:_CHARACTERS]):
            good += weight * max(0.0, strength)
            bad += weight * max(0.0, -strength)
            found.append(f"{words_} {strength:+g}")
    score = (good - bad) / (good + bad + 1)
    return Score(score, confidence=1 - 1 / (1 + good + bad), detail={"found": found[:20]} if found else None)


def signals(text: str) -> list[tuple[float, str]]:
    """What each word or phrase of a text says: positive is good; and the words."""
    tokens = _TOKEN.findall(text.lower().replace("\u2019", "'"))
    found, i = [], 0
    while i < len(tokens):
        length, strength = _at(tokens, i)
        if strength:
            spoken = round(strength * _degree(tokens, i, length), 3)
            found.append((-0.8 * spoken if _negated(tokens, i) else spoken, " ".join(tokens[i : i + length])))
        i += length
    return found


def _at(tokens: Sequence[str], i: int) -> tuple[int, float]:
    """How many tokens from `i` on belong together, and what they say."""
    for length in range(min(_LONGEST, len(tokens) - i), 1, -1):
        phrase = _PHRASES.get(tuple(tokens[i : i + length]))
        if phrase is not None:
            return length, phrase
    return 1, _word(tokens, i)


def _word(tokens: Sequence[str], i: int) -> float:
    token = tokens[i]
    if (token in words.ABOVE or token in words.BELOW) and _compares(tokens, i):
        return 3.0 if token in words.ABOVE else -3.0
    moves = _moves(token)
    if moves:
        return -moves if _burdened(tokens, i) else moves
    if token in words.BURDENS and any(map(_moves, (*tokens[max(0, i - 1) : i], *tokens[i + 1 : i + 2]))):
        return 0.0  # the movement says it
    return words.GOOD.get(token, 0.0) - words.BAD.get(token, 0.0)


def _moves(token: str) -> float:
    return words.UP.get(token, 0.0) - words.DOWN.get(token, 0.0)


def _compares(tokens: Sequence[str], i: int) -> bool:
    """Whether results are compared with a measure after this word, in the same clause."""
    for token in tokens[i + 1 : i + 1 + _SPAN]:
        if token in words.MEASURES:
            return True
        if token in _CLAUSE_ENDS:
            return False
    return False


def _burdened(tokens: Sequence[str], i: int) -> bool:
    """Whether what moves is a burden: `losses narrow`, `costs rise`, `falling debt`."""
    before, after = tokens[max(0, i - 2) : i], tokens[i + 1 : i + 2]
    return any(token in words.BURDENS for token in (*before, *after))


def _degree(tokens: Sequence[str], i: int, length: int) -> float:
    near = (*tokens[max(0, i - 1) : i], *tokens[i + length : i + length + 1])
    factor = 1.0
    if any(token in words.INTENSIFIERS for token in near):
        factor *= 1.4
    if any(token in words.DAMPENERS for token in near):
        factor *= 0.7
    percent = next((p for p in map(_percent, tokens[i + length : i + length + 3]) if p is not None), None)
    if percent is not None:
        factor *= 1.2 if percent < 5 else 1.6
    return factor * _BACKGROUND_DEGREE if _in_background(tokens, i) else factor


def _in_background(tokens: Sequence[str], i: int) -> bool:
    """Whether it is what went before (`falls after a record high`), or only asked."""
    begin = next((j + 1 for j in range(i - 1, -1, -1) if tokens[j] in _CLAUSE_ENDS), 0)
    end = next((j for j in range(i, len(tokens)) if tokens[j] in _CLAUSE_ENDS), len(tokens))
    asked = end < len(tokens) and tokens[end] == "?"
    return asked or any(token in _BEFORE for token in tokens[max(begin, 1) : i])


@lru_cache(maxsize=4096)
def _percent(token: str) -> float | None:
    if not token.endswith("%"):
        return None
    try:
        return float(token[:-1].replace(",", ""))
    except ValueError:
        return None


def _negated(tokens: Sequence[str], i: int) -> bool:
    for token in reversed(tokens[max(0, i - _REACH) : i]):
        if token in _CLAUSE_ENDS or token in _BUT:
            return False
        if token in words.NEGATIONS:
            return True
    return False
