"""A worker whose recovery never ends, on a real Kafka: it ends by itself, and supervision starts it again."""

from __future__ import annotations

import asyncio

import pytest
from faust.tables.recovery import Recovery

from processors import standstill
from processors.exits.app import EVENTS, OUTPUTS, PRICES, WHOLE, ExitsService
from schemas import cluster
from tidewire.config import Settings
from tidewire.errors import TidewireError
from tidewire.health import Health

pytestmark = pytest.mark.kafka


async def test_a_recovery_that_never_ends_ends_the_service(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exits would be watched by nobody, while the group believes that they are."""
    await cluster.apply(settings, (*PRICES, *EVENTS, *OUTPUTS, *WHOLE))

    async def for_ever(*_: object, **__: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(Recovery, "on_recovery_completed", for_ever)
    monkeypatch.setattr(standstill.Standstill.__init__, "__defaults__", (10,))
    health = Health("exits")
    with pytest.raises(TidewireError, match="no progress for minutes, though Kafka answers: joining"):
        await asyncio.wait_for(ExitsService(settings).run(health, asyncio.Event()), 120)
    assert health.not_ready is not None
