"""Executors killed, stopped and woken, bad answers, repeats, the switch: a small part of `make chaos`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos import orders_scenario
from tests.chaos.orders_scenario import Part
from tidewire.config import Settings

pytestmark = [pytest.mark.chaos, pytest.mark.kafka, pytest.mark.postgres, pytest.mark.timeout(420)]

# Four accounts: the partitions of three can all be one process's, and the other would never come to a POST.
SMALL = Part(kills=6, zombies=1, submits=10, duplicates=(50, 3), switches=1, accounts=4, symbols=3)


def test_each_exit_is_one_order_whatever_dies_hangs_or_lies(settings: Settings, tmp_path: Path) -> None:
    """Otherwise a crash or a bad line sells a position twice, or never, or after the user has stopped it all.

    Invariants: no duplicate orders, no lost exits, no stale triggers, and nothing after the kill switch.
    """
    outcome = orders_scenario.play(tmp_path, SMALL, seed=71, tell=print, borrowed=settings)
    assert outcome.verdict.complaints == []
    assert outcome.crashed == []
    assert sum(count for what, count in outcome.ran.items() if what.startswith("kill at ")) == 6
    assert outcome.ran["zombies"] == outcome.ran["switches"] == 1
    assert outcome.verdict.seen["exits that closed their position"] >= 10
