"""The simulated broker as a service: journal, sockets and REST around the pure engine.

Whatever a request, a quote or the clock changes is written to the journal first, then told to the sockets,
and only then answered.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import Callable, Iterable
from decimal import Decimal
from pathlib import Path
from typing import Any, Protocol

from aiohttp import web

from simulator.broker.account_routes import AccountRoutes
from simulator.broker.action_routes import ActionRoutes, Rescale
from simulator.broker.amounts import text
from simulator.broker.control_routes import ControlRoutes
from simulator.broker.engine import Broker
from simulator.broker.journal import Journal
from simulator.broker.market_view import MarketView
from simulator.broker.order_routes import OrderRoutes
from simulator.broker.quotes import Board
from simulator.broker.recovery import restore
from simulator.broker.sessions import ExchangeSessions, RoundTheClock, Sessions
from simulator.broker.strategy import Strategy
from simulator.broker.trading_guard import TradingGuard
from simulator.broker.trading_socket import TradingSocket
from simulator.door import RestFaults
from simulator.exchange_calendar import ExchangeCalendar
from simulator.latest import Quote, Trade, Watcher
from simulator.options import SimulatorOptions
from tidewire.errors import TidewireError
from tidewire.log import get

log = get("simulator.broker")

HOUSE_ACCOUNT = 1
TICK_SECONDS = 0.25
MINUTE_NS = 60 * 10**9


class Prices(Protocol):
    """The market's prices, as `simulator.latest.LatestPrices` has them."""

    def quote(self, symbol: str) -> Quote | None:
        """The latest quote of a symbol; None before the first."""

    def watch(self, symbols: Iterable[str], watcher: Watcher) -> None:
        """From now on every quote and trade of these symbols, and of no others, goes to `watcher`."""


def _no_prices(_: str, __: Decimal) -> None:
    """A split of a market whose prices nobody makes."""


class BrokerService:
    """One broker for all accounts of `options`; `now` is the market's clock in ns.

    `rescale`: a split multiplies the market's prices. `recall` gets what an earlier run has kept.
    """

    def __init__(
        self,
        home: Path,
        options: SimulatorOptions,
        prices: Prices,
        now: Callable[[], int],
        symbols: Callable[[], Iterable[str]],
        faults: RestFaults,
        rescale: Rescale = _no_prices,
        recall: Callable[[dict[str, Any]], None] = lambda entry: None,
    ) -> None:
        sessions: Sessions = ExchangeSessions(ExchangeCalendar()) if options.ticks else RoundTheClock()
        self._options = options
        self._prices = prices
        self._folder = home / "simulator" / "trading"
        self._journal = Journal(self._folder)
        view = MarketView(Board(prices.quote), sessions, symbols, now)
        self.broker = Broker(view, options.accounts, random.Random(os.urandom(16)))
        guard = TradingGuard(options, time.time, faults)
        self.socket = TradingSocket(guard.account, options)
        self._order_routes = OrderRoutes(self.broker, guard, self._prepare, self.flush)
        self._account_routes = AccountRoutes(self.broker, guard, self.flush, self._journal.note)
        self._control_routes = ControlRoutes(self.broker, self.socket, self.flush, self._journal.note)
        self._action_routes = ActionRoutes(self.broker, self.flush, self._journal.note, rescale)
        self.remember = self._journal.note
        self._recall = recall
        trades = not options.ticks if options.strategy is None else options.strategy
        self._strategy = Strategy(self.broker, HOUSE_ACCOUNT, options.seed) if trades else None
        self._guard = guard
        self._attended = False
        self._watched: set[str] = set()
        self._prepared = not options.ticks
        self._closing = 0
        self._seen = 0
        self._sampled = 0
        self._clock: asyncio.Task[None] | None = None

    def routes(self) -> list[web.RouteDef]:
        """The trading socket /stream, Alpaca's REST of orders and accounts, and /sim/trading."""
        return [
            web.get("/stream", self.socket.handle),
            *self._order_routes.routes(),
            *self._account_routes.routes(),
            *self._control_routes.routes(),
            *self._action_routes.routes(),
        ]

    def status(self) -> dict[str, int]:
        """For /sim/status: updates sent since the journal was emptied, orders open now."""
        accounts = self.broker.accounts.values()
        working = sum(len(orders) for a in accounts for orders in a.holds.working.values())
        return {"updates": self._journal.count, "open_orders": working}

    async def start(self) -> None:
        """Read what an earlier run left (nothing with `fresh`), and let the clock run.

        Raises:
            TidewireError: the journal cannot be read or written.
        """
        try:
            entries = self._journal.open(fresh=self._options.fresh)
            if not restore(self.broker, entries):
                self._journal.note({"opened": self.broker.view.now()})
            for entry in entries:
                self._recall(entry)
        except OSError as error:
            raise TidewireError(f"cannot write {self._folder}: {error.strerror}") from error
        except (KeyError, ValueError, TypeError) as error:
            raise TidewireError(
                f"the journal in {self._folder} cannot be read ({error}); start the simulator with --fresh"
            ) from error
        if entries or self._strategy is not None:
            await self._prepare()
        self.flush()
        self._clock = asyncio.create_task(self._run_clock())
        self._clock.add_done_callback(_complain)

    async def stop(self) -> None:
        """Close the sockets and the journal."""
        if self._clock is not None:
            self._clock.cancel()
            await asyncio.gather(self._clock, return_exceptions=True)
        self.socket.finish()
        self._prices.watch((), self._on_price)
        self._journal.close()

    def flush(self) -> None:
        """Keep what changed, then tell the sockets."""
        if changes := self.broker.announce.take():
            for account, message in self._journal.keep(changes):
                self.socket.tell(account, message)
        working = self.broker.exchange.working.keys()
        if working != self._watched:
            self._watched = set(working)
            self._prices.watch(self._watched, self._on_price)

    def pass_time(self) -> None:
        """What the clock alone brings about: expiries, closings, samples of equity, the house strategy."""
        now = self.broker.view.now()
        if now < self._seen:  # recorded ticks began: their clock stands years ago
            self._closing = self._sampled = 0
        self._seen = now
        self.broker.exchange.tick(now)
        if self._strategy is not None and self._is_attended():
            self._strategy.act(now)
        if self._prepared:
            self._close_day_if_over(now)
        if now - self._sampled >= MINUTE_NS:
            self._sample(now)
        self.flush()

    def _is_attended(self) -> bool:
        """Whether anybody has ever followed the house's account. Nobody can say afterwards in which passing
        states an order was before the first look at it, so the house does not trade before.
        """
        listening = (c.session for c in self.socket.clients if c.session.listening)
        self._attended = (
            self._attended
            or any(session.account == HOUSE_ACCOUNT for session in listening)
            or bool(self._guard.requests.of(HOUSE_ACCOUNT)["methods"])
        )
        return self._attended

    async def _prepare(self) -> None:
        """Before the first order: the exchange's calendar takes a second to load, and most runs never ask."""
        if not self._prepared:
            view = self.broker.view
            await asyncio.to_thread(view.sessions.next_close, view.now())
            self._prepared = True

    def _on_price(self, price: Quote | Trade) -> None:
        now = self.broker.view.now()
        if isinstance(price, Quote):
            self.broker.exchange.on_quote(price, now)
        else:
            self.broker.exchange.on_trade(price.symbol, price.price, now)
        self.flush()

    async def _run_clock(self) -> None:
        while True:
            await asyncio.sleep(TICK_SECONDS)
            self.pass_time()

    def _close_day_if_over(self, now: int) -> None:
        if self._closing and now >= self._closing:
            self._close_day(self._closing)
            self._closing = 0
        if not self._closing:
            self._closing = self.broker.view.sessions.next_close(now)

    def _close_day(self, at: int) -> None:
        price = self.broker.view.price
        for n, account in self.broker.accounts.items():
            account.closed_at, account.last_equity = at, account.worth(price).equity
            prices = {p.symbol: price(p.symbol) for p in account.book.open_positions()}
            account.last_prices = {s: each for s, each in prices.items() if each is not None}
            kept = {symbol: text(each) for symbol, each in account.last_prices.items()}
            equity = text(account.last_equity)
            self._journal.note({"account": n, "closing": at, "equity": equity, "prices": kept})

    def _sample(self, now: int) -> None:
        self._sampled = now - now % MINUTE_NS
        for n, account in self.broker.accounts.items():
            equity = account.worth(self.broker.view.price).equity
            account.samples.append((now, equity))
            self._journal.note({"account": n, "sample": now, "equity": text(equity)})


def _complain(clock: asyncio.Task[None]) -> None:
    """A clock that failed would otherwise be missed only by what no longer happens."""
    if not clock.cancelled() and (error := clock.exception()) is not None:
        log.error("the broker's clock has stopped", error=str(error), exc_info=error)
