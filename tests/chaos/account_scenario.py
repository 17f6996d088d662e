"""The account side under kill -9: orders go on while what carries them is killed in turn.

A market of its own with the house strategy, a trader beside it on both accounts, and a signed-in client for
each user that stays on through every loss. At the end nobody trades any more, and all say the same: the
broker's REST, a naive loop over the broker's journal, the topics, PostgreSQL, the clients, and the report.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psycopg

from console.client import sign_in
from tests.chaos.demo_run import DemoRun
from tests.e2e import account_digest
from tests.e2e.account_client import AccountClient
from tests.e2e.account_digest import Books
from tests.e2e.account_trader import AccountTrader
from tidewire import config
from tidewire.stack import fill_in

VICTIMS = ("portfolio", "sink", "gateway", "processor", "accounts")
PASSING = ("pending_new", "new", "accepted", "pending_cancel", "pending_replace")
"""Events that Alpaca tells only those who listen: its REST knows fills and how an order stands, not how it
came to that. Whoever kills the listener must find these named as lost by the report, and no others."""

USERS = {"demo": "demo-1", "other": "demo-2"}
_REST_SECONDS = 60.0
BETWEEN_SECONDS = 1.0
"""Orders go on for so long between one process's return and the next kill."""


_SECOND = 10**9
"""What was sent so shortly before the kill may have been in the killed process."""


@dataclass
class AccountOutcome:
    """What a run saw. `differences` is empty when all places say the same as the broker's journal."""

    exit_code: int = 1
    report: dict[str, Any] = field(default_factory=dict)
    kills: dict[str, int] = field(default_factory=dict)
    recovery_seconds: list[float] = field(default_factory=list)
    """Until another process was there, and until it said that it does its work."""
    ready_seconds: list[float] = field(default_factory=list)
    differences: list[str] = field(default_factory=list)
    left_running: list[str] = field(default_factory=list)
    unheard: list[str] = field(default_factory=list)
    """Passing events that were sent while nobody listened."""
    orders_sent: dict[str, int] = field(default_factory=dict)
    events: dict[str, int] = field(default_factory=dict)
    fills: int = 0
    open_positions: int = 0
    connects: dict[str, int] = field(default_factory=dict)

    def numbers(self) -> dict[str, Any]:
        """For chaos.json: everything but the report's text."""
        found = asdict(self) | {"order_events": self.report.get("channels", {}).get("order_events")}
        found["unheard"] = dict(Counter(self.unheard))
        return {name: value for name, value in found.items() if name != "report"}


class AccountLine:
    """A demo with its trader and its clients."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.home = folder / "home"
        arguments = ["--seed", str(seed), "--accounts", str(len(USERS)), "--strategy"]
        self.run = DemoRun(self.home, arguments, folder / "demo.log")
        drop = {
            "kafka_bootstrap_servers": None,
            "database_url": None,
        }  # its own servers, whoever names others
        self.settings = config.load(_env_file=None, tidewire_home=self.home, **drop)
        self.clients: dict[str, AccountClient] = {}
        self.trader: AccountTrader | None = None
        self.away: list[tuple[int, int]] = []
        """When (ns) nobody listened to the accounts."""
        self._seed = seed

    def open(self) -> None:
        """Sign the clients in and begin to trade, once the whole line is up."""
        self.run.wait_for(lambda: self.run.published() > 0, "market")
        self.run.wait_for(lambda: self.run.ready("gateway"), "gateway")
        url = sign_in.gateway_url(self.settings)
        for user in USERS:
            client = AccountClient(url, lambda user=user: sign_in.as_operator(self.settings, user))  # type: ignore[misc]
            client.start()
            self.clients[user] = client
        self.run.wait_for(lambda: all(c.cash for c in self.clients.values()), "snapshot at each client")
        self.trader = AccountTrader(self.run.simulator_url(), self._seed)
        self.trader.start()

    def kill(self, name: str, outcome: AccountOutcome) -> None:
        """kill -9, and wait until another process has taken its place and says that it is ready."""
        killed = self.run.kill(name)
        began, began_ns = time.monotonic(), time.time_ns()
        self.run.wait_for(lambda: self.run.restarted(name, killed), f"restarted {name}")
        outcome.kills[name] = outcome.kills.get(name, 0) + 1
        outcome.recovery_seconds.append(round(time.monotonic() - began, 1))
        self.run.wait_for(lambda: self.run.ready(name), f"{name} that is ready")
        outcome.ready_seconds.append(round(time.monotonic() - began, 1))
        if name == "accounts":
            self.away.append((began_ns - _SECOND, time.time_ns()))

    def rest(self) -> Books:
        """End the trading; returns the broker's books once every client has them."""
        assert self.trader is not None
        self.trader.rest()
        self.run.wait_for(
            lambda: self.trader is not None and not self.trader.open_orders(), "end of all orders"
        )
        books = account_digest.read_journal(self.home, len(USERS))
        deadline = time.monotonic() + _REST_SECONDS
        while self.client_differences(books) and time.monotonic() < deadline:
            time.sleep(0.2)
        return books

    def client_differences(self, books: Books) -> list[str]:
        """Where a client's own sum of what it was told is not the broker's books, or is not its own."""
        wrong = []
        for user, account in USERS.items():
            client = self.clients[user]
            wrong += account_digest.at_the_client(books, account, client.positions, client.cash)
            if client.ended is not None:
                wrong.append(f"the client of {user} ended: {client.ended}")
            if foreign := client.order_ids - books.orders_of.get(account, set()):
                wrong.append(f"{user} was told of orders of others: {sorted(foreign)[:5]}")
            if unknown := client.executions.keys() - books.executions_of(account).keys():
                wrong.append(f"{user} was told of executions that never were: {sorted(unknown)[:5]}")
            if twice := [e for e, count in client.executions.items() if count > 1]:
                wrong.append(f"{user} was told twice of the executions {twice[:5]}")
        return wrong

    def broker_differences(self, books: Books) -> list[str]:
        """Where the naive loop is not what the broker's REST says."""
        assert self.trader is not None
        wrong = []
        for number, account in enumerate(USERS.values(), start=1):
            wrong += account_digest.at_the_broker(books, account, *self.trader.state(number))
        return wrong

    def close(self) -> None:
        """Leave nothing behind."""
        if self.trader is not None:
            self.trader.stop()
        for client in self.clients.values():
            client.stop()
        self.run.close()


@contextmanager
def _line(folder: Path, seed: int) -> Iterator[AccountLine]:
    line = AccountLine(folder, seed)
    try:
        yield line
    finally:
        line.close()


def kill_in_turn(
    folder: Path, victims: tuple[str, ...], seed: int, tell: Callable[[str], None] = lambda _: None
) -> AccountOutcome:
    """Kill each victim while orders go on, let all come to rest, and hold every place against the broker."""
    outcome = AccountOutcome()
    with _line(folder, seed) as line:
        line.open()
        for name in victims:
            time.sleep(BETWEEN_SECONDS)
            line.kill(name, outcome)
            tell(f"killed {name}, ready after {outcome.ready_seconds[-1]:.1f} s")
        time.sleep(BETWEEN_SECONDS)
        books = line.rest()
        outcome.differences = line.broker_differences(books) + line.client_differences(books)
        outcome.connects = {user: client.connects for user, client in line.clients.items()}
        assert line.trader is not None
        outcome.orders_sent = line.trader.sent
        if line.trader.ended is not None:
            outcome.differences.append(f"the trader ended: {line.trader.ended}")
        _compare_stored(line, books, outcome)
        line.run.interrupt()
        outcome.exit_code, outcome.report = line.run.finish()
        outcome.left_running = line.run.left_running()
    outcome.events, outcome.fills = dict(books.events_of), books.fills.total()
    outcome.open_positions = len(books.open_positions())
    outcome.differences += _report_differences(outcome.report, len(outcome.unheard))
    return outcome


def _compare_stored(line: AccountLine, books: Books, outcome: AccountOutcome) -> None:
    """Hold the topics and PostgreSQL, once they rest, against the broker's books."""
    servers = fill_in(line.settings)
    assert servers.kafka_bootstrap_servers is not None
    assert servers.database_url is not None
    kafka = servers.kafka_bootstrap_servers
    with psycopg.connect(servers.database_url.get_secret_value(), autocommit=True) as connection:
        deadline = time.monotonic() + _REST_SECONDS
        while True:
            lost = account_digest.not_in_the_topic(books, kafka)
            wrong = account_digest.in_the_topics(books, kafka)
            wrong += account_digest.in_postgres(books, connection, lost)
            if not wrong or time.monotonic() > deadline:
                break
    outcome.differences += wrong
    for ts, event in lost:
        if event in PASSING and any(start <= ts <= end for start, end in line.away):
            outcome.unheard.append(event)
        else:
            outcome.differences.append(f"{event} of {ts} is not in the topic, and somebody listened")


def _report_differences(report: dict[str, Any], lost: int) -> list[str]:
    """The report must name what nobody can give back, and nothing else."""
    wrong = []
    for name, channel in report["channels"].items():
        gone = lost if name == "order_events" else 0
        if (channel["missing"], channel["extra"], channel["unrecoverable"]) != (0, 0, gone):
            wrong.append(f"the report says of {name}: {channel}, but {gone} are lost for good")
    if not report["complete"]:
        wrong.append("the report is not complete")
    problems: list[str] = report["problems"]
    return wrong + problems
