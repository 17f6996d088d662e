"""A task that outlives its cancellation would keep a service from ending until it is killed."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from tidewire.endings import end


async def test_a_task_that_loses_a_cancellation_is_cancelled_again() -> None:
    """As `AIOKafkaConsumer.stop()` loses one in a loop that connects again and again."""
    lost = 0

    async def follow() -> None:
        nonlocal lost
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        lost += 1
        await asyncio.Event().wait()

    task = asyncio.create_task(follow())
    await asyncio.sleep(0)
    await asyncio.wait_for(end(task, again=0.01), 10)
    assert lost == 1
    assert task.cancelled()


async def test_a_task_is_not_interrupted_while_it_puts_things_away() -> None:
    """Half a clean-up would leave a lease held or a connection open."""
    put_away = asyncio.Event()

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.05)
            put_away.set()

    async def failed() -> None:
        raise ValueError("seen by whoever looks at the task")

    task, failure = asyncio.create_task(work()), asyncio.create_task(failed())
    await asyncio.sleep(0)
    await end(task, failure)
    assert put_away.is_set()
    assert isinstance(failure.exception(), ValueError)


async def test_nothing_to_end_is_no_error() -> None:
    """The last account of a process leaves nothing to end."""
    await end()
