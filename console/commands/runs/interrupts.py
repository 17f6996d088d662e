"""What Ctrl-C, SIGTERM and SIGHUP do to a run: the first ends it in order, a second one hurries."""

from __future__ import annotations

import asyncio
import signal
from types import FrameType
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(KeyboardInterrupt):
    """The run was asked to end before it had anything to show."""


class Interrupts:
    """As a context manager: catches the signals.

    Outside an event loop the first signal raises Interrupted in the main thread; later ones are only counted,
    so that the clean-up which the first one started is never cut short. Inside `attach`ed loops they set
    events instead.
    """

    def __init__(self) -> None:
        self.count = 0
        self.stop = asyncio.Event()
        self.hurry = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Interrupts:
        self._before = {number: signal.signal(number, self._caught) for number in _SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """From now on set the events, in `loop`."""
        self._loop = loop
        self._tell(loop)

    def interrupt(self) -> None:
        """As a signal would."""
        self._caught(signal.SIGINT, None)

    def detach(self) -> None:
        """The loop is about to end."""
        self._loop = None

    def _caught(self, number: int, frame: FrameType | None) -> None:
        self.count += 1
        if self._loop is not None:
            self._tell(self._loop)
        elif self.count == 1:
            raise Interrupted

    def _tell(self, loop: asyncio.AbstractEventLoop) -> None:
        if self.count >= 1:
            loop.call_soon_threadsafe(self.stop.set)
        if self.count >= 2:
            loop.call_soon_threadsafe(self.hurry.set)
