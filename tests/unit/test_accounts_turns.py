"""If these fail, a look at fifty accounts over REST delays the order events of all of them, or one account's
look that hangs keeps the others' balances from being checked."""

from __future__ import annotations

import asyncio
import math
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest

from producers.accounts import rounds
from producers.accounts.rounds import Last, Rounds
from producers.accounts.turns import CROWD_SECONDS, LONGEST_PAUSE, Starts, Turns


async def test_only_so_many_rounds_run_at_once_and_all_of_them_do() -> None:
    """Ten accounts had fills at the same moment: two at a time look at the broker."""
    turns, running, most, done = Turns(at_once=2, longest_pause=0), 0, 0, 0

    async def round() -> None:
        nonlocal running, most, done
        async with turns.turn(asyncio.Event()):
            running += 1
            most = max(most, running)
            await asyncio.sleep(0.01)
            running, done = running - 1, done + 1

    await asyncio.gather(*(round() for _ in range(10)))
    assert (most, done) == (2, 10)


async def test_a_round_that_somebody_waits_for_begins_without_a_place() -> None:
    """A stream that was lost and came back: what it did not tell is looked up at once."""
    turns, go, began = Turns(at_once=1), asyncio.Event(), asyncio.Event()

    async def pressing() -> None:
        async with turns.turn(go):
            began.set()

    async with turns.turn(asyncio.Event()):
        waiting = asyncio.create_task(pressing())
        await asyncio.sleep(0.02)
        assert not began.is_set()
        go.set()
        await waiting
    assert began.is_set()
    assert not go.is_set()


async def test_a_round_that_hangs_gives_its_place_back() -> None:
    """The broker answers for one account and not for another."""
    turns, over = Turns(at_once=1, longest=0.02), asyncio.Event()

    async def hangs() -> None:
        async with turns.turn(asyncio.Event()):
            await over.wait()

    hanging = asyncio.create_task(hangs())
    await asyncio.sleep(0)
    async with asyncio.timeout(5), turns.turn(asyncio.Event()):
        assert not hanging.done()
    over.set()
    await hanging


async def test_a_round_that_is_cancelled_while_it_waits_takes_no_place_with_it() -> None:
    """An account that another process takes over must not leave this one with a place less."""
    turns = Turns(at_once=1)

    async def round() -> None:
        async with turns.turn(asyncio.Event()):
            await asyncio.sleep(60)

    first, second = asyncio.create_task(round()), asyncio.create_task(round())
    await asyncio.sleep(0.01)
    for task in (second, first):
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    async with asyncio.timeout(5), turns.turn(asyncio.Event()):
        pass


@pytest.mark.parametrize("accounts", [2, 50, 5_000])
def test_rounds_of_one_moment_are_spread_and_none_waits_for_long(accounts: int) -> None:
    """Fifty looks in a row make every order event of some seconds late; too far apart, a check would be."""
    starts = Starts()
    begins = [starts.begin(100.0, accounts - 1 - n) for n in range(accounts)]
    pauses = [later - former for former, later in pairwise(begins)]
    assert begins[0] == 0.0
    assert all(0 < pause <= LONGEST_PAUSE for pause in pauses)
    assert begins[-1] >= min(accounts - 1, 40) * LONGEST_PAUSE * 0.99
    crowd = int(CROWD_SECONDS / LONGEST_PAUSE)  # the pauses of the last so many are the longest
    assert begins[-1] <= CROWD_SECONDS * (2 + max(0.0, math.log(max(accounts, crowd) / crowd)))
    assert starts.begin(100.0 + begins[-1] + LONGEST_PAUSE, 0) == 0.0


async def test_two_rounds_of_one_moment_begin_one_after_the_other() -> None:
    """The pause is kept although there are places for both; whoever is waited for does not keep it."""
    turns, begins = Turns(), list[float]()
    loop = asyncio.get_running_loop()

    async def round(go: asyncio.Event) -> None:
        async with turns.turn(go):
            begins.append(loop.time())

    pressing = asyncio.Event()
    pressing.set()
    await asyncio.gather(round(asyncio.Event()), round(asyncio.Event()), round(pressing))
    assert begins[2] - begins[0] >= LONGEST_PAUSE * 0.9
    assert begins[1] - begins[0] < LONGEST_PAUSE * 0.9


class _Looks(Rounds):
    """Rounds of an account that was opened before; a look is only counted."""

    def __init__(self, turns: Turns) -> None:
        truth: Any = SimpleNamespace(started=lambda *_, **__: None, connected=lambda: None, listening=True)
        nothing: Any = None
        last = Last(ts=1, broker=None, cursor=None)
        super().__init__(
            nothing, nothing, last, nothing, nothing, lambda: 1, truth, every_seconds=3600, turns=turns
        )
        self.looked = asyncio.Event()

    async def round(self) -> None:
        self.looked.set()


async def test_looks_after_fills_take_turns_and_one_after_a_lost_stream_does_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What fills have changed can be checked a little later; what a stream has not told cannot wait."""
    for name in ("LISTENING_SECONDS", "FILL_SECONDS", "SPACING_SECONDS"):
        monkeypatch.setattr(rounds, name, 0.0)
    turns = Turns(at_once=1, longest=60)
    looks = _Looks(turns)
    looks.filled()
    async with turns.turn(asyncio.Event()):  # another account's look is under way
        working = asyncio.create_task(looks.run())
        await asyncio.sleep(0.05)
        assert not looks.looked.is_set()
        looks.connected()
        async with asyncio.timeout(5):
            await looks.looked.wait()
        looks.looked.clear()
        looks.filled()
        await asyncio.sleep(0.05)
        assert not looks.looked.is_set()
    async with asyncio.timeout(5):
        await looks.looked.wait()
    working.cancel()
    with pytest.raises(asyncio.CancelledError):
        await working
