"""The watchlist score of one symbol: the mean of its articles' scores, newer ones weighing more. Pure.

An article made `age` before the newest one weighs 2^(-age / half life); the score is the weighted sum divided
by the sum of the weights. So it stays within -1..1, as of the newest article, and neither where a batch ends
nor the order of arrival matters, up to rounding. Without news it fades: a reader at a later time halves it
once every half life. An analyzer's confidence does not weigh.

An article counts once, with its newest revision. To replace an older one, the last contribution of the newest
`KEPT` articles is kept; older ones are settled: added up in two sums, as of the newest settled article. A
revision of a settled article counts as one more article; so old, or among so many, it hardly weighs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

KEPT = 128
"""Articles of a symbol whose newest revision is known."""

State = dict[str, Any]
"""`recent`: article -> [ts, revision, score]; `settled`: [ts, weighted sum, sum of weights, articles]."""

Verdict = Literal["applied", "duplicate", "late"]


@dataclass(frozen=True, slots=True)
class Contribution:
    """What one article revision says of the symbol. `article` names it whatever its revision; `ts` in ns."""

    article: str
    revision: int
    ts: int
    score: float


def empty() -> State:
    """A symbol without articles."""
    return {"recent": {}, "settled": [0, 0.0, 0.0, 0]}


def add(state: State, new: Contribution, half_life_ns: float, kept: int = KEPT) -> Verdict:
    """Fold one contribution. duplicate: this revision is folded already; late: a newer one is."""
    recent: dict[str, list[Any]] = state["recent"]
    former = recent.get(new.article)
    if former is not None and new.revision <= former[1]:
        return "duplicate" if new.revision == former[1] else "late"
    recent[new.article] = [new.ts, new.revision, new.score]
    while len(recent) > kept:
        oldest = min(recent, key=lambda article: (recent[article][0], article))
        ts, _, score = recent.pop(oldest)
        state["settled"] = _settle(state["settled"], ts, score, half_life_ns)
    return "applied"


def _settle(settled: list[Any], ts: int, score: float, half_life_ns: float) -> list[Any]:
    at, weighted, weights, articles = settled
    newest = max(at, ts) if articles else ts
    fade, weight = _weight(newest - at, half_life_ns), _weight(newest - ts, half_life_ns)
    return [newest, weighted * fade + score * weight, weights * fade + weight, articles + 1]


def newest_ts(state: State) -> int:
    """Event time (ns) that the score is as of: that of the newest article."""
    return max(int(entry[0]) for entry in state["recent"].values())


def articles(state: State) -> int:
    """How many articles are folded."""
    return len(state["recent"]) + int(state["settled"][3])


def score(state: State, half_life_ns: float) -> float:
    """The score as of `newest_ts`, -1 to 1; at least one article must be folded."""
    now = newest_ts(state)
    at, weighted, weights, _ = state["settled"]
    fade = _weight(now - at, half_life_ns)
    parts = [(value, _weight(now - ts, half_life_ns)) for ts, _, value in state["recent"].values()]
    total = math.fsum([weighted * fade, *(value * weight for value, weight in parts)])
    mean = total / math.fsum([weights * fade, *(weight for _, weight in parts)])  # the newest weighs 1
    return min(1.0, max(-1.0, mean)) + 0.0


def _weight(age_ns: int, half_life_ns: float) -> float:
    return float(2.0 ** -(age_ns / half_life_ns))
