"""Announcements against the log. A split that is missed fires every stop on the first new quote."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from producers.corporate_actions.board import Board, News
from producers.corporate_actions.reading import Announced, midnight, read
from schemas.codec import Codec, load_codec
from tidewire.config import load

FIXTURES = Path(__file__).parents[3] / "shared" / "data" / "alpaca" / "fixtures"
SPLIT = {
    "id": "one", "symbol": "AAPL", "old_rate": 1, "new_rate": 4, "ex_date": "2026-03-02",
    "process_date": "2026-03-03",
}  # fmt: skip
D = Decimal


def said(**changed: Any) -> Announced:
    return read("forward_splits", SPLIT | changed)


def records(news: list[News], board: Board) -> list[dict[str, Any]]:
    """The records of news, which the log then holds."""
    found = [one.record(7, 1) for one in news]
    for record in found:
        board.take(record)
    return found


@pytest.mark.parametrize(
    ("bucket", "fields", "rates", "cash", "symbol", "new_symbol"),
    [
        ("forward_splits", {"symbol": "A", "old_rate": 1, "new_rate": 1.5}, ("1", "1.5"), None, "A", None),
        ("reverse_splits", {"symbol": "A", "old_rate": 50, "new_rate": 1}, ("50", "1"), None, "A", None),
        ("unit_splits", {"old_symbol": "U", "new_symbol": "N", "old_rate": 1, "new_rate": 1},
         ("1", "1"), None, "U", "N"),
        ("stock_dividends", {"symbol": "A", "rate": 0.05}, ("1", "1.05"), None, "A", None),
        ("cash_dividends", {"symbol": "A", "rate": 0.086928}, (None, None), "0.086928", "A", None),
        ("spin_offs", {"source_symbol": "S", "source_rate": 19.35, "new_symbol": "N", "new_rate": 1},
         (None, None), None, "S", "N"),
        ("cash_mergers", {"acquiree_symbol": "E", "rate": 5.37}, (None, None), "5.37", "E", None),
        ("stock_and_cash_mergers", {"acquiree_symbol": "E", "acquiree_rate": 1, "acquirer_symbol": "R",
         "acquirer_rate": 0.7733, "cash_rate": 7.8}, ("1", "0.7733"), "7.8", "E", "R"),
        ("name_changes", {"old_symbol": "O", "new_symbol": "N"}, (None, None), None, "O", "N"),
        ("worthless_removals", {"symbol": "A"}, (None, None), None, "A", None),
        ("partial_calls", {"symbol": "A"}, (None, None), None, "A", None),
    ],
)  # fmt: skip
def test_each_kind_says_whose_shares_change(
    bucket: str, fields: dict[str, Any], rates: Any, cash: Any, symbol: str, new_symbol: str | None
) -> None:
    found = read(bucket, {"id": "x", "process_date": "2026-03-03", **fields})
    amounts = [None if n is None else str(n) for n in (found.old_rate, found.new_rate, found.cash)]
    assert amounts == [*rates, cash]
    assert (found.symbol, found.new_symbol) == (symbol, new_symbol)
    assert found.kind + "s" == bucket


@pytest.mark.skipif(not FIXTURES.exists(), reason="no recorded samples")
def test_every_recorded_announcement_becomes_a_record() -> None:
    codec, count = codec_(), 0
    for line in (FIXTURES / "rest_corporate_actions.jsonl").read_bytes().splitlines()[:3]:
        for bucket, actions in orjson.loads(line)["payload"]["corporate_actions"].items():
            for action in actions:
                record = News("announced", read(bucket, action), 0).record(1, 1)
                assert codec.decode(codec.encode("corporate_action", record))[1]["detail"] == record["detail"]
                count += 1
    assert count > 20


def codec_() -> Codec:
    return load_codec(load(_env_file=None))


@pytest.mark.parametrize(
    "broken", [{"symbol": ""}, {"old_rate": 0}, {"new_rate": "4"}, {"new_rate": True}, {"ex_date": "soon"}]
)
def test_what_cannot_be_read_says_why(broken: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"symbol|rate|date"):
        said(**broken)


def test_a_day_begins_at_midnight_in_new_york() -> None:
    """Read as UTC a rule would be rescaled five hours early, in the session before."""
    assert midnight("2026-03-02") == 1_772_427_600 * 10**9


def test_only_changes_are_written_and_each_is_an_event_of_its_own() -> None:
    board = Board()
    first = records(board.news([said()]), board)
    assert [r["removed"] for r in first] == [False]
    assert (first[0]["old_rate"], first[0]["new_rate"]) == (1, 4)
    assert board.news([said()]) == []
    told = records(board.news([said(new_rate=5)]), board)
    told += records(board.news([said()]), board)  # and back
    assert not board.missing(["IBM"], "2026-01-01", "2026-12-31", [])
    assert not board.missing(["AAPL"], "2026-03-04", "2026-12-31", [])
    gone = board.missing(["AAPL"], "2026-01-01", "2026-12-31", [])
    told += records(board.news([], gone), board)
    assert told[-1]["removed"]
    assert not board.missing(["AAPL"], "2026-01-01", "2026-12-31", [])
    assert len(board) == 0
    told += records(board.news([said()]), board)
    assert [one.what for one in board.news([said(new_rate=3)])] == ["changed"]
    assert len({r["event_id"] for r in first + told}) == 5


looks = st.lists(st.dictionaries(st.sampled_from("abc"), st.integers(2, 4), max_size=3), max_size=8)


@settings(max_examples=30, deadline=None)
@given(looks, st.integers(0, 8))
def test_the_log_tells_what_was_announced_last_whatever_restarts(
    history: list[dict[str, int]], restart: int
) -> None:
    """Against a naive comparison of each look with the one before."""
    board, before = Board(), dict[str, int]()
    log: list[dict[str, Any]] = []
    for n, look in enumerate(history):
        if n == restart:
            board = Board()
            for record in log:
                board.take(record)
                board.take(record)  # repeats of an uncertain send
        answer = [said(id=name, new_rate=rate) for name, rate in look.items()]
        gone = board.missing(["AAPL"], "2026-03-01", "2026-03-31", answer)
        written = records(board.news(answer, gone), board)
        expected = {name for name in before.keys() | look.keys() if before.get(name) != look.get(name)}
        assert {r["action_id"] for r in written} == expected
        log += written
        before = look
    newest = {r["action_id"]: r for r in log}
    assert {n: int(r["new_rate"]) for n, r in newest.items() if not r["removed"]} == before
    assert len({r["event_id"] for r in log}) == len(log)
