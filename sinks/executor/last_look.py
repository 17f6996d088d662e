"""The last look before an order is sent, and a deadline that holds even if the process is stopped after it.

Whoever takes an account over keeps an order that it cannot find in doubt for SETTLE_NS (machine.py), counted
from its claim. That is sound only if no order of a former owner leaves later. So an order leaves within
LATE_NS + STALL_NS + LEAVE_SECONDS of a look at the ledger that showed the account as ours, whatever happens
to this process: a timer of the kernel runs from before the last checks until the answer, and its signal has
no handler. It ends a process that was stopped (SIGSTOP, a paused container) before that runs on.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

from sinks.executor.broker_types import LastCheck
from tidewire.clock import NS_PER_SECOND, Clock

LATE_NS = NS_PER_SECOND
"""The ledger is asked again when its last step is older: the turn at the rate limit was long in coming."""
STALL_NS = 3 * NS_PER_SECOND
"""So old may its answer be; else the intent looks anew."""
LEAVE_SECONDS = 16.0
"""More than the kill switch (3 s) and a request (10 s) may take: a sound process never meets it."""

Arm = Callable[[float], object]
"""Has this process ended in so many seconds, in place of the time set before; 0: never."""


class StalledError(Exception):
    """This process stood still between its look at the ledger and here: look again."""


def kernel(seconds: float) -> None:
    """The process's own timer; nobody else may use it."""
    signal.setitimer(signal.ITIMER_REAL, seconds)


def unarmed(_: float) -> None:
    """No deadline: in tests, whose process has other uses for its timer."""


class PostTimer:
    """One timer for all orders of a process that are on their way: the first of them counts."""

    def __init__(self, arm: Arm = unarmed, seconds: float | None = None) -> None:
        self._arm, self._seconds = arm, LEAVE_SECONDS if seconds is None else seconds
        self._due: dict[object, float] = {}

    def start(self) -> object:
        """An order may leave from now on; returns what `end` wants."""
        order = object()
        self._due[order] = time.monotonic() + self._seconds  # all wait as long: the first is due first
        self._wind()
        return order

    def end(self, order: object) -> None:
        """It was answered, or will not leave any more."""
        if self._due.pop(order, None) is not None:
            self._wind()

    def _wind(self) -> None:
        due = next(iter(self._due.values()), None)
        self._arm(0.0 if due is None else max(due - time.monotonic(), 0.001))


class LastLook:
    """Of one account under one claim. `confirm` raises FencedError when the account is another's."""

    def __init__(self, confirm: Callable[[], Awaitable[None]], now: Clock, timer: PostTimer) -> None:
        self._confirm, self._now, self._timer = confirm, now, timer

    @contextmanager
    def posting(self, since: int) -> Iterator[LastCheck]:
        """Around one POST: yields what to await just before it, once its turn has come.

        `since` is a time (ns) at which the account was ours, or before. The check raises StalledError, and
        what `confirm` raises.
        """
        order: object | None = None

        async def check() -> None:
            nonlocal order
            looked = since
            if self._now() - looked > LATE_NS:
                looked = self._now()
                await self._confirm()
            order = self._timer.start()
            if self._now() - looked > STALL_NS:
                raise StalledError

        try:
            yield check
        finally:
            if order is not None:
                self._timer.end(order)
