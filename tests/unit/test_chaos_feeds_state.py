"""A long run of faults that is broken off goes on where it was."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos import feeds_run
from tests.chaos.feeds_run import State
from tests.chaos.feeds_scenario import FeedsOutcome


def test_a_full_run_that_was_broken_off_keeps_its_seed_and_what_it_did(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise 500 cuts must be made in one go, on a machine that is never switched off."""
    monkeypatch.setattr(feeds_run, "STATE", tmp_path / "state.json")
    state = State.load(7, full=True)
    done = FeedsOutcome(ran={"mute": 3}, cuts=40, over_backoff=[0.5, 1.25], skipped={"news news": 2})
    state.outcomes.append(done.numbers())
    state.save()
    again = State.load(99, full=True)
    assert again == state
    assert (again.seed, again.total("cuts"), again.ran("mute")) == (7, 40, 3)
    assert again.most("over_backoff_max") == 1.25
    assert State.load(99, full=False) == State(99, full=False), "a short run begins anew"
    (tmp_path / "state.json").write_text('{"seed": 7')
    assert State.load(99, full=True) == State(99, full=True), "a torn file is no state"
