"""The limit of requests: never more in any minute than the broker allows, exits first.

A user whose executor runs into 429 in a falling market gets no exit out for the rest of the minute.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sinks.executor.broker_types import Limited
from sinks.executor.limiter import LONGEST_PAUSE, Turnstile, Window
from tidewire.clock import NS_PER_SECOND

SECOND = NS_PER_SECOND
MINUTE = 60 * SECOND
WALL = 1_800_000_000 * SECOND


class Time:
    """A clock that only moves when nobody can run; sleepers wake in order."""

    def __init__(self) -> None:
        self.now = 0
        self._sleepers: list[tuple[int, int, asyncio.Future[None]]] = []
        self._count = itertools.count()

    def clock(self) -> int:
        return self.now

    def wall(self) -> int:
        return WALL + self.now

    async def sleep(self, seconds: float) -> None:
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self.now + round(seconds * SECOND), next(self._count), woken))
        await woken

    async def until(self, done: Callable[[], bool], most: int = 100 * MINUTE) -> None:
        while not done():
            for _ in range(20):
                await asyncio.sleep(0)
            if done():
                return
            while self._sleepers and self._sleepers[0][2].done():
                heapq.heappop(self._sleepers)
            assert self._sleepers, "everybody waits, and nobody sleeps"
            self.now, _, woken = heapq.heappop(self._sleepers)
            assert self.now <= most
            woken.set_result(None)


def greatest(sent: list[int]) -> int:
    """The most within any minute, counted naively."""
    return max((sum(at - MINUTE < other <= at for other in sent) for at in sent), default=0)


@settings(max_examples=20)
@given(st.lists(st.tuples(st.integers(0, 20 * SECOND), st.booleans()), max_size=40), st.integers(1, 8))
def test_no_minute_has_more_than_allowed(wishes: list[tuple[int, bool]], reserve: int) -> None:
    """Whatever is asked for when: never over the limit, others never into what exits have for themselves."""
    window, now = Window(10, reserve), 0
    sent: list[int] = []
    others: list[int] = []
    for pause, exit in wishes:
        now += pause
        now = window.ready_at(now, exit=exit)
        assert window.ready_at(now, exit=exit) == now
        window.take(now)
        sent.append(now)
        others += [] if exit else [now]
    assert greatest(sent) <= 10
    assert greatest(others) <= 10 - reserve


@settings(max_examples=15)
@given(st.lists(st.tuples(st.integers(0, 5 * SECOND), st.booleans()), min_size=1, max_size=40))
def test_a_request_waits_no_longer_than_it_must(wishes: list[tuple[int, bool]]) -> None:
    """Against a naive search: the first moment at which the minute behind it has room."""
    window, now = Window(5, 2), 0
    sent: list[int] = []
    for pause, exit in wishes:
        now += pause
        most = 5 if exit else 3
        moments = sorted({now, *(at + MINUTE for at in sent if at + MINUTE > now)})
        wanted = next(m for m in moments if sum(m - MINUTE < at for at in sent) < most)
        assert window.ready_at(now, exit=exit) == wanted
        now = wanted
        window.take(now)
        sent.append(now)


def test_what_the_broker_says_counts() -> None:
    """Another program on the same account uses it up: our own count knows nothing of that."""
    window = Window(200, 40)
    window.told(0, 41, 30 * SECOND)
    assert window.ready_at(0, exit=False) == 0
    window.take(0)
    assert window.ready_at(0, exit=False) == 30 * SECOND
    assert window.ready_at(0, exit=True) == 0
    window.told(0, 3, 30 * SECOND, in_flight=3)
    assert window.ready_at(0, exit=True) == 30 * SECOND
    assert window.ready_at(30 * SECOND, exit=False) == 30 * SECOND
    window.shut(0, 10**6 * SECOND)  # a clock that is wrong must not stop exits for days
    assert window.ready_at(0, exit=True) == LONGEST_PAUSE


async def test_exits_go_first_and_a_reserve_is_theirs() -> None:
    """The exit behind a rush of other requests goes out at once, and the rush waits for its minute."""
    time = Time()
    turnstile = Turnstile(Window(10, 3), time.clock, time.wall, time.sleep)
    order: list[tuple[str, int]] = []

    async def one(name: str, exit: bool) -> None:
        await turnstile.enter(exit=exit)
        order.append((name, time.now))
        turnstile.leave({})

    tasks = [asyncio.create_task(one(f"other-{n}", False)) for n in range(20)]
    await asyncio.sleep(0)
    tasks += [asyncio.create_task(one(f"exit-{n}", True)) for n in range(4)]
    await time.until(lambda: all(task.done() for task in tasks))
    assert [name for name, at in order if at == 0] == [
        *(f"other-{n}" for n in range(7)),
        "exit-0",
        "exit-1",
        "exit-2",
    ]
    later = [name for name, at in order if at > 0]
    assert later[0] == "exit-3"
    assert later[1:] == [f"other-{n}" for n in range(7, 20)]
    assert greatest([at for _, at in order]) <= 10


async def test_a_late_exit_wakes_the_queue_early() -> None:
    """Others wait a minute for their turn; an exit that may pass sooner must not sleep as long as they do."""
    time = Time()
    turnstile = Turnstile(Window(2, 1), time.clock, time.wall, time.sleep)
    await turnstile.enter(exit=True)
    turnstile.leave({})
    time.now = 10 * SECOND
    await turnstile.enter(exit=True)
    turnstile.leave({})
    passed: list[tuple[str, int]] = []

    async def one(name: str, exit: bool) -> None:
        await turnstile.enter(exit=exit)
        passed.append((name, time.now // SECOND))
        turnstile.leave({})

    tasks = [asyncio.create_task(one("other", False))]
    await asyncio.sleep(0)
    tasks.append(asyncio.create_task(one("exit", True)))
    await time.until(lambda: all(task.done() for task in tasks))
    assert passed == [("exit", 60), ("other", 120)]


async def test_a_429_stops_all_until_the_brokers_minute_is_over() -> None:
    """Asking on would keep the account shut out."""
    time = Time()
    turnstile = Turnstile(Window(), time.clock, time.wall, time.sleep)
    await turnstile.enter(exit=True)
    headers = {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": str(WALL // SECOND + 20)}
    limited = turnstile.refused(headers)
    turnstile.leave(headers)
    assert limited.until_ns == WALL + 20 * SECOND
    task = asyncio.create_task(turnstile.enter(exit=True))
    await time.until(task.done)
    assert time.now == 20 * SECOND
    assert turnstile.refused({"Retry-After": "7"}).until_ns == time.wall() + 7 * SECOND
    assert turnstile.refused({}).until_ns == time.wall() + SECOND
    assert turnstile.refused({"X-RateLimit-Reset": "soon"}).until_ns == time.wall() + SECOND


async def test_who_gives_up_takes_no_turn_and_the_queue_is_bounded() -> None:
    """A queue without a bound is where orders grow stale unseen; a turn that is lost stops everybody."""
    time = Time()
    turnstile = Turnstile(Window(2, 1), time.clock, time.wall, time.sleep, most_waiting=3)
    await turnstile.enter(exit=False)
    tasks = [asyncio.create_task(turnstile.enter(exit=False)) for _ in range(3)]
    await asyncio.sleep(0)
    with pytest.raises(Limited):
        await turnstile.enter(exit=False)
    await turnstile.enter(exit=True)  # an exit is let in even then
    tasks[0].cancel()
    await asyncio.sleep(0)
    assert turnstile.waiting == 2
    tasks.append(asyncio.create_task(turnstile.enter(exit=False)))  # there is room again
    await time.until(lambda: all(task.done() for task in tasks))
    assert turnstile.waiting == 0
    assert [task.cancelled() for task in tasks] == [True, False, False, False]
