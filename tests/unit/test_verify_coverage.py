"""If these fail, `tidewire gaps` and `verify` call a minute audited that is missing or lost."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import gaps
from schemas.gaps import Gap
from verify.coverage import MINUTE, WORDS, Coverage, cover, minutes_of

SYMBOLS = ["A", "B"]
minutes = st.integers(0, 6)


@st.composite
def gap_records(draw: st.DrawFn) -> Gap:
    start = draw(minutes)
    end = draw(st.none() | st.integers(start, 7))
    state = draw(st.sampled_from([gaps.OPENED, gaps.CLOSED])) if end is not None else gaps.OPENED
    lost = state == gaps.CLOSED and draw(st.booleans())
    ts = draw(st.integers(1, 1000)) * 2
    return Gap(
        id=str(draw(st.integers())), feed="stocks:iex", channel="trades",
        symbols=draw(st.sampled_from([("A",), ("A", "B"), ("*",)])),
        reason=draw(st.sampled_from([gaps.AUDIT, gaps.DISCONNECT])), opened_ts=1, from_ts=start * MINUTE + 5,
        until_ts=None if end is None else end * MINUTE + 6, state=state, ts=ts,
        unrecoverable=("trades",) if lost else (),
    )  # fmt: skip


@st.composite
def audit_records(draw: st.DrawFn) -> dict[str, Any]:
    symbols = draw(st.lists(st.sampled_from(SYMBOLS), min_size=1, unique=True))
    differing = [s for s in symbols if draw(st.booleans())]
    audited = draw(st.integers(1, 1000)) * 2 + 1
    return {
        "ts": draw(minutes) * MINUTE,
        "symbols": symbols,
        "differing": differing,
        "audited_ts": audited,
    }


def naive(
    data: set[tuple[str, int]], holes: list[Gap], audits: list[dict[str, Any]], symbol: str, n: int, now: int
) -> str | None:
    """One symbol and minute by itself, word by word as the documents say it."""
    start = n * MINUTE
    mine = [
        g
        for g in holes
        if (symbol in g.symbols or "*" in g.symbols)
        and g.from_ts < start + MINUTE
        and (max(g.from_ts, now) if g.until_ts is None else g.until_ts) >= start
    ]
    looks = [a for a in audits if symbol in a["symbols"] and a["ts"] == start]
    look = max(looks, key=lambda a: a["audited_ts"], default=None)
    if any(g.state != gaps.CLOSED for g in mine):
        return "gap"
    last = max(mine, key=lambda g: (g.ts, bool(g.unrecoverable)), default=None)
    equal = look is not None and symbol not in look["differing"]
    if last is not None and last.unrecoverable and not (equal and look and look["audited_ts"] > last.ts):
        return "unrecoverable"
    if look is None:
        return "received" if (symbol, n) in data else None
    if equal:
        return "audited"
    repaired = last is not None and any(g.reason == gaps.AUDIT for g in mine)
    return "unrecoverable" if repaired and last and last.ts <= look["audited_ts"] else "gap"


def frame(data: set[tuple[str, int]]) -> pl.DataFrame:
    rows = [(symbol, n * MINUTE + 17) for symbol, n in data]
    return minutes_of(pl.DataFrame(rows, schema={"symbol": pl.String, "ts": pl.Int64}, orient="row"))


@given(
    st.sets(st.tuples(st.sampled_from(SYMBOLS), minutes)),
    st.lists(gap_records(), max_size=4),
    st.lists(audit_records(), max_size=5, unique_by=lambda a: a["audited_ts"]),
)
@settings(max_examples=60)
def test_the_words_are_those_of_a_naive_look_at_each_minute(
    data: set[tuple[str, int]], holes: list[Gap], audits: list[dict[str, Any]]
) -> None:
    found = cover(frame(data), holes, audits)
    words = {(s, m // MINUTE): w for s, m, w in found.states.iter_rows()}
    known = {s for s, _ in data} | {s for a in audits for s in a["symbols"]}
    now = max((n * MINUTE for _, n in data), default=0)
    for symbol in sorted(known):
        for n in range(8):
            assert words.get((symbol, n)) == naive(data, holes, audits, symbol, n, now), (symbol, n)
    assert sum(found.totals().values()) == found.states.height


@given(
    st.dictionaries(st.tuples(st.sampled_from(SYMBOLS), minutes), st.sampled_from(WORDS), max_size=12),
)
@settings(max_examples=40)
def test_intervals_hold_exactly_the_minutes(words: dict[tuple[str, int], str]) -> None:
    """A compressed list must not cover a minute that has another word."""
    rows = [(s, n * MINUTE, w) for (s, n), w in words.items()]
    shape = {"symbol": pl.String, "minute": pl.Int64, "word": pl.String}
    found = Coverage(pl.DataFrame(rows, schema=shape, orient="row")).intervals()
    back = {(i.symbol, m // MINUTE): i.word for i in found for m in range(i.from_ts, i.until_ts, MINUTE)}
    assert back == words
    assert sum(i.minutes for i in found) == len(words)
    for one, other in pairwise(found):
        assert (one.symbol, one.word, one.until_ts) != (other.symbol, other.word, other.from_ts)


def test_a_gap_is_followed_no_further_than_anything_was_sent() -> None:
    """A gap of years (a recording that was broken off) must not take the report's memory."""
    year = 365 * 86_400_000_000_000
    noon = 40 * year
    data = pl.DataFrame({"symbol": ["A", "A"], "minute": [noon, noon + 9 * MINUTE]})
    (gap,) = gaps.opened(
        "stocks:iex",
        "trades",
        ["A"],
        gaps.RESTART,
        noon - year,
        noon,
        until_ts=noon + 13 * year,
        owner_epoch=1,
    )
    covered = cover(data, [gap], [], span=(noon, noon + 9 * MINUTE))
    assert covered.totals() == {"audited": 0, "received": 0, "gap": 10, "unrecoverable": 0}
