"""A flash crash: a drop within a minute that is far beyond the symbol's own minutes. Pure; integers only.

It is seen at the third trade in a row (of those that may set the last price) that stands so deep below the
window's high, since a single print may be a mistake; after it the symbol is quiet for a window.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from processors.signals.tape import BUCKET_NS, PPM, WINDOW, Tape, Trade

FLOOR_PPM = 15_000
"""A drop below 1.5 % is none, however calm the symbol was."""
TIMES = 5
"""The drop must be so many times the usual range of a minute."""
CONFIRMED = 3
"""Trades in a row."""

State = dict[str, Any]


class Crash(NamedTuple):
    """The numbers of one: prices in micro-dollars, drops in ppm of the high."""

    ts: int
    price: int
    high: int
    drop: int
    threshold: int
    usual: int


def empty() -> State:
    """A symbol that has not dropped."""
    return {"n": -1, "usual": None, "deep": 0, "quiet": 0}


def look(state: State, tape: Tape, trade: Trade) -> Crash | None:
    """After the tape has counted a trade: whether that completes a crash."""
    n = tape.newest
    if state["n"] != n:  # what is usual depends on older buckets only
        state["n"], state["usual"] = n, tape.usual_range(n - WINDOW)
    usual = state["usual"]
    if usual is None:
        state["deep"] = 0
        return None
    high = max(bucket.high for bucket in tape.buckets[-WINDOW:] if bucket.n > n - WINDOW)
    drop, threshold = (high - trade.price) * PPM // high, max(FLOOR_PPM, TIMES * usual)
    state["deep"] = state["deep"] + 1 if drop >= threshold else 0
    if state["deep"] < CONFIRMED or trade.ts < state["quiet"]:
        return None
    state["quiet"] = trade.ts + WINDOW * BUCKET_NS
    return Crash(trade.ts, trade.price, high, drop, threshold, usual)
