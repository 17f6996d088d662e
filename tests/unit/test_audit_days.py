"""Daily bars that are to be compared. If these fail, a day's bar is called lost that the log holds, or never
compared at all.
"""

from __future__ import annotations

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from producers.audit.comparison import Bar, Revised
from producers.audit.days import KEPT_DAYS, Days
from producers.audit.minutes import MINUTE, Piece
from schemas.gaps import AUDIT, CLOSED, DISCONNECT, Gap, opened
from verify.completeness import Completeness
from verify.content import BARS
from verify.report import cover_days

DAY = 86_400_000_000_000


def piece(day: int, symbol: str, revision: int, offset: int) -> Piece:
    return Piece(day * DAY, symbol, Revised(revision, Bar(1, 1, 1, 1, revision, 1, 1)), offset)


records = st.lists(
    st.tuples(st.integers(0, 3), st.sampled_from("AB"), st.integers(0, 5)), min_size=1, max_size=40
)


@given(records, st.integers(-1, 3), st.integers(0, 40))
@settings(max_examples=60)
def test_a_restart_finds_the_newest_bar_of_every_day_that_waits(
    log: list[tuple[int, str, int]], done: int, read: int
) -> None:
    pieces = [piece(day, symbol, revision, at) for at, (day, symbol, revision) in enumerate(log)]
    before, read = Days(), min(read, len(log))
    before.add(pieces[:read])
    if done >= 0:
        before.finish(done * DAY)
    after = Days(before.floor)
    after.add(pieces[before.resume_offset(read) :])
    before.add(pieces[read:])
    newest: dict[tuple[int, str], int] = {}
    for day, symbol, revision in log:
        newest[day, symbol] = max(revision, newest.get((day, symbol), 0))
    for day in range(done + 1, 4):
        expected = {symbol: revision for (of, symbol), revision in newest.items() if of == day}
        for days in (before, after):
            assert {symbol: held.revision for symbol, held in days.of(day * DAY).items()} == expected
    assert all(day > done * DAY for day in before.known())


def test_days_that_nobody_can_compare_are_given_up_and_counted() -> None:
    """A history that does not answer for weeks must not fill the memory."""
    days = Days()
    days.add([piece(day, "A", 0, day) for day in range(KEPT_DAYS + 3)])
    assert len(days.known()) == KEPT_DAYS
    assert days.given_up == 3
    days.add([piece(0, "A", 9, 99)])
    assert 0 not in days.known()


def audit(differing: list[str], ts: int) -> dict[str, object]:
    return {
        "feed": "stocks:iex", "channel": "dailyBars", "ts": DAY, "audited_ts": ts, "symbols": ["A", "B"],
        "differing": differing,
    }  # fmt: skip


def test_every_day_of_a_symbol_has_one_of_the_four_words() -> None:
    events = pl.DataFrame(
        {"symbol": ["A", "B", "A", "A"], "ts": [DAY, DAY, 2 * DAY, 2 * DAY + MINUTE],
         "interval": ["day", "day", "day", "minute"]}
    )  # fmt: skip

    def words(*gaps: Gap, audits: tuple[dict[str, object], ...] = ()) -> dict[tuple[str, int], str]:
        told = Completeness()
        for gap in gaps:
            told.board.put(gap)
        told.audits.extend(audits)
        states = cover_days(BARS, events, told).states
        return {(symbol, minute // DAY): word for symbol, minute, word in states.iter_rows()}

    assert set(words().values()) == {"received"}
    assert words(audits=(audit([], 5),)) == {("A", 1): "audited", ("B", 1): "audited", ("A", 2): "received"}
    (asked,) = opened("stocks:iex", "dailyBars", ["B"], AUDIT, DAY, 6, until_ts=DAY + MINUTE - 1)
    found = words(asked, audits=(audit(["B"], 5),))
    assert found == {("A", 1): "audited", ("B", 1): "gap", ("A", 2): "received"}
    found = words(asked.at(7, state=CLOSED), audits=(audit(["B"], 8),))
    assert found["B", 1] == "unrecoverable"
    (lasting,) = opened("stocks:iex", "dailyBars", ["A"], DISCONNECT, 2 * DAY, 6)
    assert words(lasting) == {("A", 1): "received", ("B", 1): "received", ("A", 2): "gap"}
