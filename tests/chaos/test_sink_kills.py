"""The sink under load, killed with -9, its PostgreSQL stopped `immediate`: a small cycle of `make chaos`."""

from __future__ import annotations

import pytest

from tests.chaos import sink_scenario
from tidewire.config import Settings

pytestmark = [pytest.mark.chaos, pytest.mark.kafka, pytest.mark.timeout(420)]


async def test_every_row_is_what_was_sent_after_kills_and_a_lost_server(settings: Settings) -> None:
    """Otherwise a crash stores a trade twice, half, or not at all, and a count would not show it."""
    with sink_scenario.own_stack() as stack:
        stack.start_postgres()
        change = {"database_url": stack.postgres.url}
        mine = Settings.model_validate({**dict(settings), **change})
        outcome = await sink_scenario.survive(mine, stack, kills=3, restarts=1, seed=5, tell=print)
    assert outcome.differences == dict.fromkeys(sink_scenario.STORED, 0)
    assert (outcome.kills, outcome.restarts, outcome.exit_code) == (3, 1, 0)
    assert outcome.rows["trades"] > 500
    assert outcome.rows["statuses"] > 10
