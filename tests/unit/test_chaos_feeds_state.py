"""A long run of faults that is broken off goes on where it was."""

from __future__ import annotations

from pathlib import Path

from tests.chaos import feeds_run
from tests.chaos.feeds_run import State
from tests.chaos.feeds_session import FeedsOutcome


def test_a_full_run_that_was_broken_off_keeps_its_seed_and_what_it_did(
    tmp_path: Path,
) -> None:
    """Otherwise 500 cuts must be made in one go, on a machine that is never switched off."""
    path = tmp_path / "state.json"
    state = State.load(path, 7, full=True)
    done = FeedsOutcome(ran={"mute": 3}, cuts=40, over_backoff=[0.5, 1.25], skipped={"news news": 2})
    done.repaired_within["news news"] = 20.0
    state.outcomes.append(done.numbers())
    state.save(path)
    again = State.load(path, 99, full=True)
    assert again == state
    assert (again.seed, again.total("cuts"), again.ran("mute")) == (7, 40, 3)
    assert again.most("over_backoff_max") == 1.25
    assert State.load(path, 99, full=False) == State(99, full=False), "a short run begins anew"
    path.write_text('{"seed": 7')
    assert State.load(path, 99, full=True) == State(99, full=True), "a torn file is no state"


def test_every_result_of_a_played_demo_can_be_told() -> None:
    """Otherwise half an hour of faults ends in an error instead of an answer."""
    done = FeedsOutcome(cuts=49, over_backoff=[0.1], mutes_found=[7.2], complete=True)
    done.lost = {"trades": 1, "lulds": 14}
    done.skipped, done.repaired, done.repaired_within = (
        {"news news": 2},
        {"news news": 2},
        {"news news": 20.0},
    )
    results = feeds_run.of_demos(State(7, False, [done.numbers()]), [])
    assert results["feeds.events_lost"]["value"] == 1, "a band has no history, a trade has"
    assert not results["feeds.events_lost"]["ok"]
    assert results["feeds.silently_dropped.news_news"]["ok"]
    done.skipped, done.repaired, done.repaired_within = {"news news": 1}, {}, {}
    never = feeds_run.of_demos(State(7, False, [done.numbers()]), [])["feeds.silently_dropped.news_news"]
    assert not never["ok"], "what never came back is a result, not an error"
    assert feeds_run.of_demos(State(7, False), ["broken"])["feeds.demo"]["reason"] == "broken"
