"""Servers, the simulated broker and executors of one run; nothing is shared but, in tests, the servers."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import aiohttp
import psycopg

from processors.exits.app import EVENTS, OUTPUTS, PRICES, WHOLE
from schemas import cluster
from schemas.catalogue import ORDER_INTENTS, ORDER_RESULTS, TRADE_UPDATES
from simulator.app import Simulator, SimulatorOptions
from simulator.broker.orders import Order
from simulator.broker.rejections import Rejection
from simulator.options import key_pair
from sinks.postgres import migrate
from tests.chaos.orders_process import FAST, REAL, Process
from tidewire import config
from tidewire.config import Settings
from tidewire.stack import LocalStack

TOPICS = frozenset({ORDER_INTENTS, ORDER_RESULTS, TRADE_UPDATES, *PRICES, *EVENTS, *OUTPUTS, *WHOLE})
MAX_AGE = (600, 600, 10)
"""Seconds, of the accounts in turn: on the third, what a fault delays goes stale, and is armed again."""
_RISK = "allow_short = true\norders_per_minute = 200\nduplicate_seconds = 0\nmax_daily_loss = 100000\n"
PATIENCE = 180.0


class Line:
    """`borrowed`: settings that name servers which are not ours to hurt; None: a stack of our own.
    `forked`: executors are not started by their command, but forked (orders_nursery.py)."""

    def __init__(
        self,
        home: Path,
        accounts: int,
        symbols: tuple[str, ...],
        borrowed: Settings | None = None,
        *,
        partitions: int = 4,
        forked: bool = False,
    ) -> None:
        self.accounts = [f"a{number}" for number in range(1, accounts + 1)]
        self.symbols = symbols
        self.stack = LocalStack(home / "stack") if borrowed is None else None
        self._home, self._borrowed, self._forked = home, borrowed, forked
        self.partitions = partitions
        self.settings = config.load(_env_file=None)
        self.processes: list[Process] = []
        self.crashed: list[str] = []
        self.accepted: dict[str, int] = {}
        self.ran: Counter[str] = Counter()
        self._started = 0
        self._session: aiohttp.ClientSession | None = None
        self._simulator: Simulator | None = None

    @property
    def simulator(self) -> Simulator:
        """It runs."""
        assert self._simulator is not None
        return self._simulator

    @property
    def max_age(self) -> dict[str, int]:
        """By account, seconds."""
        return {name: MAX_AGE[number % len(MAX_AGE)] for number, name in enumerate(self.accounts)}

    async def up(self) -> None:
        """Start everything but executors."""
        self._home.mkdir(parents=True, exist_ok=True)
        await self._start_market()
        common: dict[str, Any] = {
            "tidewire_home": self._home, "tidewire_partitions": self.partitions,
            "tidewire_accounts_file": self._home / "accounts.toml",
            "tidewire_trading_url": self.simulator.url, "tidewire_data_url": self.simulator.url,
        }  # fmt: skip
        if self.stack is not None:
            found = await asyncio.to_thread(self.stack.up)
            servers = {"kafka_bootstrap_servers": found.kafka_bootstrap, "database_url": found.database_url}
            self.settings = config.load(
                _env_file=None, tidewire_topic_prefix="chaos.", **servers, **common
            )  # fmt: skip
        else:
            assert self._borrowed is not None
            self.settings = self._borrowed.model_copy(update=common)
        self._write_accounts()
        await cluster.apply(self.settings, only=TOPICS)
        await asyncio.to_thread(migrate.apply, self.url)

    async def down(self) -> None:
        """End everything."""
        for process in self.processes:
            process.kill()
        if self._session is not None:
            await self._session.close()
        if self._simulator is not None:
            await self._simulator.stop()
        if self.stack is not None:
            await asyncio.to_thread(self.stack.wipe)

    async def _start_market(self) -> None:
        options = SimulatorOptions(
            symbols=self.symbols, wait_for_subscriber=False, strategy=False, fresh=True,
            orders_per_minute=None, accounts=len(self.accounts), halts_per_hour=0,
        )  # fmt: skip
        settings = config.load(_env_file=None, tidewire_home=self._home / "market")
        self._simulator = Simulator(settings, options)
        await self._simulator.start()
        self._session = aiohttp.ClientSession()
        exchange = self._simulator.broker.broker.exchange
        enter = exchange.enter

        def entered(order: Order) -> None:
            """By the wall clock: the journal's is the market's."""
            self.accepted.setdefault(order.client_order_id, time.time_ns())
            enter(order)

        exchange.enter = entered  # type: ignore[method-assign]
        await self.until(lambda: all(map(self.simulator.prices.quote, self.symbols)), "quotes")

    def _write_accounts(self) -> None:
        lines = []
        for number, (name, age) in enumerate(self.max_age.items(), start=1):
            keys = self._home / f"{name}.keys"
            keys.write_text("\n".join(key_pair(number)))
            keys.chmod(0o600)
            lines.append(f'[accounts.{name}]\nkey_file = "{keys.name}"\n[accounts.{name}.risk]\n{_RISK}')
            lines.append(f"max_age_seconds = {age}\n")
        self.settings.tidewire_accounts_file.write_text("\n".join(lines))

    # -- executors

    def start(self, failpoint: str = "", *, fast: bool = False) -> Process:
        """One more executor."""
        return self.start_other(FAST if fast else REAL, failpoint, forked=self._forked)

    def start_other(self, main: tuple[str, ...], failpoint: str = "", *, forked: bool = False) -> Process:
        """One more process."""
        self._started += 1
        process = Process(self._started, self.settings, main, failpoint, forked=forked)
        self.processes.append(process)
        return process

    def died(self, process: Process) -> None:
        """It has ended by its failpoint; any other end is a finding."""
        self.processes.remove(process)
        if process.process.returncode != -signal.SIGKILL:
            self.crashed.append(f"{process.name} ended with {process.process.returncode}: {process.log()}")

    async def ready(self, process: Process) -> None:
        """Wait until it works."""
        deadline = time.monotonic() + PATIENCE
        while not await asyncio.to_thread(process.ready):
            assert not process.ended(), process.log()
            assert time.monotonic() < deadline, f"{process.name} is not ready: {process.log()}"
            await asyncio.sleep(0.1)

    async def stop(self, process: Process) -> None:
        """SIGTERM; it must end in order."""
        self.processes.remove(process)
        if (code := await asyncio.to_thread(process.stop)) != 0:
            self.crashed.append(f"{process.name} left with {code}: {process.log()}")

    async def until(
        self,
        condition: Callable[[], object],
        what: str,
        seconds: float = PATIENCE,
        apart_from: Sequence[Process] = (),
    ) -> None:
        """Wait for a condition; an executor that ends by itself meanwhile is a finding."""
        deadline = time.monotonic() + seconds
        while not condition():
            for process in [p for p in self.processes if p not in apart_from and p.ended()]:
                self.processes.remove(process)
                self.crashed.append(f"{process.name} ended: {process.log()}")
            if time.monotonic() > deadline:
                logs = "\n".join(f"{p.name}: {p.log()}" for p in self.processes)
                raise AssertionError(f"no {what} within {seconds:.0f} s\n{logs}")
            await asyncio.sleep(0.05)

    # -- faults of servers and of the broker

    async def kill_kafka(self) -> None:
        """kill -9, and start it again."""
        assert self.stack is not None
        await asyncio.to_thread(self.stack.brokers[0].kill)
        await asyncio.to_thread(self.stack.start_kafka)
        self.ran["kill -9 of Kafka"] += 1

    async def restart_postgres(self) -> None:
        """An immediate shutdown: nobody is asked, nothing written; then start it again."""
        assert self.stack is not None
        pid = self.stack.postgres.pid
        assert pid is not None
        os.kill(pid, signal.SIGQUIT)
        await self.until(lambda: not self.stack or not self.stack.postgres.alive(), "end of PostgreSQL")
        await asyncio.to_thread(self.stack.start_postgres)
        self.ran["immediate shutdown of PostgreSQL"] += 1

    async def fault(self, **fault: Any) -> None:
        """Ask the simulator for one."""
        assert self._session is not None
        body = {"venue": "trading", **fault}
        async with self._session.post(f"{self.simulator.url}/sim/faults", json=body) as answer:
            assert answer.status == 200, await answer.text()

    # -- the broker, as a user sees it

    async def ask(self, account: str, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """A request with an account's keys; returns status and JSON."""
        assert self._session is not None
        key, secret = key_pair(self.number(account))
        headers = {"APCA-API-KEY-ID": key, "APCA-API-SECRET-KEY": secret}
        url = f"{self.simulator.url}/v2/{path}"
        async with self._session.request(method, url, headers=headers, json=body) as answer:
            return answer.status, None if answer.status == 204 else await answer.json()

    def place(self, account: str, body: dict[str, Any]) -> bool:
        """Somebody else's order, past all faults of REST; whether the broker took it."""
        service = self.simulator.broker
        try:
            service.broker.submit(self.number(account), body)
        except Rejection:
            return False
        finally:
            service.flush()
        return True

    @property
    def faults_left(self) -> int:
        """Faults of REST that have not happened yet."""
        rest = self.simulator.rest_faults
        return len(rest._rules) + len(rest._after)

    def number(self, account: str) -> int:
        """The simulator's number of it."""
        return self.accounts.index(account) + 1

    def held(self, account: str, symbol: str) -> Decimal:
        """Quantity of a position; negative: short."""
        return self.simulator.broker.broker.accounts[self.number(account)].book.quantity(symbol)

    def posts(self) -> Counter[str]:
        """How many POSTs of orders came, by client_order_id."""
        found: Counter[str] = Counter()
        requests = self.simulator.broker._order_routes._guard.requests
        for number in range(1, len(self.accounts) + 1):
            found.update(requests.of(number)["orders"])
        return found

    @property
    def journal(self) -> Path:
        """Of the simulated broker."""
        return self._home / "market" / "simulator" / "trading" / "updates.jsonl"

    def lines(self) -> int:
        """How many lines the journal has."""
        with self.journal.open("rb") as file:
            return sum(1 for _ in file)

    # -- the ledger

    @property
    def url(self) -> str:
        """Of PostgreSQL."""
        assert self.settings.database_url is not None
        return self.settings.database_url.get_secret_value()

    async def rows(self, query: str) -> list[tuple[Any, ...]]:
        """Of the ledger; none while PostgreSQL is away."""
        return await asyncio.to_thread(self._rows, query)

    def _rows(self, query: str) -> list[tuple[Any, ...]]:
        try:
            with psycopg.connect(self.url, connect_timeout=5) as connection:
                return connection.execute(query.encode()).fetchall()
        except psycopg.OperationalError:
            return []
