"""Starts the local Alpaca: tape, ledger, sockets, REST and control on one port."""

from __future__ import annotations

import asyncio
import gc
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from aiohttp import web

from simulator.bars import DAY, MINUTE, new_york_midnight
from simulator.control import Control, published
from simulator.data_socket import DataSocket
from simulator.driver import Driver
from simulator.exchange_calendar import ExchangeCalendar
from simulator.history import History
from simulator.hub import Hub
from simulator.interest import Interest
from simulator.ledger import Ledger
from simulator.market import Market, as_trades, pass_over, restore
from simulator.options import SimulatorOptions
from simulator.position import PositionFile, resume_point
from simulator.rejects import Rejects
from simulator.rest import MarketDataRest
from simulator.rest_guard import Guard
from simulator.session import FEED_CHANNELS
from simulator.synthetic import WELL_KNOWN, SyntheticMarket
from simulator.tape import TickTape
from simulator.trading_rest import TradingRest
from simulator.wire import Message, Streams
from tidewire import service
from tidewire.config import Settings
from tidewire.errors import TidewireError
from tidewire.health import Health
from tidewire.log import get

log = get("simulator")

OPENING = 570 * MINUTE

ReadTape = Callable[[Streams], Iterator[list[Message]]]


class Simulator:
    """One simulator, started and stopped inside a running loop. `port` is the real port once started."""

    def __init__(self, settings: Settings, options: SimulatorOptions) -> None:
        """Read the names of the tick files and open the ledger.

        Raises:
            ConfigError: a path does not exist, or none of the files can be used.
            TidewireError: the ledger's folder cannot be written.
        """
        self._options = options
        self._rejects = Rejects()
        self._streams = Streams()
        folder = settings.tidewire_home / "simulator"
        self._read_tape, identity, replayable = self._choose_tape(settings)
        self._ledger = Ledger(folder / "ledger", options.ledger_file_bytes, options.ledger_bytes)
        self._position = PositionFile(folder)
        history = History(options.history_messages)
        self._market = Market(self._streams, self._ledger, history, self._position, options.frame_messages)
        retained, self._passed, finished = self._recover(folder, identity, history, replayable)
        if not replayable:
            self._passed = 0
        self._identity = identity
        self._hub = Hub(options, self._streams, Interest(retained), self._remember_interest, time.monotonic)
        # a synthetic market at a steady rate is made at that rate, and paced by its own times
        pace = options.rate if options.ticks or options.rate == "max" else "real"
        self._driver = Driver(self._market, self._hub, self._blocks, pace)
        if finished:
            self._driver.already_finished()
        tape = "ticks" if options.ticks else "synthetic"
        self._control = Control(self._driver, self._market, self._hub, self._ledger, self._rejects, tape)
        guard = Guard(options, time.time)
        self._data_rest = MarketDataRest(self._market, history, self._ledger, guard, self._now)
        self._trading_rest = TradingRest(ExchangeCalendar(), guard, self._now, self._symbols)
        self._finished = finished
        self._runner: web.AppRunner | None = None
        self._task: asyncio.Task[None] | None = None
        self.port = 0

    @property
    def url(self) -> str:
        """http://host:port; the WebSocket has the same host and port."""
        return f"http://{self._options.host}:{self.port}"

    def details(self) -> Mapping[str, object]:
        """For /health."""
        return {"url": self.url, "state": self._driver.state, "published": published(self._ledger)}

    async def start(self) -> None:
        """Listen, and run the tape once somebody subscribes.

        Raises:
            TidewireError: the port is taken.
        """
        app = web.Application()
        socket = DataSocket(self._hub, self._options)
        app.router.add_get(f"/v2/{{feed:{'|'.join(FEED_CHANNELS)}}}", socket.handle)
        app.router.add_routes(self._data_rest.routes())
        app.router.add_routes(self._trading_rest.routes())
        app.router.add_routes(self._control.routes())
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
        log.info("simulator listens", url=self.url, tape="ticks" if options.ticks else "synthetic")
        if not self._finished:
            self._task = asyncio.create_task(self._driver.run())

    async def run_until(self, stop: asyncio.Event) -> None:
        """Wait for the stop; an error of the tape is raised here."""
        waiting = asyncio.create_task(stop.wait())
        tasks = {waiting} | ({self._task} if self._task else set())
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if self._task in done and self._task is not None:
                self._task.result()
                log.info("tape finished", **published(self._ledger))
                await waiting
        finally:
            waiting.cancel()

    async def stop(self) -> None:
        """Close the sockets, the server and the ledger."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        for client in self._hub.clients:
            client.finish(1001)
        if self._runner is not None:
            await self._runner.cleanup()
        self._ledger.close()
        self._position.close()

    def _choose_tape(self, settings: Settings) -> tuple[ReadTape, str, bool]:
        """How to read the tape, what identifies it, and whether it can be read again the same."""
        options = self._options
        if options.ticks:
            tape = TickTape(options.ticks, self._rejects)
            return tape.read, tape.identity, True
        symbols = options.symbols or settings.symbols
        names = tuple(WELL_KNOWN) if "*" in symbols else symbols
        identity = f"synthetic|{options.seed}|{options.rate}|{options.limit}|{','.join(names)}"
        rate = options.messages_per_second if isinstance(options.rate, str) else options.rate
        if (
            options.rate == "max"
        ):  # no clock can keep up: yesterday from its opening on, the same when read again
            start = new_york_midnight(time.time_ns() - DAY) + OPENING
            market = SyntheticMarket(names, options.seed, start, rate, options.limit)
            return market.read, f"{identity}|{start}", True

        def live(streams: Streams) -> Iterator[list[Message]]:
            left = None if options.limit is None else max(0, options.limit - self._market.tape)
            return SyntheticMarket(names, options.seed, time.time_ns(), rate, left).read(streams)

        return live, identity, False

    def _recover(
        self, folder: Path, identity: str, history: History, replayable: bool
    ) -> tuple[dict[str, frozenset[str]], int, bool]:
        """(subscriptions still in force, tape messages already passed, tape finished)."""
        known, subscriptions = self._position.load_run()
        fresh = self._options.fresh or known != identity
        if fresh and known and not self._options.fresh:
            log.warning("another tape than last time: the ledger starts anew")
        try:
            self._ledger.open(fresh=fresh)
            intent = None if fresh else self._position.load()
            self._position.open(fresh=fresh)
            self._position.save_run(identity, {} if fresh else subscriptions)
        except OSError as error:
            raise TidewireError(f"cannot write the ledger in {folder}: {error.strerror}") from error
        passed, cut = resume_point(intent, self._ledger.end)
        if cut is not None:
            self._ledger.cut(self._ledger.end[0], cut)
        recovered = restore(self._ledger, history)
        if replayable:
            deque(recovered, maxlen=0)  # the bars are known again once the tape has passed
        else:
            self._market.pass_over(list(as_trades(recovered, self._streams)))
        self._market.tape = passed
        finished = intent is not None and intent.finished and cut is None
        retained = {} if fresh else {c: frozenset(s) for c, s in subscriptions.items()}
        return retained, passed, finished

    def _blocks(self) -> Iterator[list[Message]]:
        blocks = self._read_tape(self._streams)
        if not self._passed:
            return blocks
        self._market.tape = 0
        return pass_over(self._market, blocks, self._passed)

    def _remember_interest(self, interest: Interest) -> None:
        self._position.save_run(self._identity, interest.all())

    def _symbols(self) -> list[str]:
        return sorted({*WELL_KNOWN, *self._streams.symbols()})

    def _now(self) -> int:
        """The market's clock: the tape's time for recorded ticks, else the real one."""
        return self._market.clock if self._options.ticks and self._market.clock else time.time_ns()


def main(settings: Settings, options: SimulatorOptions | None = None) -> int:
    """Run a simulator until SIGINT or SIGTERM; returns the exit code."""
    # millions of tuples that never form cycles: the default threshold costs a third of the speed
    gc.set_threshold(100_000, 50, 100)
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

    return service.run("simulator", settings, body, lambda: running[0].details() if running else {})


__all__ = ["Simulator", "SimulatorOptions", "main"]
