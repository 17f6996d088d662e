"""kill -9 of processes of the account side, once each, while orders go on: a small part of `make chaos`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos import account_scenario

VICTIMS = ("portfolio", "gateway", "accounts")
"""Those that test_kills.py does not kill; `make chaos AREA=accounts` kills all."""

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(420)]


def test_orders_fills_positions_and_cash_are_the_brokers_after_every_kill(tmp_path: Path) -> None:
    """Otherwise a crash shows the user shares that are not there, or money that is."""
    outcome = account_scenario.kill_in_turn(tmp_path, VICTIMS, seed=21)
    assert outcome.differences == []
    assert outcome.exit_code == 0
    assert outcome.kills == dict.fromkeys(VICTIMS, 1)
    assert min(outcome.connects.values()) >= 2, "the clients must have lost the killed gateway, and come back"
    assert outcome.events["canceled"] > 0
    assert outcome.events["partial_fill"] > 0
    assert outcome.fills > 10
    assert outcome.left_running == []
