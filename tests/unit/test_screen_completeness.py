"""The completeness panel: a loss that is not shown, or shown as found again, is believed."""

from __future__ import annotations

import io
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from console.commands.runs.repairs import Repairs, unaudited
from console.screen import completeness_panel, layout
from console.screen.completeness import AUDITED, GAP, LOST, RECEIVED, Tracker, row_of
from console.screen.layout import View
from console.screen.observe import event_time
from console.screen.state import Observation, Process
from schemas.gaps import CLOSED, Gap, opened

MINUTE = 60_000_000_000
AT = 29_000_000 * MINUTE
SECOND = 1_000_000_000
FEED = "stocks:iex"


def audit(minute: int, symbols: Iterable[str], differing: Iterable[str] = (), at: int = AT) -> dict[str, Any]:
    return {
        "feed": FEED, "channel": "trades", "ts": minute, "symbols": list(symbols),
        "differing": list(differing), "audited_ts": at,
    }  # fmt: skip


def gap(until: int | None = None, channel: str = "trades", symbols: Iterable[str] = ("A", "B")) -> Gap:
    (found,) = opened(FEED, channel, symbols, "disconnect", AT, AT + 2 * SECOND, until_ts=until)
    return found


def closed(gap: Gap, at: int, *, lost: bool = False) -> dict[str, Any]:
    channels = (gap.channel,) if lost else ()
    return gap.at(at, state=CLOSED, found=30, published=20, unrecoverable=channels).record()


def words(tracker: Tracker, row: str = "trades") -> dict[str, int]:
    found = tracker.show().words.get(row, {})
    return {word: count for word, count in found.items() if count}


def test_a_minute_goes_from_received_over_gap_to_audited() -> None:
    """Each word is a promise: a gap must not read as received, nor what was fetched as compared."""
    tracker = Tracker()
    tracker.saw("trades", AT + 5 * SECOND)
    assert words(tracker) == {RECEIVED: 1}
    hole = gap(until=AT + 9 * SECOND)
    tracker.gap(hole.record())
    assert words(tracker) == {GAP: 1}
    tracker.gap(closed(hole, AT + 12 * SECOND))
    assert words(tracker) == {RECEIVED: 1}
    tracker.audit(audit(AT, ["A"], at=AT + 90 * SECOND))
    assert words(tracker) == {AUDITED: 1}
    tracker.audit(audit(AT, ["B"], ["B"], at=AT + 91 * SECOND))
    assert words(tracker) == {GAP: 1}
    tracker.audit(audit(AT, ["B"], at=AT + 99 * SECOND))
    assert words(tracker) == {AUDITED: 1}
    tracker.audit(audit(AT, ["B"], ["B"], at=AT + 95 * SECOND))  # came late: it says nothing new
    assert words(tracker) == {AUDITED: 1}


def test_what_is_lost_stays_lost_unless_a_later_comparison_says_otherwise() -> None:
    """An unrecoverable minute that turned green by itself would hide a loss."""
    tracker = Tracker()
    hole = gap(until=AT + SECOND)
    tracker.gap(closed(hole, AT + 20 * SECOND, lost=True))
    tracker.audit(audit(AT, ["A", "B"], at=AT + 10 * SECOND))
    assert words(tracker) == {LOST: 1}
    tracker.audit(audit(AT, ["A"], at=AT + 30 * SECOND))
    assert words(tracker) == {LOST: 1}
    tracker.audit(audit(AT, ["B"], at=AT + 31 * SECOND))
    assert words(tracker) == {AUDITED: 1}


_RECORDS = st.lists(
    st.tuples(st.integers(0, 5), st.sampled_from(["saw", "open", "close", "lose", "audit", "differ"])),
    max_size=12,
)


@settings(max_examples=60)
@given(_RECORDS)
def test_no_minute_has_two_words_and_none_is_forgotten(steps: list[tuple[int, str]]) -> None:
    """The words are shares of the minutes that something is known of: they must add up."""
    tracker, known = Tracker(), set()
    for number, (minute, what) in enumerate(steps):
        start, at = AT + minute * MINUTE, AT + (100 + number) * MINUTE
        (hole,) = opened(FEED, "trades", ["A"], "stall", start, start, until_ts=start + SECOND)
        if what == "saw":
            tracker.saw("trades", start)
        elif what in ("open", "close", "lose"):
            tracker.gap(hole.record() if what == "open" else closed(hole, at, lost=what == "lose"))
        else:
            tracker.audit(audit(start, ["A"], ["A"] if what == "differ" else (), at))
        if what != "close":
            known.add(minute)
    total = sum(words(tracker).values())
    assert total <= len(known)
    assert total >= len({m for m, what in steps if what in ("saw", "audit", "differ")})


def test_minutes_before_the_start_are_not_counted() -> None:
    """A channel without events has a gap since the epoch; hours of it would be shown after a minute's run."""
    tracker = Tracker()
    tracker.saw("trades", AT)
    (hole,) = opened(FEED, "corrections", ["A"], "disconnect", 0, AT, until_ts=AT + MINUTE)
    tracker.gap(hole.record())
    assert words(tracker, "others") == {GAP: 2}


@pytest.mark.parametrize(
    ("feed", "channel", "row"),
    [
        ("stocks:iex", "trades", "trades"), ("crypto:us", "trades", "crypto"), ("news", "news", "news"),
        ("trading:demo-1", "orders", "order events"), ("options:indicative", "trades", "options"),
        ("options:indicative", "quotes", "others"), ("stocks:iex", "lulds", "others"),
        ("crypto:us", "orderbooks", "others"),
    ],
)  # fmt: skip
def test_every_channel_has_a_row(feed: str, channel: str, row: str) -> None:
    """A gap of options among the stocks' trades would name the wrong loss."""
    assert row_of(feed, channel) == row


def _drawn(tracker: Tracker, width: int, height: int, said: tuple[str, ...] = ()) -> list[str]:
    processes = tuple(Process(f"service-{n}", "running", uptime_seconds=5) for n in range(12))
    channels = ("trades", "quotes", "bars", "option trades", "crypto trades", "news", "order events", "bands")
    ends = {(channel, 0): 123_456_789 for channel in channels}
    seen = Observation(at=0.0, ends=ends, processes=processes, completeness=tracker.show())
    view = View("tidewire demo", "synthetic market", 83.0, "Ctrl-C stops everything", "c cut   q quit", said)
    console = Console(file=io.StringIO(), width=width, height=height, record=True, force_terminal=True)
    console.print(layout.screen(view, seen, height, width))
    return console.export_text().splitlines()


@pytest.mark.parametrize(("width", "height"), [(80, 24), (80, 40), (130, 24), (130, 44), (200, 60)])
@pytest.mark.parametrize("gaps", [0, 1, 30])
def test_it_fits_and_open_gaps_come_first(width: int, height: int, gaps: int) -> None:
    """One line too many and the terminal scrolls; and what lasts must not hide below what is over."""
    tracker = Tracker()
    for name in (FEED, "crypto:us", "news", "trading:demo-1", "trading:demo-2"):
        state = "CONNECTED" if name != "trading:demo-2" else "DISCONNECTED"
        tracker.connection({"feed": name, "ts": AT, "state": state, "reason": None})
    for number in range(gaps):
        (over,) = opened("news", "news", ["*"], "audit", AT + number, AT + number, until_ts=AT + SECOND)
        tracker.gap(closed(over, AT + number * SECOND))
    if gaps:
        tracker.gap(gap().record())
    lines = _drawn(tracker, width, height, said=("12:00:00  the stock socket was cut",))
    text = "\n".join(lines)
    assert len(lines) <= height
    assert all(len(line) <= width for line in lines)
    assert "c cut   q quit" in lines[-2]
    assert "the stock socket was cut" in lines[-3]
    assert "trading 1/2" in text
    assert ("lasts" in text) == bool(gaps)


def test_one_interruption_is_one_line_for_what_nothing_gives_back() -> None:
    """Six channels without a history at each cut would push what is being fetched off the screen."""
    parts = [gap(until=AT, channel=channel) for channel in ("statuses", "lulds", "imbalances")]
    lost = [part.lost(AT + SECOND, "no history") for part in parts]
    assert [len(found) for found in completeness_panel.groups(lost)] == [3]
    assert len(completeness_panel.groups(parts)) == 3


def _look(at: float, tracker: Tracker) -> Observation:
    return Observation(at=at, completeness=tracker.show())


def test_a_demo_waits_for_what_is_being_fetched_and_names_what_is_not() -> None:
    """Ctrl-C in the middle of a repair must not leave the report incomplete, nor hang for ever."""
    tracker, repairs = Tracker(), Repairs()
    hole = gap()
    tracker.gap(hole.record())
    assert not repairs.judge(_look(10, tracker))
    assert "not over" in repairs.left[0]
    tracker.gap(hole.over(AT + SECOND, AT + SECOND).record())
    assert not repairs.judge(_look(65, tracker))
    assert not repairs.judge(_look(124, tracker))
    assert repairs.judge(_look(125, tracker))
    assert "being fetched" in repairs.left[0]
    tracker.gap(closed(hole, AT + 2 * SECOND))
    assert repairs.judge(_look(126, tracker))
    assert repairs.left == ()


def test_a_demo_waits_until_dropped_trades_are_audited() -> None:
    """Nobody knows of them before: a report made at once would be incomplete by what was asked for."""
    tracker = Tracker()
    dropped = [("A", AT + SECOND), ("B", AT + 2 * SECOND)]
    repairs = Repairs(frozenset(dropped))
    assert not repairs.judge(_look(0, tracker), unaudited(tracker, FEED, dropped))
    tracker.audit(audit(AT, ["A", "B"], ["B"]))
    assert unaudited(tracker, FEED, dropped) == [dropped[1]]
    assert not repairs.judge(_look(100, tracker), unaudited(tracker, FEED, dropped))
    tracker.audit(audit(AT, ["B"], at=AT + SECOND))
    assert repairs.judge(_look(101, tracker), unaudited(tracker, FEED, dropped))
    late = Repairs(frozenset(dropped))
    assert not late.judge(_look(0, tracker), dropped)
    assert late.judge(_look(200, tracker), dropped)
    assert "2 dropped trades" in late.left[0]


def test_a_recorded_tape_has_its_own_time() -> None:
    """Its minutes are those of years ago, not of the clock."""
    assert event_time((), 77 * MINUTE) == 77 * MINUTE
