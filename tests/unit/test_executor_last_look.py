"""The last look before a POST, and the turn at a symbol: a stopped or slow process must not sell twice.

If these fail, an executor that slept sends an order after its successor has given the intent up, or a stop
waits behind sixty orders of a strategy.
"""

from __future__ import annotations

import asyncio

import pytest

from sinks.executor import machine
from sinks.executor.last_look import LATE_NS, LEAVE_SECONDS, STALL_NS, LastLook, PostTimer, StalledError
from sinks.executor.ledger import FencedError
from sinks.executor.symbol_turn import SymbolTurn
from tidewire.clock import NS_PER_SECOND


class Ours:
    """The ledger, as the last look asks it."""

    def __init__(self) -> None:
        self.asked, self.now, self.takes, self.theirs = 0, 10 * NS_PER_SECOND, 0, False
        self.armed: list[float] = []
        self.timer = PostTimer(self.armed.append)
        self.look = LastLook(self.confirm, lambda: self.now, self.timer)

    async def confirm(self) -> None:
        self.asked += 1
        self.now += self.takes
        if self.theirs:
            raise FencedError("one")


async def test_an_order_leaves_under_a_deadline_and_only_while_the_account_is_ours() -> None:
    """A turn that was long in coming asks the ledger again; one that stood still looks anew."""
    ours = Ours()
    with ours.look.posting(ours.now) as check:
        await check()
        assert ours.asked == 0
        assert ours.armed == [pytest.approx(LEAVE_SECONDS, abs=1)]
    assert ours.armed[-1] == 0

    with ours.look.posting(ours.now - LATE_NS - 1) as check:
        await check()
    assert (ours.asked, ours.armed[-1]) == (1, 0)

    ours.theirs = True
    with pytest.raises(FencedError), ours.look.posting(0) as check:
        await check()
    ours.theirs, ours.takes = False, STALL_NS + 1
    with pytest.raises(StalledError), ours.look.posting(0) as check:
        await check()
    assert ours.armed[-1] == 0


async def test_of_several_orders_the_first_has_the_deadline() -> None:
    """A later order must not give an earlier one, that hangs, more time."""
    ours = Ours()
    first = ours.timer.start()
    second = ours.timer.start()
    assert ours.armed[1] <= ours.armed[0]
    ours.timer.end(first)
    ours.timer.end(first)
    assert 0 < ours.armed[-1] <= LEAVE_SECONDS
    ours.timer.end(second)
    assert ours.armed[-1] == 0


def test_a_successor_doubts_for_longer_than_an_order_may_take_to_leave() -> None:
    """The two numbers stand in two files, and the one is sound only with the other."""
    assert machine.SETTLE_NS > STALL_NS + LEAVE_SECONDS * NS_PER_SECOND
    assert machine.SETTLE_NS > LATE_NS + LEAVE_SECONDS * NS_PER_SECOND


async def test_exits_have_the_next_turn_and_looks_of_others_are_given_up_for_them() -> None:
    """A strategy's look at a broker that hangs must not hold the stop of the same symbol."""
    turn, order = SymbolTurn(), []
    hanging = asyncio.Event()

    async def go(name: str, *, exit: bool) -> None:
        async with turn.taken(exit=exit):
            order.append(name)
            await asyncio.sleep(0)

    async def strategy() -> None:
        async with turn.taken(exit=False):
            assert await turn.unless_exit(asyncio.sleep(0, "seen")) == "seen"
            assert await turn.unless_exit(hanging.wait()) is None
        order.append("given up")

    first = asyncio.create_task(strategy())
    await asyncio.sleep(0.01)
    orders = [asyncio.create_task(go(f"order {n}", exit=False)) for n in range(3)]
    gone = asyncio.create_task(go("gone", exit=False))
    await asyncio.sleep(0)
    assert not first.done()
    gone.cancel()
    exits = [asyncio.create_task(go(f"exit {n}", exit=True)) for n in range(2)]
    await asyncio.wait_for(asyncio.gather(first, *orders, *exits), 5)
    order.remove("given up")
    assert order == ["exit 0", "exit 1", "order 0", "order 1", "order 2"]
    await asyncio.wait_for(go("free", exit=False), 1)


async def test_a_turn_that_comes_as_its_owner_is_cancelled_goes_to_the_next() -> None:
    """Else one stop that is taken back would block its symbol for ever."""
    turn, had = SymbolTurn(), []

    async def go(name: str, release: asyncio.Event) -> None:
        async with turn.taken(exit=True):
            had.append(name)
            await release.wait()

    release = asyncio.Event()
    tasks = []
    for name in ("first", "second", "third"):
        tasks.append(asyncio.create_task(go(name, release)))
        await asyncio.sleep(0)
    release.set()
    while tasks[0] in asyncio.all_tasks():
        await asyncio.sleep(0)
        tasks[1].cancel()
    await asyncio.wait_for(tasks[2], 5)
    assert had in (["first", "third"], ["first", "second", "third"])
