"""A supervised run with its screen: how `up` and `demo` set up, watch and end the same services."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from typing import TypeVar

from rich.console import Console

from console.commands.runs import line
from console.commands.runs.interrupts import Interrupted, Interrupts
from console.commands.runs.line import Servers, Started
from console.commands.runs.steps import Steps
from console.screen import live
from console.screen.gateway_side import GatewaySide
from console.screen.live import Words
from console.screen.observe import Observer
from tidewire import log
from tidewire.config import Settings
from tidewire.supervision.child import Service, set_aside
from tidewire.supervision.run_files import HomeLock, end_leftovers
from tidewire.supervision.supervisor import Supervisor

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Session:
    """What one command holds from its start to its end."""

    settings: Settings
    console: Console
    steps: Steps
    interrupts: Interrupts
    started: Started

    def start_servers(self) -> Servers:
        """See `line.start_servers`."""
        return line.start_servers(self.settings, self.steps, self.started)


@contextmanager
def opened(settings: Settings, verb: str, *, as_json: bool = False, screen: bool = True) -> Iterator[Session]:
    """Take the home for this command; at the end, stop the servers that it has started.

    Raises:
        StackError: another command supervises this home.
    """
    to_stdout = sys.stdout.isatty() and not as_json
    console = Console(stderr=not to_stdout, force_terminal=None if screen else False)
    started, lock = Started(), HomeLock(settings.tidewire_home)
    with Interrupts() as interrupts:
        lock.take(verb)
        try:
            _send_log(settings, to_file=console.is_terminal)
            end_leftovers(settings.tidewire_home)
            yield Session(settings, console, Steps(Console(stderr=True)), interrupts, started)
        finally:
            started.stop()
            lock.release()


def _send_log(settings: Settings, to_file: bool) -> None:
    """Below a live screen the log goes to a file; else to stderr like every service's."""
    log.configure(settings, "supervisor")
    # The screen shows when Kafka does not answer; its client would say so ten times a second.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    if to_file:
        path = settings.tidewire_home / "logs" / "supervisor.log"
        path.parent.mkdir(parents=True, exist_ok=True)
        set_aside(path)
        for handler in logging.getLogger().handlers:
            if isinstance(handler, logging.StreamHandler):
                handler.setStream(path.open("a", encoding="utf-8"))


class Run:
    """The supervised services of one command, while they run."""

    def __init__(self, session: Session, supervisor: Supervisor, observer: Observer) -> None:
        self.supervisor = supervisor
        self.observer = observer
        self.steps = session.steps
        self.hint = "Ctrl-C stops everything"
        self.keys: Callable[[], Words] | None = None
        """What the last lines say of keys, where keys do something."""
        self._console = session.console
        self._interrupts = session.interrupts
        self._watch = asyncio.create_task(supervisor.watch())

    async def until(self, work: Awaitable[T]) -> T:
        """Do `work` while the services are kept alive.

        Raises:
            Interrupted: a signal (a second one, if there was one before) came first; the work was cancelled.
            ServiceFailedError: a service ended for good.
        """
        task = asyncio.ensure_future(work)
        event = self._interrupts.hurry if self._interrupts.stop.is_set() else self._interrupts.stop
        stop = asyncio.create_task(event.wait())
        try:
            await asyncio.wait({task, stop, self._watch}, return_when=asyncio.FIRST_COMPLETED)
            if self._watch.done():
                self._watch.result()
            if not task.done():
                raise Interrupted
            return task.result()
        finally:
            task.cancel()
            stop.cancel()
            await asyncio.gather(task, stop, return_exceptions=True)

    @asynccontextmanager
    async def screen(self, title: str, feed: str) -> AsyncIterator[None]:
        """Show the live screen (or lines, without a terminal) meanwhile."""
        task = asyncio.create_task(live.show(self._console, title, feed, self.observer.look, self._words))
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    @property
    def has_screen(self) -> bool:
        """Whether a live screen is shown, not lines."""
        return self._console.is_terminal

    def interrupt(self) -> None:
        """End the run as Ctrl-C does."""
        self._interrupts.interrupt()

    def _words(self) -> Words:
        return Words(self.hint) if self.keys is None else replace(self.keys(), hint=self.hint)

    async def close(self) -> None:
        """Stop the services; a second signal hurries."""
        try:
            await self.supervisor.stop_services(self._interrupts.hurry)
        finally:
            with contextlib.suppress(Exception):  # `until` has raised it, or it came too late to matter
                await self._watch


def supervised(
    session: Session,
    servers: Servers,
    services: Sequence[Service],
    simulator_url: str | None,
    body: Callable[[Run], Awaitable[T]],
    client: GatewaySide | None = None,
) -> T:
    """Start the services, run `body`, stop everything that was started; returns what `body` returned.

    `client`: signed in at the gateway, to show its portfolio on the screen.
    """

    async def run() -> T:
        session.interrupts.attach(asyncio.get_running_loop())
        home = servers.settings.tidewire_home
        supervisor = Supervisor(home, services, servers.watched, servers.owned, simulator=simulator_url)
        try:
            supervisor.start()
            async with line.observer(servers.settings, supervisor, simulator_url, client) as observer:
                current = Run(session, supervisor, observer)
                try:
                    return await body(current)
                finally:
                    await current.close()
        finally:
            await supervisor.stop(session.interrupts.hurry)
            session.interrupts.detach()

    return asyncio.run(run())
