"""kill -9 of every process of the main line, once each: a small cycle of `make chaos`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos import scenarios

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(420)]


def test_the_line_stays_complete_when_everything_behind_the_producer_is_killed(tmp_path: Path) -> None:
    """Otherwise a crash of one process or server costs the user trades or quotes without a word."""
    outcome = scenarios.kill_in_turn(tmp_path, ("processor", "sink", "kafka", "postgres"), 30_000, seed=11)
    assert outcome.report["complete"], outcome.report
    assert outcome.exit_code == 0
    assert outcome.missing == 0
    assert outcome.left_running == []


def test_a_killed_producer_finds_its_own_gap_and_the_report_names_exactly_what_nobody_can_give_back(
    tmp_path: Path,
) -> None:
    """Otherwise the user either trusts a log with holes, or is told of holes that are none."""
    outcome = scenarios.kill_in_turn(tmp_path, ("producer",), 20_000, seed=12)
    assert outcome.repaired, "the kill must have cost something, else this test shows nothing"
    assert outcome.report["complete"], outcome.report
    assert outcome.exit_code == 0
    assert outcome.missing == 0
    lost = scenarios.sent_but_not_stored(tmp_path / "home")
    assert {event[0] for event in lost} <= {"bars"}, "trades and quotes have a history"
    assert scenarios.named(tmp_path / "home") == lost
    assert outcome.left_running == []
