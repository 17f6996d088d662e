"""If these fail, an auditor that restarts calls whole minutes damaged or skips some, or fills the memory."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from producers.audit.comparison import Sums, add_sums
from producers.audit.event_clock import EventClock
from producers.audit.minutes import KEPT_MINUTES, MINUTE, Lane, Piece

records = st.lists(
    st.tuples(st.integers(0, 8), st.sampled_from("AB"), st.integers(1, 9)), min_size=1, max_size=40
)


def lane(floor: int | None = None, **more: Any) -> Lane:
    return Lane({"trades": add_sums}, floor, **more)


def piece(minute: int, symbol: str, volume: int, offset: int) -> Piece:
    return Piece(minute * MINUTE, symbol, Sums(1, volume), offset)


def naive(log: list[tuple[int, str, int]], minute: int) -> dict[str, Sums]:
    found: dict[str, Sums] = {}
    for m, symbol, volume in log:
        if m == minute:
            known = found.get(symbol, Sums(0, 0))
            found[symbol] = Sums(known.trades + 1, known.volume + volume)
    return found


@given(records, st.integers(0, 9), st.integers(0, 40))
@settings(max_examples=60)
def test_a_restart_finds_every_open_minute_whole(
    log: list[tuple[int, str, int]], done: int, read: int
) -> None:
    """Whatever had been read and finished when the process died: from the committed offset on, each minute
    from the floor on is folded as if the whole log had been read."""
    log = [(max(m, log[0][0]), s, v) for m, s, v in log]  # what is older than the first record is nobody's
    before = lane()
    for offset, (minute, symbol, volume) in enumerate(log[:read]):
        before.add("trades", [piece(minute, symbol, volume, offset)])
    for minute in before.open_minutes(done * MINUTE, 100):
        before.finish(minute)
    if before.floor is None:
        return
    start = before.resume_offset("trades", min(read, len(log)))
    after = lane(before.floor)
    for offset, (minute, symbol, volume) in enumerate(log[start:], start):
        after.add("trades", [piece(minute, symbol, volume, offset)])
    for minute in after.open_minutes(9 * MINUTE, 100):
        assert after.held["trades"].of(minute) == naive(log, minute // MINUTE)


@given(records)
@settings(max_examples=40)
def test_every_minute_is_offered_until_it_is_done_and_again_when_late_records_come(
    log: list[tuple[int, str, int]],
) -> None:
    """A late print must not stay uncompared, nor may a finished minute be compared for ever."""
    subject = lane(0)
    done: set[int] = set()
    for offset, (minute, symbol, volume) in enumerate(log):
        opened = subject.add("trades", [piece(minute, symbol, volume, offset)])
        assert opened == ({minute * MINUTE} & done)
        done -= opened
        expected = [m for m in range(0, 9 * MINUTE, MINUTE) if m not in done]
        assert sorted(subject.open_minutes(9 * MINUTE, 100)) == expected
        if offset % 3 == 0:
            subject.finish(expected[0])
            done.add(expected[0])


def test_what_is_kept_is_bounded_and_what_is_given_up_is_counted() -> None:
    """A backfiller that is away for a day must not fill the memory; nothing may vanish uncounted."""
    subject = lane(0, most=10)
    for minute in range(50):
        subject.add("trades", [piece(minute, "A", 1, minute)])
    assert subject.held["trades"].entries <= 10
    assert subject.given_up == 40
    assert subject.floor == 40 * MINUTE
    assert subject.resume_offset("trades", 50) == 40


def test_minutes_long_done_are_forgotten_and_their_records_are_late() -> None:
    """A day's finished minutes must not pile up."""
    subject = lane(0)
    for minute in range(30):
        subject.add("trades", [piece(minute, "A", 1, minute)])
        subject.finish(minute * MINUTE)
    assert subject.held["trades"].entries == KEPT_MINUTES
    assert subject.add("trades", [piece(3, "A", 1, 99)]) == set()
    assert subject.late == 1
    assert subject.add("trades", [piece(25, "A", 1, 99)]) == {25 * MINUTE}


def test_a_log_whose_beginning_retention_has_cut_begins_with_the_next_whole_minute() -> None:
    """Else the rest of a cut minute would be called a loss, and be fetched again for nothing."""
    subject = lane(None, begins_with="trades")
    subject.held["bars"] = subject.held["trades"].__class__(add_sums)
    subject.add("bars", [piece(2, "A", 1, 0)])
    subject.add("trades", [piece(7, "A", 1, 100)])
    assert subject.floor == 8 * MINUTE
    assert not subject.held["bars"].minutes


def test_only_symbols_that_were_there_before_and_after_are_compared_without_being_configured() -> None:
    """A client's subscription that began in mid-minute must not be called a loss."""
    subject = lane(0)
    subject.add("trades", [piece(m, "A", 1, m) for m in (1, 2, 3)] + [piece(2, "B", 1, 9)])
    assert subject.seen_about(2 * MINUTE) == {"A"}
    assert subject.seen_about(MINUTE) == set()


def test_the_event_clock_goes_on_only_where_everything_was_read() -> None:
    """Else minutes would be compared that still lie unread in Kafka."""
    clock = EventClock()
    assert clock.time(5) is None
    clock.advance(1000, now_ns=10)
    clock.advance(900, now_ns=20)
    assert clock.time(30) == 1020
    clock.behind(40)
    assert clock.time(45) == 1005
