"""One symbol's minute in the log beside Alpaca's history: equal or not, and how much each has. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from math import isclose
from typing import Any, NamedTuple

TOLERANCE = 1e-9
"""Relative: sums of floats depend on the order of their parts."""


class Sums(NamedTuple):
    """Of the trades that count in a minute: how many (n), and their sizes together (v)."""

    trades: int
    volume: float


class Bar(NamedTuple):
    """The numbers of a minute bar."""

    open: float
    high: float
    low: float
    close: float
    volume: float
    trade_count: int
    vwap: float


class Revised(NamedTuple):
    """A bar of the log; the newest revision is what holds."""

    revision: int
    bar: Bar


@dataclass(frozen=True, slots=True)
class Look:
    """What one comparison saw: events that the history has, and that the log holds."""

    symbol: str
    equal: bool
    expected: int
    held: int


def add_sums(known: Sums | None, more: Sums) -> Sums:
    """The fold of trades."""
    return more if known is None else Sums(known.trades + more.trades, known.volume + more.volume)


def newest(known: Revised | None, other: Revised) -> Revised:
    """The fold of bars."""
    return other if known is None or other.revision >= known.revision else known


def add_contents(known: Counter[Hashable] | None, more: Counter[Hashable]) -> Counter[Hashable]:
    """The fold of quotes."""
    return more if known is None else known + more


def bar_of(message: Mapping[str, Any]) -> Bar:
    """The bar that a message of the history speaks of.

    Raises:
        KeyError: a field is missing that every bar has.
    """
    return Bar(
        message["o"], message["h"], message["l"], message["c"], message["v"],
        message.get("n", 0), message.get("vw", 0.0),
    )  # fmt: skip


def trades(symbol: str, held: Sums | None, bar: Bar) -> Look:
    """The fold of a minute's eligible trades beside its final bar."""
    ours = Sums(0, 0) if held is None else held
    same = ours.trades == bar.trade_count and isclose(ours.volume, bar.volume, rel_tol=TOLERANCE)
    return Look(symbol, same, bar.trade_count, ours.trades)


def trade_lists(symbol: str, held: Sums | None, history: Sums | None) -> Look:
    """The same where there is no bar (trades that set no price make none), nor will be (options): beside
    the history's own trades, folded by the same rule.
    """
    ours, theirs = held or Sums(0, 0), history or Sums(0, 0)
    same = ours.trades == theirs.trades and isclose(ours.volume, theirs.volume, rel_tol=TOLERANCE)
    return Look(symbol, same, theirs.trades, ours.trades)


def bars(symbol: str, held: Revised | None, bar: Bar | None) -> Look:
    """The newest revision of a minute's bar beside the history's."""
    if held is None or bar is None:
        return Look(symbol, held is None and bar is None, int(bar is not None), int(held is not None))
    same = all(isclose(a, b, rel_tol=TOLERANCE) for a, b in zip(held.bar, bar, strict=True))
    return Look(symbol, same, 1, 1)


def contents(symbol: str, held: Counter[Hashable] | None, history: Iterable[Hashable]) -> Look:
    """A minute's quotes as multisets: quotes have no ids, and true repeats are real."""
    ours, theirs = held or Counter(), Counter(history)
    return Look(symbol, ours == theirs, theirs.total(), ours.total())
