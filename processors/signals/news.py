"""A news spike: an article's score far from those before, and a price or volume that answers. Pure.

Articles and trades come in topics of their own, in any interleaving. An article's jump depends on articles
alone, the reaction on closed buckets of the tape alone; so where and when they meet changes nothing, unless
an article comes so late that its buckets are forgotten. Integers only; scores are thousandths.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

from processors.signals.tape import BUCKET_NS, PPM, PRIOR, WINDOW, Bucket, Tape

JUMP = 400
"""Thousandths by which a score must differ from the mean of those before."""
REMEMBERED = 20
"""Articles whose scores make the mean."""
REACTION = 24
"""Buckets, from the article's own on, in which something may answer: two minutes."""
FLOOR_PPM, TIMES = 3_000, 2
"""A price answers by so much, and by so many times the usual range of a minute."""
VOLUME_TIMES, VOLUME_BUCKETS = 3, 6
"""A volume answers by so many times the usual, after so many buckets: trades come in bursts."""
PENDING = 16

State = dict[str, Any]
Verdict = Literal["applied", "duplicate", "filtered", "late"]


class Article(NamedTuple):
    """What one analyzer says; `name` is the same for all revisions, `score` in thousandths, times in ns."""

    name: str
    ts: int
    score: int
    received_ts: int
    source: str


class Spike(NamedTuple):
    """Its numbers: scores in thousandths, prices in micro-dollars, moves in ppm, volumes in millionths."""

    ts: int
    article: str
    article_ts: int
    jump: int
    mean: int
    score: int
    before: int
    price: int
    move: int
    move_threshold: int
    volume: int
    volume_threshold: int
    by: str
    received_ts: int
    source: str


def empty() -> State:
    """A symbol without articles."""
    return {"scores": [], "pending": []}


def take(state: State, article: Article, tape: Tape) -> Verdict:
    """Note an article. duplicate: a revision of it is known; late: what it met is forgotten."""
    scores: list[list[Any]] = state["scores"]
    if any(name == article.name for _, name, _ in scores):
        return "duplicate"
    mean = sum(score for _, _, score in scores) // len(scores) if scores else 0
    scores.append([article.ts, article.name, article.score])
    scores.sort()
    del scores[:-REMEMBERED]
    jump, n = article.score - mean, article.ts // BUCKET_NS
    if abs(jump) < JUMP:
        return "filtered"
    if not tape.knows(n - PRIOR * WINDOW):
        return "late"
    pending: list[list[Any]] = state["pending"]
    pending.append([n, jump, mean, *article])  # begins with the bucket that is to be looked at next
    return "late" if len(pending) > PENDING and pending.pop(0) else "applied"


def look(state: State, tape: Tape) -> list[Spike]:
    """What closed buckets answer to the articles that wait; those whose time is over are let go."""
    found, waiting = [], []
    for entry in state["pending"]:
        n, jump, mean, *fields = entry
        article, spike = Article(*fields), None
        end = article.ts // BUCKET_NS + REACTION
        for bucket in tape.between(n, min(end, tape.newest) - 1):
            spike = _answer(tape, bucket, article, jump, mean)
            if spike is not None:
                found.append(spike)
                break
        if spike is None and tape.newest < end:
            waiting.append([max(n, tape.newest), jump, mean, *fields])
    state["pending"] = waiting
    return found


def _answer(tape: Tape, bucket: Bucket, article: Article, jump: int, mean: int) -> Spike | None:
    """Whether the tape has answered with the end of a closed bucket."""
    first = article.ts // BUCKET_NS
    prior = tape.between(first - PRIOR * WINDOW, first - 1)
    usual = tape.usual_range(first - 1)
    if usual is None:
        return None
    before, length = prior[-1].last, bucket.n - first + 1
    move = (bucket.last - before) * PPM // before
    move_threshold = max(FLOOR_PPM, TIMES * usual)
    volume = sum(b.size for b in tape.between(first, bucket.n))
    volume_threshold = VOLUME_TIMES * sum(b.size for b in prior) * length // (PRIOR * WINDOW)
    by_price = abs(move) >= move_threshold and (move > 0) == (jump > 0)
    by_volume = length >= VOLUME_BUCKETS and volume >= volume_threshold > 0
    if not (by_price or by_volume):
        return None
    newest = bucket if bucket.received_ts >= article.received_ts else article
    return Spike(
        (bucket.n + 1) * BUCKET_NS,
        article.name,
        article.ts,
        jump,
        mean,
        article.score,
        before,
        bucket.last,
        move,
        move_threshold,
        volume,
        volume_threshold,
        "price" if by_price else "volume",
        newest.received_ts,
        newest.source,
    )
