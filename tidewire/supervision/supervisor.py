"""Runs the services of a line as child processes and keeps them, and the stack's servers, alive.

A thin shell around restart.py (when to start again) and child.py (one process). It never
waits on one child: every tenth of a second it looks at all of them.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tidewire import log
from tidewire.errors import TidewireError
from tidewire.supervision import readiness, restart, run_files
from tidewire.supervision.child import Child, Service
from tidewire.supervision.restart import Life, Phase, Policy

LOOK_SECONDS = 0.1
SERVER_LOOK_SECONDS = 0.5
TRIM_SECONDS = 30.0

_POLICY = Policy()

_log = log.get("supervisor")


class Server(Protocol):
    """A server of the local stack."""

    @property
    def name(self) -> str:
        """What people call it."""

    @property
    def pid(self) -> int | None:
        """Its process id while it runs."""

    def start(self) -> object:
        """Start it on its port with its data; returns when it answers. Raises StackError."""

    def alive(self) -> bool:
        """Whether its process runs."""

    def stop(self) -> None:
        """Stop it."""


@dataclass(frozen=True, slots=True)
class Row:
    """One supervised process as the screen shows it; `since` is on the supervisor's clock."""

    name: str
    phase: Phase
    since: float
    restarts: int
    pid: int | None
    http: str | None
    last_exit: int | None


class ServiceFailedError(TidewireError):
    """A service ended for good. Carries its exit code, and its last words as the message."""

    def __init__(self, name: str, exit_code: int, words: str, log_file: Path) -> None:
        self.exit_code = exit_code if exit_code > 0 else 1
        super().__init__(f"{name} ended with exit code {exit_code}: {words}\n(its log: {log_file})")


class Supervisor:
    """Starts `services` in their order and stops them in that order: sources first, so that pipes run dry.

    Those that come `after` others are started by `watch`, once these are ready.

    `servers` are watched and started again when killed. Only those named in `owned` are stopped at the end.
    """

    def __init__(
        self,
        home: Path,
        services: Sequence[Service],
        servers: Sequence[Server] = (),
        owned: Collection[str] = (),
        *,
        simulator: str | None = None,
        policy: Policy = _POLICY,
        clock: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self.home = home
        self.clock = clock
        self._children = {s.name: Child(s, home / "logs" / f"{s.name}.log") for s in services}
        self._servers = {server.name: server for server in servers}
        self._owned = set(owned)
        self._lives = dict.fromkeys([*self._children, *self._servers], Life())
        self._simulator = simulator
        self._policy = policy
        self._jitter = jitter
        self._closing = False
        self._watching = asyncio.Event()  # set: nobody watches
        self._watching.set()

    def start(self) -> None:
        """Start every service that need not wait for others."""
        for name in self._servers:
            self._lives[name] = restart.started(self._lives[name], self.clock())
        for name, child in self._children.items():
            if child.service.after:
                latest = self.clock() + child.service.after_seconds
                self._lives[name] = restart.queued(self._lives[name], self.clock(), latest)
            else:
                self._start_child(name)

    async def watch(self) -> None:
        """Keep everything alive until `stop`.

        Raises:
            ServiceFailedError: a service ended for good.
            StackError: a server cannot be started again.
        """
        self._watching.clear()
        tasks = [asyncio.create_task(self._watch_server(name)) for name in self._servers]
        tasks.append(asyncio.create_task(self._watch_children()))
        tasks.append(asyncio.create_task(self._start_queued()))
        try:
            await asyncio.gather(*tasks)
        finally:
            self._closing = True  # the other watches end by themselves: a server's start is not cut in half
            await asyncio.gather(*tasks, return_exceptions=True)
            self._watching.set()

    async def stop_service(self, name: str, hurry: asyncio.Event | None = None) -> None:
        """Stop one service and leave it stopped: SIGTERM, after its grace (or a `hurry`) SIGKILL."""
        life, child = self._lives[name], self._children[name]
        self._lives[name] = restart.stopped(life, self.clock())
        if life.phase != "running":
            return
        child.ask_to_stop()
        deadline = self.clock() + child.service.grace_seconds
        while child.exit_code() is None and child.pid is not None:
            hurried = hurry is not None and hurry.is_set()
            if hurried or self.clock() >= deadline:
                _log.warning("killed", service=name, reason="in a hurry" if hurried else "ignored SIGTERM")
                child.kill()
                break
            await asyncio.sleep(LOOK_SECONDS / 2)
        self._write_services()

    async def stop_services(self, hurry: asyncio.Event | None = None) -> None:
        """Stop every service in order; from now on nothing is started again."""
        self._closing = True
        try:
            for name in self._children:
                await self.stop_service(name, hurry)
        finally:
            for child in self._children.values():
                child.kill()
            await self._watching.wait()

    async def stop(self, hurry: asyncio.Event | None = None) -> None:
        """Stop every service in order, then the owned servers. Nothing is left running, failures or not."""
        try:
            await self.stop_services(hurry)
        finally:
            await self._stop_servers()
            run_files.write_services(self.home, {}, self._simulator)

    def rows(self) -> list[Row]:
        """How every server and service stands."""
        return [self._row(name) for name in self._lives]

    def http(self, name: str) -> str | None:
        """The address of a running service's /health and /metrics."""
        return self._row(name).http

    def _row(self, name: str) -> Row:
        life, child = self._lives[name], self._children.get(name)
        running = life.phase == "running"
        pid = child.pid if child is not None else self._servers[name].pid
        http = f"http://127.0.0.1:{child.http_port}" if child is not None and running else None
        return Row(
            name, life.phase, life.since, life.restarts, pid if running else None, http, life.last_exit
        )

    def _start_child(self, name: str) -> None:
        life = self._lives[name]
        self._children[name].start(first=life.phase in ("stopped", "queued"))
        self._lives[name] = restart.started(life, self.clock())
        self._write_services()

    async def _watch_children(self) -> None:
        trim_at = self.clock() + TRIM_SECONDS
        while not self._closing:
            for name in self._children:
                self._look_at(name)
            if self.clock() >= trim_at:
                trim_at = self.clock() + TRIM_SECONDS
                for child in self._children.values():
                    child.trim_log()
            await asyncio.sleep(LOOK_SECONDS)

    async def _start_queued(self) -> None:
        """The first start of those that come after others; over when none is left."""
        ready: set[str] = set()
        while not self._closing and any(life.phase == "queued" for life in self._lives.values()):
            queued = [name for name, life in self._lives.items() if life.phase == "queued"]
            before = {o for name in queued for o in self._children[name].service.after if o in self._children}
            running = {name: http for name in before - ready if (http := self.http(name)) is not None}
            ready |= await asyncio.to_thread(readiness.ready, running)
            for name in queued:
                waits = self._children[name].service.after
                enough = ready.issuperset(waits) or self.clock() >= self._lives[name].due
                if enough and not self._closing and self._lives[name].phase == "queued":
                    self._start_child(name)
            await asyncio.sleep(SERVER_LOOK_SECONDS)

    def _look_at(self, name: str) -> None:
        life, child = self._lives[name], self._children[name]
        if restart.is_due(life, self.clock()):
            self._start_child(name)
        elif life.phase == "running" and (code := child.exit_code()) is not None:
            life = restart.ended(life, self.clock(), code, self._jitter(), self._policy)
            self._lives[name] = life
            if life.phase == "failed":
                raise ServiceFailedError(name, code, child.last_words(), child.log)
            _log.warning(
                "service ended", service=name, exit_code=code, again_in=round(life.due - life.since, 1)
            )

    async def _watch_server(self, name: str) -> None:
        server = self._servers[name]
        while not self._closing:
            if restart.is_due(self._lives[name], self.clock()):
                await self._start_server(name)
            elif self._lives[name].phase == "running" and not await asyncio.to_thread(server.alive):
                self._server_ended(name, exit_code=-1)
            await asyncio.sleep(SERVER_LOOK_SECONDS)

    async def _start_server(self, name: str) -> None:
        try:
            await asyncio.to_thread(self._servers[name].start)
        except TidewireError as error:
            self._server_ended(name, exit_code=1)
            if self._lives[name].phase == "failed":
                raise
            _log.warning("server does not start", server=name, reason=str(error))
        else:
            self._lives[name] = restart.started(self._lives[name], self.clock())
            _log.warning("server started again", server=name)

    def _server_ended(self, name: str, exit_code: int) -> None:
        if self._closing:
            return
        now = self.clock()
        self._lives[name] = restart.ended(self._lives[name], now, exit_code, self._jitter(), self._policy)
        _log.warning("server ended", server=name)

    async def _stop_servers(self) -> None:
        for name, server in reversed(self._servers.items()):
            if name in self._owned:
                await asyncio.to_thread(server.stop)
            self._lives[name] = restart.stopped(self._lives[name], self.clock())

    def _write_services(self) -> None:
        rows = (self._row(name) for name in self._children)
        running = {row.name: {"pid": row.pid, "http": row.http} for row in rows if row.phase == "running"}
        run_files.write_services(self.home, running, self._simulator, self._owned)
