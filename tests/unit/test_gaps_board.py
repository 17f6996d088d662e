"""The board answers `is anything missing?`: a wrong fold says complete over a hole."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.codec import load_codec
from schemas.gaps import (
    BACKFILLED,
    CLOSED,
    MOST_SYMBOLS,
    OPENED,
    REASONS,
    Board,
    Gap,
    has_history,
    opened,
    why_no_history,
)
from tidewire import config

CODEC = load_codec(config.load(_env_file=None))
FEED = "stocks:iex"
times = st.integers(0, 12)
symbols = st.sampled_from(("A", "B", "C"))


@st.composite
def states(draw: st.DrawFn) -> Gap:
    """Any state of one of a few gaps, in any order: repeats and records of replaced owners included."""
    number = draw(st.integers(0, 4))
    names = (("A",), ("A", "B"), ("*",), ("C",), ("B", "C"))[number]
    state = draw(st.sampled_from((OPENED, BACKFILLED, CLOSED)))
    start = draw(times)
    until = draw(st.none() | st.integers(start, 15)) if state == OPENED else draw(st.integers(start, 15))
    lost = draw(st.booleans()) and state == CLOSED
    return Gap(
        id=f"g{number}", feed=FEED, channel="trades" if number < 3 else "quotes", symbols=names,
        reason=draw(st.sampled_from(REASONS)), opened_ts=number // 2, from_ts=start, until_ts=until,
        state=state, ts=draw(times), unrecoverable=("trades",) if lost else (),
    )  # fmt: skip


def _naive(records: list[Gap]) -> dict[str, Gap]:
    """By the words of the contract: the furthest state; the newest of those; closed is final."""
    result: dict[str, Gap] = {}
    for id in {gap.id for gap in records}:
        own = [gap for gap in records if gap.id == id]
        closed = [gap for gap in own if gap.state == CLOSED]
        backfilled = [gap for gap in own if gap.state == BACKFILLED]
        ended = [gap for gap in own if gap.state == OPENED and gap.until_ts is not None]
        result[id] = closed[0] if closed else (backfilled or ended or own)[-1]
    return result


@given(st.lists(states(), max_size=14), st.sampled_from(("trades", "quotes")), symbols, times)
@settings(max_examples=200)
def test_the_board_is_what_a_naive_reading_of_all_records_says(
    records: list[Gap], channel: str, symbol: str, ts: int
) -> None:
    board = Board()
    for gap in records:
        board.put(gap)
    expected = _naive(records)
    assert {gap.id: gap for gap in (*board.open(), *board.closed())} == expected
    assert [g.id for g in board.unrecoverable()] == [
        g.id for g in sorted(expected.values(), key=lambda g: (g.opened_ts, g.id)) if g.unrecoverable
    ]
    inside = [
        g
        for g in expected.values()
        if g.channel == channel
        and (symbol in g.symbols or g.symbols == ("*",))
        and g.from_ts <= ts <= (15 if g.until_ts is None else g.until_ts)
    ]
    if any(g.state != CLOSED for g in inside):
        word: str | None = "gap"
    else:
        newest = [g for g in inside if g.ts == max(other.ts for other in inside)]
        word = "unrecoverable" if any(g.unrecoverable for g in newest) else None
    assert board.state(FEED, channel, symbol, ts) == word


@given(states(), st.integers(0, 2**50))
def test_a_gap_survives_the_log(gap: Gap, epoch: int) -> None:
    """Backfiller, report and the next owner read what the owner wrote."""
    written = gap.at(7, owner_epoch=epoch, placed=("t:1:2:3",), detail="why", found=3, published=2)
    stem, record = CODEC.decode(CODEC.encode("gap", written.record()))
    assert stem == "gap"
    assert Gap.of(record) == written


@given(st.sets(st.integers(0, 999).map(str), min_size=1, max_size=350))
@settings(max_examples=20)
def test_new_gaps_hold_every_symbol_once_and_at_most_100_each(names: set[str]) -> None:
    found = opened(FEED, "trades", names, "disconnect", 5, 9)
    assert sorted(s for gap in found for s in gap.symbols) == sorted(names)
    assert all(0 < len(gap.symbols) <= MOST_SYMBOLS and gap.lasts for gap in found)
    assert len({gap.id for gap in found}) == len(found)
    assert [gap.symbols for gap in opened(FEED, "trades", {*names, "*"}, "stall", 5, 9)] == [("*",)]


def test_old_closed_gaps_can_be_forgotten_open_ones_never() -> None:
    board = Board()
    (gap,) = opened(FEED, "trades", ["A"], "disconnect", 5, 9)
    board.put(gap)
    assert board.forget(10**18) == 0
    board.put(gap.over(11, 10).at(12, state=CLOSED))
    assert board.forget(10) == 0
    assert board.forget(11) == 1
    assert len(board) == 0
    assert board.state(FEED, "trades", "A", 7) is None


def test_a_channel_without_history_says_why() -> None:
    assert has_history(FEED, "trades")
    assert why_no_history(FEED, "trades") is None
    for feed, channel in (("stocks:iex", "lulds"), ("options:opra", "quotes"), ("stocks:test", "trades")):
        assert not has_history(feed, channel)
        assert channel in str(why_no_history(feed, channel))
