"""When `demo --ticks` is over: too early reports losses that are none, never hangs a user's script."""

from __future__ import annotations

from dataclasses import replace

from console.commands.runs.drain import Drain
from console.screen.state import Observation, Process, Simulator

RUNNING = (Process("producer", "running"),)


def look(at: float, state: str, published: int, topic: int, stored: int, folded: int) -> Observation:
    counts = {"trades": published, "quotes": 0, "bars": 0}
    return Observation(
        at=at,
        ends={("trades", 0): topic},
        stored={("trades", 0): stored},
        committed={("trades", 0): folded},
        simulator=Simulator(state, counts, elapsed_seconds=max(0.0, at - 10)),
        processes=RUNNING,
    )


def test_it_is_over_when_all_has_gone_through() -> None:
    """And not before: each of the three stages must have the last record."""
    drain = Drain()
    assert drain.judge(look(10, "running", 50, 50, 50, 50)) == "running"
    assert drain.judge(look(11, "finished", 100, 99, 99, 99)) == "running"
    assert drain.judge(look(12, "finished", 100, 100, 99, 100)) == "running"
    assert drain.judge(look(13, "finished", 100, 100, 100, 99)) == "running"
    assert drain.judge(look(14, "finished", 100, 100, 100, 100)) == "drained"


def test_a_killed_producer_has_missed_some_and_the_run_still_ends() -> None:
    """What the socket sent meanwhile never comes; the report must name it instead of the demo hanging."""
    drain = Drain()
    assert drain.judge(look(10, "finished", 100, 80, 80, 80)) == "running"
    assert drain.judge(look(14.9, "finished", 100, 80, 80, 80)) == "running"
    assert drain.judge(look(15.1, "finished", 100, 80, 80, 80)) == "drained"


def test_it_waits_for_a_producer_that_is_being_restarted() -> None:
    """It may yet deliver what it holds; quiet topics prove nothing while it is away."""
    drain = Drain()
    down = (Process("producer", "waiting"),)
    for second in range(10, 60):
        seen = replace(look(second, "finished", 100, 80, 80, 80), processes=down)
        assert drain.judge(seen) == "running"


def test_it_waits_for_bytes_that_kafka_has_not_acknowledged() -> None:
    """During a broker's restart the producer holds them back."""
    drain = Drain()
    for second in range(10, 40):
        assert drain.judge(replace(look(second, "finished", 100, 80, 80, 80), buffered_bytes=1)) == "running"


def test_without_progress_it_ends_as_stuck() -> None:
    """A sink that never comes back must not hang a script for ever."""
    drain = Drain()
    assert drain.judge(look(10, "finished", 100, 100, 50, 100)) == "running"
    assert drain.judge(look(50, "finished", 100, 100, 51, 100)) == "running"
    assert drain.judge(look(109, "finished", 100, 100, 51, 100)) == "running"
    assert drain.judge(look(110, "finished", 100, 100, 51, 100)) == "stuck"


def test_a_silent_tape_is_not_stuck_but_one_that_nobody_reads_is() -> None:
    """At its own pace a tape rests over lunch; with no producer at all it never begins."""
    quiet, unread = Drain(), Drain()
    for second in range(10, 400, 10):
        assert quiet.judge(look(second, "running", 50, 50, 50, 50)) == "running"
    verdicts = [unread.judge(look(second, "waiting", 0, 0, 0, 0)) for second in range(10, 100, 10)]
    assert verdicts[-1] == "stuck"


def test_after_the_market_was_stopped_it_waits_for_what_is_still_under_way() -> None:
    """The last count that the stopped simulator gave may be older than its last message."""
    drain = Drain()
    assert drain.judge(look(10, "running", 100, 100, 100, 100)) == "running"
    drain.end_of_tape()
    assert drain.judge(look(11, "running", 100, 104, 104, 104)) == "running"
    assert drain.judge(look(12, "running", 100, 104, 104, 104)) == "running"
    assert drain.judge(look(16.5, "running", 100, 104, 104, 104)) == "drained"


def test_the_measured_time_is_from_the_first_message_to_the_last_row() -> None:
    """messages_per_second is a promise; waiting before the tape and after the last row are not part of it."""
    drain = Drain()
    drain.judge(replace(look(5, "waiting", 0, 0, 0, 0)))
    drain.judge(look(12, "running", 50, 40, 30, 30))
    drain.judge(look(20, "finished", 100, 100, 100, 100))
    drain.judge(look(30, "finished", 100, 100, 100, 100))
    assert drain.started_at == 10
    assert drain.stored_at == 20
