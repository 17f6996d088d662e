"""The results of the chaos of processing: if these fail, an hour of faults ends in an error."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos import processing_run, processing_scenario
from tests.chaos.processing_scenario import Outcome
from tests.chaos.run_state import RunState


def test_a_run_that_was_broken_off_goes_on_with_what_it_had(
    tmp_path: Path,
) -> None:
    """A full run takes hours; what was found before is kept, and tells at the end."""
    path = tmp_path / "build" / "state.json"
    outcome = Outcome(crashed=["processor 7 ended with 1"])
    outcome.ran.update({"join": 60, "leave": 40})
    outcome.did("kill -9 of a processor", 12.34)
    outcome.verdict.seen["keys"] = 8
    RunState(5, True, [outcome.numbers()]).save(path)
    state = RunState.load(path, 6, True)
    assert (state.seed, len(state.outcomes)) == (5, 1)
    found = processing_run.results(state, None)
    assert found["processing.joins_and_leaves"]["value"] == 100
    assert found["processing.recovered_within"]["value"] == 12.3
    assert found["processing.wrong_values"] == {
        "value": 0, "unit": "values of changelog and features", "goal": 0, "keys": 8,
        "faulty_seeds": [5], "first": [], "ok": True,
    }  # fmt: skip
    assert not found["processing.crashed"]["ok"]
    assert RunState.load(path, 6, False).outcomes == []


@pytest.mark.parametrize("seed", range(20))
def test_every_run_joins_leaves_and_kills_as_often_as_it_says(seed: int) -> None:
    """One to four workers at any time, whatever the seed."""
    steps = processing_scenario.steps(seed, 100, 4, 2, 1)
    workers = 2
    for step in steps:
        assert step.leaves <= workers
        workers += step.joins - step.leaves
        assert 1 <= workers <= 4
    assert sum(step.joins + step.leaves for step in steps) == 100
    kinds = [step.kind for step in steps]
    assert [kinds.count(kind) for kind in ("kill", "sink", "kafka")] == [4, 2, 1]
