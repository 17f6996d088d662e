"""If these fail, an audit calls equal what differs: a lost trade, bar or quote is never found."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from producers.audit import comparison, decoding, findings
from producers.audit.articles import Article, Articles
from producers.audit.asking import requests
from producers.audit.cases import SETTLE_NS, Case, Extent, Next
from producers.audit.comparison import Bar, Look, Revised, Sums
from producers.audit.findings import Place
from producers.audit.minutes import MINUTE
from schemas import gaps
from schemas.trade_conditions import counts_in_minute
from tidewire.fence import LogFence

BAR = Bar(1.0, 2.0, 0.5, 1.5, 100, 3, 1.25)

trade_rows = st.lists(
    st.fixed_dictionaries(
        {
            "symbol": st.sampled_from(["A", "B"]),
            "ts": st.integers(0, 3 * MINUTE - 1),
            "size": st.integers(1, 500),
            "conditions": st.sampled_from([[], ["@"], ["@", "I"], ["M"], ["Q"], ["9"], [" ", "B"]]),
            "tape": st.sampled_from(["A", "C"]),
            "source": st.sampled_from(["ws", "rest"]),
            "owner_epoch": st.integers(1, 2),
        }
    ),
    max_size=30,
)
TRADE_SHAPE: dict[str, Any] = {
    "symbol": pl.String, "ts": pl.Int64, "size": pl.Int64, "conditions": pl.List(pl.String),
    "tape": pl.String,
    "source": pl.String, "owner_epoch": pl.Int64,
}  # fmt: skip


def frame(rows: list[dict[str, Any]]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=TRADE_SHAPE)


@given(trade_rows)
@settings(max_examples=60)
def test_trades_in_columns_are_the_sums_of_those_that_count(rows: list[dict[str, Any]]) -> None:
    """Held against one trade at a time: which count, in which minute, and that a stale owner's do not."""
    kept, stale = decoding.owned(frame(rows), np.arange(len(rows), dtype=np.int64) + 7, LogFence())
    found: dict[tuple[int, str], Sums] = {}
    first: dict[tuple[int, str], int] = {}
    for piece in decoding.trade_pieces(kept):
        place = (piece.minute, piece.symbol)
        found[place] = comparison.add_sums(found.get(place), piece.value)
        first[place] = min(piece.offset, first.get(place, piece.offset))
    expected: dict[tuple[int, str], Sums] = {}
    offsets: dict[tuple[int, str], int] = {}
    greatest = dropped = 0
    for offset, row in enumerate(rows, 7):
        if row["source"] == "ws":
            if row["owner_epoch"] < greatest:
                dropped += 1
                continue
            greatest = row["owner_epoch"]
        place = (row["ts"] // MINUTE * MINUTE, row["symbol"])
        counts = counts_in_minute(tuple(row["conditions"]), row["tape"])
        known = expected.get(place, Sums(0, 0))
        expected[place] = Sums(known.trades + counts, known.volume + row["size"] * counts)
        offsets.setdefault(place, offset)
    assert (found, first, stale) == (expected, offsets, dropped)


def test_the_history_counts_trades_as_the_log_does() -> None:
    """Where there is no bar, both sides must leave out the same prints."""
    message = {"S": "A", "t": MINUTE + 5, "s": 10, "c": ["@"], "z": "C"}
    messages = [message, {**message, "c": ["M"]}, {**message, "t": 2 * MINUTE}]
    sums = {(MINUTE, "A"): Sums(1, 10), (2 * MINUTE, "A"): Sums(1, 10)}
    assert decoding.history_sums("stocks", messages) == sums
    assert decoding.history_sums("crypto", messages)[MINUTE, "A"] == Sums(2, 20)


@pytest.mark.parametrize(
    ("held", "bar", "equal"),
    [
        (Sums(3, 100), BAR, True),
        (Sums(3, 100 * (1 + 1e-12)), BAR, True),
        (Sums(2, 100), BAR, False),
        (Sums(3, 99), BAR, False),
        (None, BAR, False),
        (None, BAR._replace(trade_count=0, volume=0.0), True),  # crypto: made of quotes alone
    ],
)
def test_trades_beside_a_bar(held: Sums | None, bar: Bar, equal: bool) -> None:
    """One lost print, or a wrong size, differs."""
    assert comparison.trades("A", held, bar).equal is equal


def test_bars_differ_by_any_number_and_by_being_there() -> None:
    """A bar lost, or a lost correction of one, differs."""
    held = Revised(1, BAR)
    assert comparison.bars("A", held, BAR).equal
    assert comparison.bars("A", None, None).equal
    assert not comparison.bars("A", None, BAR).equal
    assert not comparison.bars("A", held, None).equal
    for name in Bar._fields:
        assert not comparison.bars("A", held, BAR._replace(**{name: 77})).equal
    assert comparison.newest(held, Revised(0, BAR._replace(close=9))) is held


def test_quotes_are_compared_with_their_repeats() -> None:
    """Two equal quotes are two quotes."""
    assert comparison.contents("A", Counter({("x",): 2}), [("x",), ("x",)]) == Look("A", True, 2, 2)
    assert not comparison.contents("A", Counter({("x",): 1}), [("x",), ("x",)]).equal
    assert not comparison.contents("A", None, [("x",)]).equal


def test_quotes_in_columns_have_the_content_that_messages_have() -> None:
    """Else every sampled minute differs, or none."""
    row = {
        "symbol": "A", "ts": 61, "bid_exchange": "V", "bid_price": 1.5, "bid_size": 2, "ask_exchange": "Q",
        "ask_price": 2.0, "ask_size": 3, "conditions": ["R"], "tape": "C", "offset": 4,
    }  # fmt: skip
    message = {
        "S": "A",
        "t": 61,
        "bx": "V",
        "bp": 1.5,
        "bs": 2,
        "ax": "Q",
        "ap": 2.0,
        "as": 3,
        "c": ["R"],
        "z": "C",
    }
    (piece,) = decoding.quote_pieces(
        "stocks", pl.DataFrame([row, {**row, "symbol": "B"}]), lambda s, _: s == "A"
    )
    assert piece[:2] == (0, "A")
    assert piece.value == Counter([decoding.quote_content("stocks", message)])


def test_the_sample_has_its_stated_rate() -> None:
    """The documents say one minute of so many."""
    sampled = decoding.sampler(20)
    chosen = sum(sampled(symbol, n * MINUTE) for symbol in ("A", "B", "C") for n in range(4000))
    assert 450 < chosen < 750


def gap(**changes: Any) -> gaps.Gap:
    (made,) = gaps.opened("stocks:iex", "trades", ["A"], gaps.AUDIT, MINUTE, 1, until_ts=2 * MINUTE - 1)
    return made.at(2, **changes)


def test_the_way_of_a_difference() -> None:
    """Looked at twice, asked for once, waited for, compared again, and then named and left alone."""
    case = Case.of("trades", MINUTE, ["A", "B"])
    differs, now = Look("A", False, 3, 2), 100
    assert case.ready(now, []) == ["A", "B"]
    assert case.judge(Look("B", True, 1, 1), now, lambda _: []).next is Next.EQUAL
    assert case.judge(differs, now, lambda _: []).next is Next.AGAIN
    assert case.ready(now, []) == []
    now += SETTLE_NS
    assert case.ready(now, [gap(until_ts=None)]) == []
    assert case.judge(differs, now, lambda _: []).next is Next.REPAIR
    now += SETTLE_NS
    assert case.ready(now, [gap()]) == []
    closed = [gap(state=gaps.CLOSED, published=0)]
    assert case.ready(now, []) == ["A"]
    assert case.judge(differs, now, lambda _: closed).next is Next.AGAIN
    judged = case.judge(differs, now + SETTLE_NS, lambda _: closed)
    assert judged.next is Next.NAMED
    assert judged.why is not None
    assert case.todo == {}


def test_a_repair_is_asked_for_again_only_while_it_finds_something() -> None:
    """A difference that Alpaca itself cannot explain must not be fetched for ever."""
    case = Case.of("trades", MINUTE, ["A"])
    differs = Look("A", False, 3, 2)
    useful = [gap(state=gaps.CLOSED, published=1)]
    case.judge(differs, 0, lambda _: useful)
    assert case.judge(differs, SETTLE_NS, lambda _: useful).next is Next.REPAIR
    case.judge(differs, 2 * SETTLE_NS, lambda _: useful * 3)
    assert case.judge(differs, 3 * SETTLE_NS, lambda _: useful * 3).next is Next.NAMED


def test_what_is_written() -> None:
    """The record names who differs; the gap is the whole minute of exactly those."""
    case = Case.of("trades", MINUTE, ["A", "B"])
    place = Place("stocks:iex", "trades", MINUTE)
    judged = [case.judge(Look("B", True, 1, 1), 0, lambda _: [])]
    judged.append(case.judge(Look("A", False, 3, 2), 0, lambda _: []))
    first = findings.record(place, judged, 5, 1)
    assert first is not None
    assert (first["symbols"], first["differing"], first["expected"]) == (["B"], [], 1)
    again = [case.judge(Look("A", False, 3, 2), SETTLE_NS, lambda _: [])]
    second = findings.record(place, again, 6, 1)
    assert second is not None
    assert (second["symbols"], second["differing"], second["held"]) == (["A"], ["A"], 2)
    (asked,) = findings.repairs(place, again, 7, 1)
    assert (asked.symbols, asked.from_ts, asked.until_ts) == (("A",), MINUTE, 2 * MINUTE - 1)


@given(st.sets(st.tuples(st.integers(0, 600), st.sampled_from(["A", "B", "C"])), max_size=30))
@settings(max_examples=40)
def test_requests_cover_every_place(places: set[tuple[int, str]]) -> None:
    """A minute that nobody asks about would be compared with nothing."""
    asked = [(m * MINUTE, s) for m, s in places]
    made = list(requests(asked, 60))
    for minute, symbol in asked:
        assert any(symbol in symbols and start <= minute <= end for symbols, start, end in made)
    assert all(end - start < 61 * MINUTE for _, start, end in made)


def test_articles_that_the_log_lacks_are_found_by_revision() -> None:
    """An edit of an article is an event of its own."""
    log = Articles()
    log.add(Article("benzinga", "1", MINUTE))
    history = [Article("benzinga", "1", MINUTE), Article("benzinga", "1", 2 * MINUTE), Article("b", "9", 9)]
    found = log.by_minute(history, MINUTE, 4 * MINUTE)
    assert found[MINUTE] == ([history[0]], [])
    assert found[2 * MINUTE] == ([history[1]], [history[1]])
    assert found[3 * MINUTE] == ([], [])


def test_a_difference_counts_only_once_the_log_was_read_as_far_as_it_went() -> None:
    """A busy auditor that lags behind the log would have every minute fetched again."""
    case, differs = Case.of("bars", 0, ["A"]), Look("A", False, 1, 0)
    behind = Extent({"bars": 5}, {"bars": 9})
    assert case.judge(differs, 0, lambda _: [], behind).next is Next.AGAIN
    for turn, read in enumerate((5, 8), start=1):
        later = Extent({"bars": read}, {"bars": 20})
        assert case.judge(differs, turn * SETTLE_NS, lambda _: [], later).next is Next.AGAIN
    there = Extent({"bars": 9}, {"bars": 20})
    assert case.judge(differs, 3 * SETTLE_NS, lambda _: [], there).next is Next.REPAIR
