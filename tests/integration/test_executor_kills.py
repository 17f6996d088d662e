"""An executor that dies at any point, or is stopped and wakes: each exit is one order all the same."""

from __future__ import annotations

import asyncio
import os
import random
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

SEED = 20
"""Names four of the failpoints; `make chaos AREA=orders` kills at each of them, hundreds of times."""


async def test_a_kill_at_any_failpoint_costs_nothing_and_doubles_nothing(
    settings: Settings, tmp_path: Path
) -> None:
    """Invariants 2 and 3: a process killed between any two steps must not sell twice, nor forget the exit."""
    names = random.Random(SEED).sample(failpoints.NAMES, 4)
    symbols = [f"T{number}" for number in range(len(names))]
    async with market(tmp_path, *symbols) as broker:
        own = await prepared(settings, broker, tmp_path, "max_age_seconds = 600")
        for symbol in symbols:
            await broker.buy(symbol, "2")
        for symbol, name in zip(symbols, names, strict=True):
            await send(own, exit_intent(symbol))
            # It goes on with what the one before left behind, and dies over that or over its own.
            process = await start_process(own, **{failpoints.VARIABLE: f"{name}:1"})
            assert await asyncio.wait_for(process.wait(), 60) == -signal.SIGKILL, name
        survivor = await start_process(own)
        try:
            for symbol in symbols:
                done = await final(own, exit_intent(symbol)["intent_id"], 60)
                assert (done["outcome"], done["filled_quantity"], done["remaining"]) == ("filled", 2, 0), done
        finally:
            survivor.terminate()
            await survivor.wait()
        assert [broker.held(symbol) for symbol in symbols] == [0] * len(symbols)
        assert sorted(order.symbol for order in broker.orders()) == symbols
    assert rows(own, "SELECT count(*), max(attempt) FROM order_attempts") == [(len(symbols), 0)]


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
