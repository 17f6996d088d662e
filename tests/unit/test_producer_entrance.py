"""The entrance decides what is a repeat: too strict and events are lost, too lax and they are counted
twice.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from producers.entrance import LATE, RECENT, SLICE_NS, Bars, Window

SECOND = 10**9


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 3)), max_size=200))
def test_within_a_minute_every_repeat_is_counted_in_any_order(events: list[tuple[int, int]]) -> None:
    window, naive = Window(), Counter[tuple[int, int]]()
    for second, number in events:
        assert window.repeats(second * SECOND, b"%d.%d" % (second, number)) == naive[second, number]
        naive[second, number] += 1


def test_a_minute_behind_the_newest_is_remembered_and_an_hour_is_not_kept() -> None:
    window = Window()
    for second in range(3_600):
        assert window.repeats(second * SECOND, b"%d" % second) == 0
        if second >= 60:
            assert window.repeats((second - 60) * SECOND, b"%d" % (second - 60)) == 1
        # Trades that are reported hours late must not push out the last minute.
        window.repeats(-(second * 100) * SECOND, b"late")
    assert len(window) <= (RECENT + LATE) * SLICE_NS // SECOND


def test_a_stray_time_in_the_future_does_not_end_the_window() -> None:
    window = Window()
    window.repeats(10**18, b"stray")
    for second in range(600):
        assert window.repeats(second * SECOND, b"%d" % second) == 0
        if second >= 60:
            assert window.repeats((second - 60) * SECOND, b"%d" % (second - 60)) == 1


def test_the_window_is_bounded_by_count_too() -> None:
    window = Window(limit=1_000)
    for number in range(20_000):
        window.repeats(number * SECOND // 20, b"%d" % number)
    assert len(window) <= 1_000 + 20 * SLICE_NS // SECOND


def _bar(ts: int, close: float, interval: str = "minute") -> dict[str, Any]:
    numbers = {
        "open": 1.0,
        "high": 2.0,
        "low": 0.5,
        "close": close,
        "volume": 1,
        "trade_count": 1,
        "vwap": 1.0,
    }
    return {"symbol": "A", "interval": interval, "ts": ts, "extra": None, **numbers}


def test_bars_count_their_revisions_and_drop_what_says_nothing_new() -> None:
    bars = Bars()
    assert bars.revision(_bar(60, 1.0), late=False) == 0
    assert bars.revision(_bar(60, 1.0), late=False) is None
    assert bars.revision(_bar(60, 1.1), late=True) == 1
    assert bars.revision(_bar(60, 1.1), late=True) is None
    assert bars.revision(_bar(60, 1.0), late=True) == 2
    assert bars.revision(_bar(120, 1.0), late=True) == 1  # its bar came while we were away
    assert [bars.revision(_bar(0, close, "day"), late=False) for close in (1.0, 2.0, 2.0, 3.0)] == [
        0,
        1,
        None,
        2,
    ]


def test_bars_of_the_log_are_gone_on_from() -> None:
    bars = Bars()
    bars.remember(_bar(60, 1.0), 0)
    bars.remember(_bar(60, 1.1), 1)
    assert bars.revision(_bar(60, 1.1), late=True) is None
    assert bars.revision(_bar(60, 1.2), late=True) == 2
