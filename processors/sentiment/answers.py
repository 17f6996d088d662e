"""An analyzer's answer, checked: nothing that it says goes into the log unread. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import orjson

from processors.sentiment.article import Score

LONGEST_DETAIL = 64 * 1024
"""Bytes of a detail as JSON."""


class AnswerError(Exception):
    """An answer that cannot be used; the message says why."""


def checked(answer: object, symbols: Sequence[str]) -> dict[str, Score]:
    """The score of each symbol, in the article's order; symbols that the answer leaves out are missing.

    Raises:
        AnswerError: it is no Score or mapping of them, names another symbol, or a number is out of range.
    """
    if isinstance(answer, Score):
        sound = _checked_score(answer)
        return dict.fromkeys(symbols, sound)
    if not isinstance(answer, Mapping):
        raise AnswerError(f"it answered {_shown(answer)}, not a Score or a mapping of symbols to Scores")
    unknown = [symbol for symbol in answer if symbol not in symbols]
    if unknown:
        raise AnswerError(f"it scored {_shown(unknown[0])}, which is no symbol of the article")
    return {symbol: _checked_score(answer[symbol], symbol) for symbol in symbols if symbol in answer}


def _checked_score(score: object, symbol: str = "") -> Score:
    where = f" of {symbol}" if symbol else ""
    if not isinstance(score, Score):
        raise AnswerError(f"the score{where} is {_shown(score)}, not a Score")
    value = _number(score.score, f"score{where}", -1)
    confidence = None if score.confidence is None else _number(score.confidence, f"confidence{where}", 0)
    detail_json(score)
    return Score(value, confidence, score.detail)


def _number(value: object, name: str, lowest: int) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise AnswerError(f"{name} is {_shown(value)}, not a number")
    if not math.isfinite(value) or not lowest <= value <= 1:
        raise AnswerError(f"{name} {value!r} is not between {lowest} and 1")
    return float(value) + 0.0  # no negative zero


def detail_json(score: Score) -> str | None:
    """The detail as a JSON object.

    Raises:
        AnswerError: it is no mapping, too long, or holds what JSON cannot.
    """
    if score.detail is None:
        return None
    if not isinstance(score.detail, Mapping):
        raise AnswerError(f"detail is {_shown(score.detail)}, not a mapping")
    try:
        text = orjson.dumps(dict(score.detail), option=orjson.OPT_SORT_KEYS)
    except TypeError as error:  # orjson's own errors are TypeErrors
        raise AnswerError(f"detail cannot be written as JSON: {error}") from error
    if len(text) > LONGEST_DETAIL:
        raise AnswerError(f"detail has {len(text):,} bytes, at most {LONGEST_DETAIL:,} are kept")
    return text.decode()


def _shown(value: object) -> str:
    try:
        return repr(value)[:100]
    except Exception:  # a stranger's object: its repr may do anything
        return f"a {type(value).__name__}"
