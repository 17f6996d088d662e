"""Processors, sink and Kafka broken while ticks are folded: a small part of `make chaos AREA=processing`."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from tests.chaos import processing_run, processing_scenario
from tests.chaos.processing_scenario import Step

pytestmark = [pytest.mark.chaos, pytest.mark.kafka, pytest.mark.postgres, pytest.mark.timeout(420)]

STEPS = [
    Step("workers", joins=1, hasty=True),
    Step("kill"),
    Step("workers", joins=1, leaves=2),
    Step("sink"),
    Step("kafka"),
]


def test_tables_changelog_and_postgresql_are_those_of_the_files_whatever_was_killed() -> None:
    """Otherwise volumes and prices are wrong after a crash or a deployment, or records vanish in silence."""
    with tempfile.TemporaryDirectory(prefix="tidewire-chaos-") as name:
        folder = Path(name)
        folder.chmod(0o755)  # below a private folder PostgreSQL's own user would not reach its data
        folders = processing_run.ticks(folder / "ticks", 41, ("AAA", "BBB", "CCC", "DDD", "EEE"), 500)
        outcome = processing_scenario.play(folder / "home", folders, STEPS, seed=41, tell=print)
    found = outcome.verdict
    assert found.wrong == []
    assert (found.missing, found.extra) == (0, 0)
    assert found.letters == []
    assert found.seen["letters_processor"] >= 10
    assert found.uncounted + outcome.uncounted == []
    assert outcome.flood == []
    assert outcome.crashed == []
    assert outcome.ran["join"] + outcome.ran["leave"] == 4
