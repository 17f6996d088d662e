"""An executor that is stopped between its last look and the write of its order, and woken when its successor
has given the order up.

If this fails, a stop fires twice: once by the next exit epoch, and once by a process that had slept.
"""

from __future__ import annotations

import asyncio
import signal
import time
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer

from schemas.catalogue import TRADE_UPDATES
from schemas.codec import load_codec
from sinks.executor import failpoints, kill_file
from tests.integration.executor_broker import until_held
from tests.integration.executor_world import (
    ACCOUNT,
    exit_intent,
    final,
    market,
    prepared,
    rows,
    running,
    send,
    start_process,
)
from tests.portfolio_history import an_update
from tidewire.config import Settings
from tidewire.kafka import client_arguments
from tidewire.metrics import EXECUTOR_ALERTS

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
        # Younger than the group's ten seconds: whoever takes over finds it too old.
        own = await prepared(settings, broker, tmp_path, "max_age_seconds = 8")
        await broker.buy("AAPL", "2")
        zombie = await start_process(own, first=QUICKLY, **{failpoints.VARIABLE: "post.checked:1:stop"})
        running = [zombie]
        try:
            await until_held(lambda: _claimed(own), 60)
            first = exit_intent("AAPL")
            await send(own, first)
            await until_held(lambda: _stopped(zombie.pid), 30)
            running.append(await start_process(own, first=QUICKLY))
            assert (await final(own, first["intent_id"], 120))["outcome"] == "stale"
            later = exit_intent("AAPL", exit_epoch=1)
            await send(own, later)
            assert (await final(own, later["intent_id"], 60))["outcome"] == "filled"
            zombie.send_signal(signal.SIGCONT)
            assert await asyncio.wait_for(zombie.wait(), 30) == -signal.SIGALRM
        finally:
            for process in running:
                if process.returncode is None:
                    process.kill()
                    await process.wait()
        assert broker.held("AAPL") == 0
        assert [order.client_order_id for order in broker.orders()] == [later["client_order_id"]]
        assert await broker.posts() == {later["client_order_id"]: 1}
    assert rows(own, "SELECT fence FROM executor_owners")[0][0] == 2


async def test_an_order_that_turns_up_after_its_intent_has_ended_is_told(
    settings: Settings, tmp_path: Path
) -> None:
    """It must not happen; if it does, shares have left the account that nobody else will miss."""
    async with market(tmp_path) as broker:
        own = await prepared(settings, broker, tmp_path)
        await broker.buy("AAPL", "2")
        late = EXECUTOR_ALERTS.labels("late")
        before = late._value.get()
        async with running(own):
            kill_file.set_on(own.tidewire_home, ACCOUNT, "enough")
            unsent = exit_intent("AAPL")
            await send(own, unsent)
            assert (await final(own, unsent["intent_id"]))["outcome"] == "refused"
            kill_file.set_off(own.tidewire_home, ACCOUNT)
            sent = exit_intent("AAPL", exit_epoch=1)
            await send(own, sent)
            assert (await final(own, sent["intent_id"]))["outcome"] == "filled"
            encode = load_codec(own).encoder("trade_update")
            names = [str(each["client_order_id"]) for each in (sent, unsent)]
            updates = [
                encode(an_update("new", f"o-{n}", time.time_ns(), account=ACCOUNT, client_order_id=name))
                for n, name in enumerate([*names, "somebody's"])
            ]
            producer = AIOKafkaProducer(**client_arguments(own))
            await producer.start()
            try:

                async def alerted() -> bool:  # told again and again: who follows may not have begun
                    for value in updates:
                        await producer.send_and_wait(own.tidewire_topic_prefix + TRADE_UPDATES, value)
                    return bool(late._value.get() > before)

                await until_held(alerted)
                await alerted()
            finally:
                await producer.stop()
        assert late._value.get() == before + 1


async def _claimed(settings: Settings) -> bool:
    made = rows(settings, "SELECT to_regclass('executor_owners')") != [(None,)]
    return made and bool(rows(settings, "SELECT 1 FROM executor_owners"))


async def _stopped(pid: int) -> bool:
    state = await asyncio.to_thread(Path(f"/proc/{pid}/stat").read_text)
    return state.rpartition(")")[2].split()[0] == "T"
