"""An executor that dies at any point, or is stopped and wakes: each exit is one order all the same."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

from sinks.executor import failpoints
from tests.integration.executor_world import (
    exit_intent,
    final,
    market,
    order_intent,
    prepared,
    rows,
    send,
    start_process,
)
from tidewire.config import Settings


@pytest.mark.timeout(240)
async def test_a_kill_at_any_failpoint_costs_nothing_and_doubles_nothing(
    settings: Settings, tmp_path: Path
) -> None:
    """Invariants 2 and 3: a process killed between any two steps must not sell twice, nor forget the exit."""
    async with market(tmp_path) as broker:
        own = await prepared(settings, broker, tmp_path, "max_age_seconds = 600")
        wanted = []
        for number, name in enumerate(failpoints.NAMES):
            await broker.buy("AAPL", "2")
            intent = exit_intent("AAPL", epoch=number)
            wanted.append(intent["intent_id"])
            await send(own, intent)
            process = await start_process(own, **{failpoints.VARIABLE: f"{name}:1"})
            assert await asyncio.wait_for(process.wait(), 60) == -signal.SIGKILL, name
            # Whoever comes next finishes it, and dies in turn at the next failpoint.
            if name == failpoints.NAMES[-1]:
                break
            survivor = await start_process(own)
            assert (await final(own, intent["intent_id"], 60))["remaining"] == 0, name
            assert broker.held("AAPL") == 0, name
            survivor.terminate()
            await survivor.wait()
        assert len(broker.orders()) >= len(wanted) - 1
        ids = [order.client_order_id for order in broker.orders()]
        assert len(set(ids)) == len(ids)
        assert rows(own, "SELECT max(attempt) FROM order_attempts") == [(0,)]


@pytest.mark.timeout(120)
async def test_a_stopped_executor_that_wakes_orders_nothing(settings: Settings, tmp_path: Path) -> None:
    """A machine that slept still believes that it owns the account."""
    async with market(tmp_path) as broker:
        own = await prepared(settings, broker, tmp_path, "max_age_seconds = 600")
        await broker.buy("AAPL", "2")
        zombie = await start_process(own)
        first = order_intent("first", "AAPL", "buy", "1")
        await send(own, first)
        await final(own, "first", 60)
        os.kill(zombie.pid, signal.SIGSTOP)
        try:
            intent = exit_intent("AAPL")
            await send(own, intent)
            successor = await start_process(own)
            done = await final(own, intent["intent_id"], 60)
            assert (done["outcome"], done["remaining"]) == ("filled", 0)
        finally:
            os.kill(zombie.pid, signal.SIGCONT)
        zombie.terminate()
        assert await asyncio.wait_for(zombie.wait(), 30) == 0
        successor.terminate()
        await successor.wait()
        assert broker.held("AAPL") == 0
        assert len(broker.orders()) == 2
    assert rows(own, "SELECT fence FROM executor_owners")[0][0] >= 2
