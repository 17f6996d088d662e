"""Faults of the feeds over one running demo: a small, seeded part of `make chaos AREA=feeds`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos import feeds_scenario, feeds_steps
from tests.chaos.feeds_skips import Skip, late_in_the_minute, skips

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(420)]


def test_after_cuts_repeats_and_silent_losses_nothing_is_missing_but_what_is_named(
    tmp_path: Path,
) -> None:
    """Otherwise the user's log has holes after a bad connection, and nobody says where."""
    steps = [
        feeds_steps.cuts(),
        feeds_steps.harmless("repeat", "news", kind="repeat", frames=2),
        late_in_the_minute(),
        skips([Skip("trading", "fill", 2), Skip("news", "news", 2)]),
    ]
    outcome = feeds_scenario.play(tmp_path, steps, seed=31, tell=print)
    assert outcome.complete, outcome.problems
    assert outcome.exit_code == 0
    assert outcome.wrongly_named == []
    assert outcome.lost_with_history == 0
    assert outcome.lost_fills == 0
    assert outcome.cuts == 6
    assert max(outcome.over_backoff) <= 2
    assert outcome.repaired == outcome.skipped == {"trading fill": 2, "news news": 2}
    assert max(outcome.repaired_within.values()) <= 120
    assert outcome.left_running == []
