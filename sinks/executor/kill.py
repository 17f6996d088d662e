"""Turning the kill switch: the file, PostgreSQL, and the broker's own suspend_trade, which is read back.

The first two stop every executor that still asks; the last stops one that hung before its order and wakes up
after. Only then is the switch confirmed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sinks.executor import kill_file, kill_table
from sinks.executor.broker_types import Broker, BrokerError, Limited
from sinks.executor.kill_file import ALL
from tidewire.clock import NS_PER_SECOND, Clock, now_ns
from tidewire.errors import ConfigError, TidewireError

PATIENCE = 15.0
"""Seconds that the broker may take to confirm."""
HERE_SECONDS = 1.0
"""How long PostgreSQL is waited for before the broker is told."""
CLEAR_SECONDS = 30.0
"""Seconds that orders may take to end, and then positions to close."""
_PAUSE = 0.25


@dataclass(slots=True)
class AtBroker:
    """An account. `suspended`: what the broker says; None: it could not be asked. Counts: None, not asked."""

    account: str
    suspended: bool | None = None
    stopped_by: str | None = None
    """Why its orders are stopped here; None: they are not."""
    open_orders: int | None = None
    open_positions: int | None = None
    problems: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Report:
    """What became of it. `file`, `database`: what went wrong there; None: nothing.

    `confirmed`: the broker says of every account what was asked, and it holds here too.
    """

    on: bool
    confirmed: bool
    file: str | None
    database: str | None
    accounts: list[AtBroker]


@dataclass(frozen=True, slots=True)
class Wish:
    """What is asked for. `account` None: all. `by`: who asks."""

    on: bool
    account: str | None = None
    cancel_orders: bool = False
    flatten: bool = False
    reason: str = ""
    by: str = ""


Open = Callable[[str], Broker]
"""The broker of an account by its name. Raises TidewireError: it has no keys here."""


class Kill:
    """`names` are all accounts; `open` gives their brokers; `url` is PostgreSQL's, None: not known."""

    def __init__(
        self,
        home: Path,
        url: str | None,
        names: Sequence[str],
        open: Open,
        *,
        wall: Clock = now_ns,
        patience: float = PATIENCE,
        clear_seconds: float = CLEAR_SECONDS,
    ) -> None:
        self._home, self._url, self._names, self._open = home, url, names, open
        self._wall, self._patience, self._clear_seconds = wall, patience, clear_seconds

    async def turn(self, wish: Wish) -> Report:
        """Turn the switch; what cannot be done is told, and the rest is done all the same.

        On: here first, so that nothing new is ordered; then orders and positions if asked; then the broker.
        Off: the broker first, so that nothing is ordered that it would refuse.

        Raises:
            ConfigError: there is no such account.
        """
        if wish.account is not None and self._names and wish.account not in self._names:
            raise ConfigError([f"no account {wish.account}; there are {', '.join(self._names)}"])
        names = self._names if wish.account is None else [wish.account]
        if wish.on:
            turning = asyncio.create_task(self._here(wish))
            # A PostgreSQL that hangs must not keep the broker from being told.
            await asyncio.wait({turning}, timeout=HERE_SECONDS)
            accounts = await asyncio.gather(*(self._stop(name, wish) for name in names))
            here = await turning
        else:
            accounts = await asyncio.gather(*(self._release(name, wish) for name in names))
            here = await self._here(wish)
        for each in accounts:
            each.stopped_by = await self._why_on(each.account)
        held = here[0] is None or here[1] is None if wish.on else here == (None, None)
        confirmed = held and all(self._as_asked(each, wish) for each in accounts)
        return Report(wish.on, confirmed, *here, list(accounts))

    async def status(self) -> Report:
        """What is the case, everywhere. `on`: for every account; `file`, `database`: why for all."""
        file = kill_file.why_on(self._home, ALL)
        database = await asyncio.to_thread(kill_table.why_on_at, self._url, ALL)
        accounts = await asyncio.gather(*(self._look(name) for name in self._names))
        on = file is not None or database is not None
        agreed = all(each.suspended is (each.stopped_by is not None) for each in accounts)
        return Report(on, agreed, file, database, list(accounts))

    async def _here(self, wish: Wish) -> tuple[str | None, str | None]:
        account = wish.account or ALL
        file = database = None
        try:
            if wish.on:
                kill_file.set_on(self._home, account, wish.reason or f"by {wish.by}")
        except TidewireError as error:
            file = str(error)
        try:
            turn = kill_table.turn_at
            await asyncio.to_thread(turn, self._url, account, wish.on, wish.reason, wish.by)
        except TidewireError as error:
            database = str(error)
        try:
            if not wish.on and database is None:  # else it stays on, as PostgreSQL does
                kill_file.set_off(self._home, account)
        except TidewireError as error:
            file = str(error)
        return file, database

    async def _why_on(self, account: str) -> str | None:
        why = kill_file.why_on(self._home, account)
        return why or await asyncio.to_thread(kill_table.why_on_at, self._url, account)

    def _as_asked(self, each: AtBroker, wish: Wish) -> bool:
        return each.suspended is wish.on and (each.stopped_by is not None) is wish.on

    async def _stop(self, name: str, wish: Wish) -> AtBroker:
        found, broker = self._begin(name)
        if broker is None:
            return found
        if wish.cancel_orders or wish.flatten:
            await self._clear(broker, found, wish.flatten)
        await self._suspend(broker, found, True)
        if wish.cancel_orders and not wish.flatten:
            # An order that was on its way when the first ones were canceled; nothing new can come now.
            await self._clear(broker, found, False)
        return found

    async def _release(self, name: str, wish: Wish) -> AtBroker:
        found, broker = self._begin(name)
        if broker is None:
            return found
        if wish.account is not None and await self._stopped_for_all():
            found.problems.append("the switch is on for all accounts: this one stays suspended")
            found.suspended = await self._asked(broker, found)
        else:
            await self._suspend(broker, found, False)
        return found

    async def _stopped_for_all(self) -> bool:
        return await self._why_on(ALL) is not None

    def _begin(self, name: str) -> tuple[AtBroker, Broker | None]:
        found = AtBroker(name)
        try:
            return found, self._open(name)
        except TidewireError as error:
            found.problems.append(str(error))
            return found, None

    async def _look(self, name: str) -> AtBroker:
        found, broker = self._begin(name)
        found.stopped_by = await self._why_on(name)
        if broker is not None:
            found.suspended = await self._asked(broker, found)
        return found

    async def _asked(self, broker: Broker, found: AtBroker) -> bool | None:
        try:
            return await broker.suspended()
        except BrokerError as error:
            found.problems.append(str(error))
            return None

    async def _suspend(self, broker: Broker, found: AtBroker, on: bool) -> None:
        """Until the broker says so itself, or patience ends."""
        problem = "the broker does not say so itself"
        deadline = self._wall() + int(self._patience * NS_PER_SECOND)
        while True:
            pause = _PAUSE
            try:
                if await broker.suspend(on):
                    found.suspended = on
                    return
                found.suspended = not on
            except BrokerError as error:
                problem = str(error)
                if isinstance(error, Limited):
                    pause = max(pause, (error.until_ns - self._wall()) / NS_PER_SECOND)
            if self._wall() + int(pause * NS_PER_SECOND) > deadline:
                found.problems.append(f"not confirmed: {problem}")
                return
            await asyncio.sleep(pause)

    async def _clear(self, broker: Broker, found: AtBroker, flatten: bool) -> None:
        """Cancel every order, and close every position if asked; suspension comes in any case."""
        try:
            await broker.cancel_all()
            found.open_orders = await self._until_none(lambda: broker.open_orders(exit=True))
            if flatten:
                await broker.close_all()
                found.open_positions = await self._until_none(lambda: broker.positions(exit=True))
                found.open_orders = len(await broker.open_orders(exit=True))
        except BrokerError as error:
            found.problems.append(f"clearing: {error}")
        if found.open_orders:
            found.problems.append(f"{found.open_orders} orders are still open")
        if found.open_positions:
            found.problems.append(f"{found.open_positions} positions are still open")

    async def _until_none(self, ask: Callable[[], Awaitable[Sequence[object]]]) -> int:
        """How many are left when none are, or when time is over."""
        deadline = self._wall() + int(self._clear_seconds * NS_PER_SECOND)
        while True:
            left = len(await ask())
            if not left or self._wall() > deadline:
                return left
            await asyncio.sleep(_PAUSE)
