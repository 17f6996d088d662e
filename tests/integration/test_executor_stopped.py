"""An executor that is stopped between its last look and the write of its order, and woken when its successor
has given the order up.

If this fails, a stop fires twice: once by the next exit epoch, and once by a process that had slept.
"""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

from sinks.executor import failpoints
from tests.integration.executor_broker import until_held
from tests.integration.executor_world import (
    exit_intent,
    final,
    market,
    prepared,
    rows,
    send,
    start_process,
)
from tidewire.config import Settings

pytestmark = [pytest.mark.kafka, pytest.mark.postgres, pytest.mark.timeout(240)]
QUICKLY = (
    "from sinks.executor import last_look, machine; "
    "last_look.LEAVE_SECONDS = 5.0; machine.SETTLE_NS = 9 * 10**9"
)
"""The deadline and the doubt, in their proportion; the group's ten seconds stay."""


async def test_a_process_that_slept_before_its_write_ends_before_it_writes(
    settings: Settings, tmp_path: Path
) -> None:
    """Its successor ends the intent as stale, and the next exit epoch closes the position: once."""
    async with market(tmp_path) as broker:
        own = await prepared(settings, broker, tmp_path, "max_age_seconds = 15")
        await broker.buy("AAPL", "2")
        zombie = await start_process(own, first=QUICKLY, **{failpoints.VARIABLE: "post.checked:1:stop"})
        first, later = exit_intent("AAPL"), exit_intent("AAPL", exit_epoch=1)
        await send(own, first)
        try:
            await until_held(lambda: _stopped(zombie.pid), 60)
            successor = await start_process(own, first=QUICKLY)
            assert (await final(own, first["intent_id"], 120))["outcome"] == "stale"
            later = exit_intent("AAPL", exit_epoch=1)
            await send(own, later)
            assert (await final(own, later["intent_id"], 60))["outcome"] == "filled"
        finally:
            os.kill(zombie.pid, signal.SIGCONT)
        assert await asyncio.wait_for(zombie.wait(), 30) == -signal.SIGALRM
        successor.terminate()
        await successor.wait()
        assert broker.held("AAPL") == 0
        assert [order.client_order_id for order in broker.orders()] == [later["client_order_id"]]
        assert await broker.posts() == {later["client_order_id"]: 1}
    assert rows(own, "SELECT fence FROM executor_owners")[0][0] == 2


async def _stopped(pid: int) -> bool:
    state = await asyncio.to_thread(Path(f"/proc/{pid}/stat").read_text)
    return state.rpartition(")")[2].split()[0] == "T"
