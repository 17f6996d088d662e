"""Whether an event loop still turns: a service that hangs must end, so that its supervisor starts it again.

A hanging service answers nobody, keeps its partitions (heartbeats may come from another thread) and
never ends by itself. A thread beside the loop looks whether the loop has turned since the last look; after
LOOKS in a row without a turn it writes every thread's stack and ends the process. Looks are counted, not
seconds: a process that was stopped and woken, or a machine that slept, has missed one look.

Shorter stalls show in a metric, and those of a second or more in the log.
"""

from __future__ import annotations

import asyncio
import faulthandler
import os
import sys
import threading
import time
from collections.abc import Callable

from tidewire import log
from tidewire.metrics import LOOP_LATE

EVERY_SECONDS = 5.0
LOOKS = 24
"""Two minutes: no batch, recovery or collection of garbage of a sound service takes that long."""

BEAT_SECONDS = 0.1
LONG_SECONDS = 1.0

_log = log.get(__name__)


class Watcher:
    """Counts looks without a turn. Pure."""

    def __init__(self, looks: int = LOOKS) -> None:
        self._looks, self._missed, self._before = looks, 0, -1

    def look(self, turns: int) -> bool:
        """Whether it hangs; `turns`: how often the loop has turned so far."""
        self._missed = self._missed + 1 if turns == self._before else 0
        self._before = turns
        return self._missed >= self._looks


class Pulse:
    """Watches the running event loop from `start` to `stop`. `hangs` is called by the thread; it must not
    need the loop.
    """

    def __init__(
        self, hangs: Callable[[], None] | None = None, every: float = EVERY_SECONDS, looks: int = LOOKS
    ) -> None:
        self._hangs, self._every, self._watcher = hangs or leave, every, Watcher(looks)
        self._turns = 0
        self._over = threading.Event()
        self._beating: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin; call it inside the loop."""
        self._beating = asyncio.create_task(self._beat())
        threading.Thread(target=self._watch, name="tidewire-pulse", daemon=True).start()

    def stop(self) -> None:
        """End."""
        self._over.set()
        if self._beating is not None:
            self._beating.cancel()

    async def _beat(self) -> None:
        pause = min(BEAT_SECONDS, self._every / 2)
        while True:
            self._turns += 1
            slept = time.monotonic()
            await asyncio.sleep(pause)
            late = max(0.0, time.monotonic() - slept - pause)
            LOOP_LATE.observe(late)
            if late >= LONG_SECONDS:
                _log.warning("stood still", seconds=round(late, 1))

    def _watch(self) -> None:
        while not self._over.wait(self._every):
            if self._watcher.look(self._turns):
                self._hangs()
                return


def leave() -> None:
    """Say where every thread stands, and end the process; whatever is undone is done again."""
    _log.error("the event loop has not turned for two minutes; leaving. The next start goes on from the log")
    faulthandler.dump_traceback(file=sys.stderr, all_threads=True)
    sys.stderr.flush()
    os._exit(1)
