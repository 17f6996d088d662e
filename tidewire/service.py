"""How every service starts and ends: logs, health server, signals, one readable error."""

from __future__ import annotations

import asyncio
import faulthandler
import gc
import signal
import sys
from collections.abc import Awaitable, Callable

import uvloop

from tidewire import log
from tidewire.config import Settings
from tidewire.errors import TidewireError
from tidewire.health import Details, Health
from tidewire.pulse import Pulse

Body = Callable[[Health, asyncio.Event], Awaitable[None]]
"""The service's work: runs until the event is set, then finishes what it holds and returns."""

Loop = Callable[[], asyncio.AbstractEventLoop]

_STDERR = 2
_COLLECT = 100_000, 50, 100
"""Allocations and rounds between collections of cyclic garbage: services make next to none."""


def run(
    name: str,
    settings: Settings,
    body: Body,
    details: Details | None = None,
    loop: Loop = uvloop.new_event_loop,
) -> int:
    """Run a service until SIGINT or SIGTERM; returns its exit code. `loop` makes its event loop."""
    faulthandler.enable(_STDERR)  # a crash in native code leaves the stacks of all threads in the log
    log.configure(settings, name)
    _collect_seldom()
    try:
        with asyncio.Runner(loop_factory=loop) as runner:
            runner.run(_run(name, settings, body, details))
    except TidewireError as error:
        print(f"tidewire {name}: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def _collect_seldom() -> None:
    """A collection stops the event loop for as long as it looks at every object: leave out the modules'."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_COLLECT)
    gc.enable()


async def _run(name: str, settings: Settings, body: Body, details: Details | None) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    health = Health(name, details)
    try:
        await health.start(settings)
    except OSError as error:
        raise TidewireError(
            f"cannot listen on {settings.tidewire_http_host}:{settings.tidewire_http_port}: "
            f"{error.strerror}. "
            "Set TIDEWIRE_HTTP_PORT to a free port, or to 0 for any."
        ) from error
    log.get(name).info("started", http_port=health.port)
    pulse = Pulse()
    pulse.start()
    try:
        await body(health, stop)
    finally:
        pulse.stop()
        await health.stop()
    log.get(name).info("stopped")
