"""Starts the local Alpaca: its venues' sockets and REST, and control, on one port."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from decimal import Decimal
from typing import Any

from aiohttp import web

from simulator import tapes
from simulator.broker.quotes import middle
from simulator.broker.service import BrokerService
from simulator.control import Control, state_of
from simulator.corporate.announcements import Announcements
from simulator.corporate.rest import CorporateActionsRest, recall
from simulator.crypto.books import Books
from simulator.crypto.rest import CryptoRest
from simulator.crypto.synthetic import PAIRS
from simulator.door import RestFaults
from simulator.exchange_calendar import AlwaysOpen, ExchangeCalendar
from simulator.fault_routes import FaultRoutes, Target
from simulator.interest import Subscriptions
from simulator.latest import LatestPrices
from simulator.market import Frame
from simulator.news.rest import NewsRest
from simulator.opra.listing import OPTIONS, listing
from simulator.opra.rest import OptionRest
from simulator.options import SimulatorOptions
from simulator.rejects import Rejects
from simulator.rescaling import Rescaling
from simulator.rest import MarketDataRest
from simulator.rest_guard import Guard
from simulator.session import CRYPTO_FEEDS, OPTION_FEEDS, STOCK_FEEDS
from simulator.synthetic import CENTS, WELL_KNOWN, price_of
from simulator.trading_rest import TradingRest
from simulator.venue import Venue
from simulator.venue_kinds import CRYPTO, NEWS, STOCKS
from tidewire import service
from tidewire.config import Settings
from tidewire.errors import TidewireError
from tidewire.health import Health
from tidewire.log import get

log = get("simulator")

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Simulator:
    """One simulator, started and stopped inside a running loop. `port` is the real port once started."""

    def __init__(self, settings: Settings, options: SimulatorOptions) -> None:
        """Read the names of the recorded files and open the ledgers.

        Raises:
            ConfigError: a path does not exist, or none of the files can be used.
            TidewireError: a ledger's folder cannot be written.
        """
        self._options = options
        self._rejects = Rejects()
        played = tapes.choose(settings, options, self._rejects)
        folder = settings.tidewire_home / "simulator"
        self._stocks = Venue(STOCKS, options, folder, played["stocks"])
        self._crypto = Venue(CRYPTO, options, folder / "crypto", played["crypto"])
        self._news = Venue(NEWS, options, folder / "news", played["news"])
        self._tickers = tapes.tickers_of(settings, options)
        contracts = tapes.contracts(settings, options, self._spot, lambda: self._opra.hub.interest.symbols())
        self._opra = Venue(OPTIONS, options, folder / "options", contracts)
        venues = (self._stocks, self._crypto, self._news, self._opra)
        self._venues = {venue.kind.name: venue for venue in venues}
        self._books = Books()
        self._crypto.market.observers.append(self._books)
        self._crypto.hub.greeting = self._whole_books
        self.prices = LatestPrices(self._stocks.prices, self._crypto.prices)
        self.rest_faults = RestFaults()
        """What REST is to answer instead, for tests in the same process; others use POST /sim/faults."""
        self._guard = Guard(options, time.time, self.rest_faults)
        home = settings.tidewire_home
        now, symbols = self._trading_now, self._symbols
        self._announcements, self._rescaling = Announcements(), Rescaling()
        self._stocks.market.rewrite = self._rescaling.rewrite
        self.broker = BrokerService(
            home, options, self.prices, now, symbols, self.rest_faults, self._rescale, self._recall
        )
        self._runner: web.AppRunner | None = None
        self._running: dict[asyncio.Task[None], Venue] = {}
        self.port = 0

    @property
    def url(self) -> str:
        """http://host:port; the WebSockets have the same host and port."""
        return f"http://{self._options.host}:{self.port}"

    def details(self) -> Mapping[str, object]:
        """For /health."""
        venues = {n: {"state": v.driver.state, "published": v.published()} for n, v in self._venues.items()}
        return {
            "url": self.url,
            "state": state_of(self._venues),
            "published": self._stocks.published(),
            "venues": venues,
        }

    async def start(self) -> None:
        """Listen, and run each venue's tape once somebody subscribes to it.

        Raises:
            TidewireError: the port is taken.
        """
        await self.broker.start()
        app = web.Application()
        self._add_routes(app)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
        await self._runner.setup()
        options = self._options
        try:
            await web.TCPSite(self._runner, options.host, options.port).start()
        except OSError as error:
            await self._runner.cleanup()
            raise TidewireError(
                f"the simulator cannot listen on {options.host}:{options.port}: {error.strerror}"
            ) from error
        self.port = self._runner.addresses[0][1]
        log.info("simulator listens", url=self.url, tape=self._tape)
        self._running = {task: v for v in self._venues.values() if (task := v.start()) is not None}

    async def run_until(self, stop: asyncio.Event) -> None:
        """Wait for the stop; an error of a tape is raised here."""
        waiting = asyncio.create_task(stop.wait())
        try:
            while not waiting.done():
                await asyncio.wait({waiting, *self._running}, return_when=asyncio.FIRST_COMPLETED)
                for task in [task for task in self._running if task.done()]:
                    task.result()
                    venue = self._running.pop(task)
                    log.info("tape finished", venue=venue.kind.name, **venue.published())
        finally:
            waiting.cancel()

    async def stop(self) -> None:
        """Close the sockets, the server and the ledgers."""
        for venue in self._venues.values():
            await venue.stop()
        await self.broker.stop()
        if self._runner is not None:
            await self._runner.cleanup()
        for venue in self._venues.values():
            venue.close()

    @property
    def _tape(self) -> str:
        return "ticks" if self._options.ticks else "synthetic"

    def _add_routes(self, app: web.Application) -> None:
        stocks, crypto, news, guard = self._stocks, self._crypto, self._news, self._guard
        app.router.add_get(f"/v2/{{feed:{'|'.join(STOCK_FEEDS)}}}", stocks.socket.handle)
        app.router.add_get(f"/v1beta3/crypto/{{feed:{'|'.join(CRYPTO_FEEDS)}}}", crypto.socket.handle)
        app.router.add_get(f"/v1beta1/{{feed:{'|'.join(OPTION_FEEDS)}}}", self._opra.socket.handle)
        # one path for both, as at Alpaca: a WebSocket's handshake or a plain request
        rest = NewsRest(news, guard)
        app.router.add_get("/v1beta1/news", _either(news.socket.handle, rest.handle))
        app.router.add_routes(
            MarketDataRest(
                stocks, guard, lambda: self._now(stocks), self._options.history_delay_minutes
            ).routes()
        )
        app.router.add_routes(CryptoRest(crypto, self._books, guard, lambda: self._now(crypto)).routes())
        options = OptionRest(self._opra, guard, time.time_ns, lambda: listing(self._tickers, time.time_ns()))
        app.router.add_routes(options.routes())
        chosen = self._options
        exchange = bool(chosen.ticks) if chosen.exchange_hours is None else chosen.exchange_hours
        calendar = ExchangeCalendar() if exchange else AlwaysOpen()
        trading = TradingRest(calendar, guard, lambda: self._now(stocks), self._symbols)
        app.router.add_routes(trading.routes())
        app.router.add_routes(self.broker.routes())
        actions = CorporateActionsRest(
            self._announcements, guard, lambda: self._now(stocks), self.broker.remember
        )
        app.router.add_routes(actions.routes())
        control = Control(self._venues, self._rejects, self._tape, self.broker.status)
        app.router.add_routes(control.routes())
        targets: dict[str, Target] = {name: venue.hub for name, venue in self._venues.items()}
        targets["trading"] = self.broker.socket
        app.router.add_routes(FaultRoutes(targets, self.rest_faults).routes())

    def _whole_books(self, added: Subscriptions) -> list[Frame]:
        """What a new subscriber of order books gets first, as at Alpaca; all other subscribers get it too."""
        market, wanted = self._crypto.market, added.get("orderbooks", frozenset())
        if not wanted or self._crypto.driver.state != "running":
            return []
        pairs = self._books.symbols() if "*" in wanted else sorted(wanted)
        return market.insert(self._books.whole(pairs, market.clock, self._crypto.streams))

    def _rescale(self, symbol: str, factor: Decimal) -> None:
        """A stock was split: what passes from now on, and what was the newest, is in the new basis."""
        self._rescaling.split(symbol, factor)
        self._stocks.prices.rescale(symbol, factor)

    def _recall(self, entry: dict[str, Any]) -> None:
        """What an earlier run had announced, and had split."""
        recall(self._announcements, entry)
        if split := entry.get("rescaled"):
            self._rescale(split["symbol"], Decimal(split["factor"]))

    def _spot(self, symbol: str) -> float:
        """A stock's price in USD: the middle of its newest quote, before the first what it starts with."""
        quote = self._stocks.prices.quote(symbol)
        price = middle(quote) if quote is not None else None
        return price_of(symbol)[0] / CENTS if price is None else float(price)

    def _symbols(self) -> list[str]:
        return sorted({*WELL_KNOWN, *PAIRS, *self._stocks.streams.symbols(), *self._crypto.streams.symbols()})

    def _trading_now(self) -> int:
        """The stocks' clock, or that of recorded crypto where there are no stocks."""
        return self._now(self._stocks if self._stocks.market.clock else self._crypto)

    def _now(self, venue: Venue) -> int:
        """A market's clock: the tape's time for recorded ticks, else the real one."""
        return venue.market.clock if self._options.ticks and venue.market.clock else time.time_ns()


def _either(socket: Handler, rest: Handler) -> Handler:
    """A WebSocket's handshake goes to one handler, any other request to the other."""

    async def handle(request: web.Request) -> web.StreamResponse:
        upgrade = request.headers.get("Upgrade", "").lower() == "websocket"
        return await (socket if upgrade else rest)(request)

    return handle


def main(settings: Settings, options: SimulatorOptions | None = None) -> int:
    """Run a simulator until SIGINT or SIGTERM; returns the exit code."""
    chosen = options or SimulatorOptions()
    running: list[Simulator] = []

    async def body(health: Health, stop: asyncio.Event) -> None:
        simulator = Simulator(settings, chosen)
        running.append(simulator)
        try:
            await simulator.start()
            health.ready()
            await simulator.run_until(stop)
        finally:
            await simulator.stop()

    def details() -> Mapping[str, object]:
        return running[0].details() if running else {}

    # Not on uvloop: half a frame before a reset must have left when the connection is aborted.
    return service.run("simulator", settings, body, details, asyncio.new_event_loop)


__all__ = ["Simulator", "SimulatorOptions", "main"]
