"""The gateway as a service: puts its parts together, listens, and runs until told to stop."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Coroutine, Mapping
from pathlib import Path
from typing import Any

from aiohttp import web

from schemas.codec import load_codec
from sinks.gateway.account_feed import AccountFeed
from sinks.gateway.alpaca_state import Connections
from sinks.gateway.clients import Clients
from sinks.gateway.database import Database
from sinks.gateway.exit_feed import ExitFeed
from sinks.gateway.exit_rules import ExitRules
from sinks.gateway.exits import Exits
from sinks.gateway.interest import Interest
from sinks.gateway.interest_writer import InterestWriter
from sinks.gateway.kill import KillRoutes
from sinks.gateway.portfolio import Portfolios
from sinks.gateway.responses import middleware
from sinks.gateway.rest import Rest
from sinks.gateway.sessions import Sessions
from sinks.gateway.sign_in import SignIn
from sinks.gateway.sockets import Sockets
from sinks.gateway.staleness import Staleness
from sinks.gateway.tape import Tape
from sinks.gateway.tape_feed import TapeFeed
from sinks.gateway.visibility import Visibility
from sinks.postgres import connection, migrate
from tidewire import log, service
from tidewire.clock import Clock, now_ns
from tidewire.config import Settings
from tidewire.endings import end
from tidewire.errors import TidewireError, UnreachableError
from tidewire.health import Health

PATIENCE = 30.0
"""Seconds that PostgreSQL may take to appear at the start."""

_PAGE = Path(__file__).parent / "page"
_LARGEST_BODY = 8 * 1024
_ACCOUNTS_SECONDS = 2.0
_SERVICE_RESTART = 1012

_log = log.get(__name__)


def main(settings: Settings) -> int:
    """Run the gateway until SIGINT or SIGTERM; returns its exit code."""
    gateway = Gateway(settings)
    return service.run("gateway", settings, gateway.run, gateway.details)


class Gateway:
    """One process that serves clients. Raises ConfigError when accounts.toml or DATABASE_URL is wrong."""

    def __init__(self, settings: Settings, now: Clock = now_ns) -> None:
        self._settings, self._now = settings, now
        self.clients = Clients()
        self.url: str | None = None

    def details(self) -> Mapping[str, object]:
        """For /health: where clients connect, and how many are."""
        return {"url": self.url, "connections": len(self.clients)}

    async def run(self, health: Health, stop: asyncio.Event) -> None:
        """Serve until told to stop.

        Raises:
            TidewireError: a setting is wrong, a topic is missing, the port is taken.
        """
        settings, now = self._settings, self._now
        url = connection.url(settings)
        if not await _migrate(url, stop):
            return
        visibility = Visibility(settings)
        codec = await asyncio.to_thread(load_codec, settings)
        database = Database(url)
        sessions = Sessions(database, settings.tidewire_session_hours, now, self.clients.end_session)
        sign_in = SignIn(database, sessions, settings.tidewire_session_hours)
        alpaca, portfolios = Connections(), Portfolios(now)
        interest = Interest(f"gateway:{uuid.uuid4().hex[:12]}")
        writer = InterestWriter(settings, codec, interest, now)
        tape_feed = TapeFeed(settings, codec, lambda: tape)

        def interest_changed() -> None:
            writer.poke()
            tape_feed.poke()

        tape = Tape(interest, alpaca, now, interest_changed)
        loaded = asyncio.Event()
        feed = AccountFeed(settings, codec, portfolios, alpaca, loaded.set)
        staleness = Staleness(feed, alpaca, portfolios, tape, now)
        exit_rules = ExitRules()
        exit_feed = ExitFeed(settings, codec, exit_rules)
        exits = Exits(exit_rules, exit_feed, visibility, now)

        def starting() -> bool:
            return not loaded.is_set()

        enabled = settings.enable_realtime_portfolio
        rest = Rest(portfolios, visibility, lambda: staleness.health(enabled, database.reachable), starting)
        sockets = Sockets(
            settings, sign_in, self.clients, portfolios, tape, visibility, staleness.reasons, starting
        )
        switch = KillRoutes(settings).routes(sign_in)
        runner = await self._listen(
            [*sign_in.routes(), *rest.routes(sign_in), *exits.routes(sign_in), *sockets.routes(), *switch]
        )
        try:
            await _all(
                stop,
                feed.run(),
                tape_feed.run(),
                exit_feed.run(),
                writer.run(),
                portfolios.run(),
                sessions.watch(self.clients.sessions),
                self.clients.sweep(),
                staleness.run(),
                self._follow_accounts(visibility),
                _say_ready(health, loaded, feed),
            )
        finally:
            await self.clients.close_all()
            await writer.release()
            await exit_feed.close()
            await runner.cleanup()
            sign_in.close()
            await database.close()

    async def _listen(self, routes: list[web.RouteDef]) -> web.AppRunner:
        settings = self._settings
        app = web.Application(
            middlewares=[middleware(settings.tidewire_gateway_origins)], client_max_size=_LARGEST_BODY
        )
        app.add_routes(routes)
        app.router.add_get("/", _page)
        app.router.add_static("/page", _PAGE)
        # No access log: the path of a one-time link is a secret until it is used.
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
        await runner.setup()
        host, port = settings.tidewire_gateway_host, settings.tidewire_gateway_port
        try:
            await web.TCPSite(runner, host, port, backlog=512).start()
        except OSError as error:
            await runner.cleanup()
            raise TidewireError(
                f"cannot listen on {host}:{port}: {error.strerror}. "
                "Set TIDEWIRE_GATEWAY_PORT to a free port, or to 0 for any."
            ) from error
        shown = "127.0.0.1" if host in ("0.0.0.0", "::", "") else host  # compared, not bound
        self.url = f"http://{f'[{shown}]' if ':' in shown else shown}:{runner.addresses[0][1]}"
        _log.info("listening for clients", url=self.url)
        return runner

    async def _follow_accounts(self, visibility: Visibility) -> None:
        """A user whose accounts change is disconnected, and comes back to a snapshot of the new ones."""
        while True:
            await asyncio.sleep(_ACCOUNTS_SECONDS)
            changed = visibility.refresh()
            if changed:
                clients = self.clients.of_users(changed)
                self.clients.close(clients, "accounts", _SERVICE_RESTART, "your accounts have changed")


async def _page(_: web.Request) -> web.StreamResponse:
    return web.FileResponse(_PAGE / "index.html")


async def _say_ready(health: Health, loaded: asyncio.Event, feed: AccountFeed) -> None:
    """Ready while everything has been read and Kafka is there."""
    while not loaded.is_set():
        health.ready(feed.away or "reading the portfolios")
        try:
            async with asyncio.timeout(1):
                await loaded.wait()
        except TimeoutError:
            continue
    while True:
        health.ready(feed.away)
        await asyncio.sleep(1)


async def _all(stop: asyncio.Event, *parts: Coroutine[Any, Any, None]) -> None:
    """Run the parts until told to stop, or until one of them fails: then its error is raised."""
    tasks = [asyncio.ensure_future(part) for part in parts]
    stopped = asyncio.ensure_future(stop.wait())
    try:
        done, _ = await asyncio.wait([stopped, *tasks], return_when=asyncio.FIRST_COMPLETED)
        for task in done - {stopped}:
            task.result()
    finally:
        await end(stopped, *tasks)


async def _migrate(url: str, stop: asyncio.Event) -> bool:
    """Bring the tables up to date once PostgreSQL answers; False: told to stop meanwhile."""
    deadline = time.monotonic() + PATIENCE
    while not stop.is_set():
        try:
            await asyncio.to_thread(migrate.apply, url)
            return True
        except UnreachableError as error:
            if time.monotonic() >= deadline:
                raise
            _log.info("waiting", reason=str(error))
            await asyncio.sleep(1)
    return False
