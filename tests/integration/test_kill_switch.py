"""The kill switch on a real PostgreSQL and against the simulated broker, over real sockets.

A switch that says off because it could not be read, or that is believed before the broker agrees, lets orders
through when a user has nothing else left to pull.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import aiohttp
import psycopg
import pytest
from pydantic import SecretStr

from simulator.app import Simulator, SimulatorOptions
from sinks.executor import kill_file, kill_setup, kill_table
from sinks.executor.broker import of_account
from sinks.executor.broker_types import Broker, BrokerError, LastCheck, NewOrder, Refused, Stopped
from sinks.executor.kill import Kill, Wish
from sinks.executor.kill_file import ALL
from sinks.executor.kill_switch import KillSwitch
from sinks.postgres import migrate
from tests.integration.gateway_world import World, serving, world
from tidewire import accounts, config
from tidewire.config import Settings

pytestmark = pytest.mark.postgres

NOWHERE = "127.0.0.1:1"
_names = itertools.count()


def resting(**fields: Any) -> NewOrder:
    plain: dict[str, Any] = {
        "client_order_id": f"tw-kill-{next(_names)}", "symbol": "AAPL", "side": "buy", "type": "limit",
        "time_in_force": "day", "quantity": Decimal(1), "limit_price": Decimal("1.25"),
    }  # fmt: skip
    return NewOrder(**(plain | fields))


@asynccontextmanager
async def simulated(home: Path) -> AsyncIterator[Simulator]:
    options = SimulatorOptions(
        symbols=("AAPL",), wait_for_subscriber=False, strategy=False, orders_per_minute=None
    )
    simulator = Simulator(config.load(_env_file=None, tidewire_home=home / "simulator"), options)
    await simulator.start()
    try:
        while simulator.prices.quote("AAPL") is None:
            await asyncio.sleep(0.01)
        yield simulator
    finally:
        await simulator.stop()


def two_accounts(home: Path, url: str, **more: Any) -> Settings:
    """Settings with accounts one and two, which may trade at the simulator."""
    lines = ['admins = ["anna"]']
    for n, name in enumerate(("one", "two"), 1):
        suffix = "" if n == 1 else f"-{n}"
        key_file = home / f"key-{n}"
        key_file.write_text(f"demo-key{suffix}\ndemo-secret{suffix}\n")
        key_file.chmod(0o600)
        lines += [f"[accounts.{name}]", f'key_file = "{key_file.name}"', 'users = ["ben"]']
    (home / "accounts.toml").write_text("\n".join(lines))
    return config.load(
        _env_file=None, tidewire_home=home, tidewire_accounts_file=home / "accounts.toml",
        tidewire_trading_url=url, tidewire_data_url=url, **more,
    )  # fmt: skip


async def never() -> None:
    """A switch that nobody asks: a process that had asked before, and slept since."""


def broker(session: aiohttp.ClientSession, settings: Settings, n: int, switch: LastCheck = never) -> Broker:
    return of_account(session, settings, accounts.load(settings)[n], switch)


def killing(session: aiohttp.ClientSession, settings: Settings) -> Kill:
    return kill_setup.of_settings(settings, accounts.load(settings), session)


# -- off only if everybody says off --------------------------------------------------------------------------


async def test_off_only_if_the_table_says_so(database_url: str, tmp_path: Path) -> None:
    """No table, no row, a database that is away or hangs: each must stop orders."""
    switch = KillSwitch(tmp_path, database_url, answer_seconds=1)
    with psycopg.connect(database_url, autocommit=True) as db:
        assert "cannot be read" in str(await switch.why_on("one"))  # no table yet
        await asyncio.to_thread(migrate.apply, database_url)
        assert await switch.why_on("one") is None
        kill_table.turn(db, "one", True, "odd", "anna")
        assert "odd" in str(await switch.why_on("one"))
        assert await switch.why_on("two") is None
        kill_table.turn(db, ALL, True, "fire", "anna")
        assert "fire" in str(await switch.why_on("two"))
        kill_table.turn(db, ALL, False, "", "anna")
        assert await switch.why_on("one") is None  # off for all is off for each
        kill_file.set_on(tmp_path, "two", "by file")
        assert "by file" in str(await switch.why_on("two"))
        kill_file.set_off(tmp_path, "two")
        db.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() "
                   "AND datname = current_database()")  # fmt: skip
        assert await switch.why_on("one") is None  # a restart of PostgreSQL is no reason to stop
        with db.transaction():
            db.execute("LOCK TABLE kill_switch IN ACCESS EXCLUSIVE MODE")
            assert "in time" in str(await switch.why_on("one"))
        db.execute("DELETE FROM kill_switch")
        with pytest.raises(Stopped):
            await switch.before_orders("one")()
        db.execute("DROP TABLE kill_switch")
        assert "cannot be read" in str(await switch.why_on("one"))
    await switch.close()
    away = KillSwitch(tmp_path, f"postgresql://nobody:secret-word@{NOWHERE}/none")
    why = str(await away.why_on("one"))
    assert "cannot be read" in why
    assert "secret-word" not in why
    await away.close()


# -- the broker agrees before anybody is told ----------------------------------------------------------------


async def test_nothing_is_accepted_once_it_is_confirmed(database_url: str, tmp_path: Path) -> None:
    """Under load, and from processes that asked the switch before it was on and wake up after."""
    await asyncio.to_thread(migrate.apply, database_url)
    async with simulated(tmp_path) as simulator, aiohttp.ClientSession() as session:
        settings = two_accounts(tmp_path, simulator.url, database_url=SecretStr(database_url))
        switch = KillSwitch(settings.tidewire_home, database_url)
        careful = [
            broker(session, settings, n, switch.before_orders(name)) for n, name in enumerate(("one", "two"))
        ]
        asleep = [broker(session, settings, n) for n in (0, 1)]
        outcomes: list[str] = []
        halt = asyncio.Event()

        async def load(which: Broker) -> None:
            while not halt.is_set():
                try:
                    await which.submit(resting(), exit=True)
                    outcomes.append("accepted")
                except BrokerError as error:
                    outcomes.append(type(error).__name__)
                await asyncio.sleep(0.03)

        def orders() -> int:
            return sum(len(a.orders) for a in simulator.broker.broker.accounts.values())

        loads = [asyncio.create_task(load(each)) for each in (*careful, *asleep)]
        while outcomes.count("accepted") < 20:
            await asyncio.sleep(0.01)
        report = await killing(session, settings).turn(Wish(True, reason="test", by="anna"))
        confirmed_at, tried = orders(), len(outcomes)
        assert report.confirmed
        assert [each.suspended for each in report.accounts] == [True, True]
        while len(outcomes) < tried + 40:
            await asyncio.sleep(0.01)
        assert orders() == confirmed_at
        assert {"Stopped", "Refused"} <= set(outcomes[tried:])
        assert "accepted" not in outcomes[tried + len(loads) :]  # those who were being answered meanwhile
        assert (await killing(session, settings).status()).confirmed

        report = await killing(session, settings).turn(Wish(False, "one", by="anna"))
        assert not report.confirmed  # it is on for all
        with pytest.raises(Refused):
            await asleep[0].submit(resting())
        assert orders() == confirmed_at
        report = await killing(session, settings).turn(Wish(False, by="anna"))
        assert report.confirmed
        while orders() == confirmed_at:
            await asyncio.sleep(0.01)
        halt.set()
        await asyncio.gather(*loads)
        await switch.close()


async def test_one_account_is_stopped_alone(database_url: str, tmp_path: Path) -> None:
    """Who stops one strategy's account does not want the others stopped."""
    await asyncio.to_thread(migrate.apply, database_url)
    async with simulated(tmp_path) as simulator, aiohttp.ClientSession() as session:
        settings = two_accounts(tmp_path, simulator.url, database_url=SecretStr(database_url))
        assert (await killing(session, settings).turn(Wish(True, "one"))).confirmed
        with pytest.raises(Refused):
            await broker(session, settings, 0).submit(resting())
        switch = KillSwitch(settings.tidewire_home, database_url)
        assert await switch.why_on("one") is not None
        await broker(session, settings, 1, switch.before_orders("two")).submit(resting())
        assert (await killing(session, settings).turn(Wish(False, "one"))).confirmed
        await broker(session, settings, 0, switch.before_orders("one")).submit(resting())
        await switch.close()


async def test_orders_and_positions_are_cleared_before_the_broker_is_told(
    database_url: str, tmp_path: Path
) -> None:
    """A suspended account can no longer close anything: flat comes first."""
    await asyncio.to_thread(migrate.apply, database_url)
    async with simulated(tmp_path) as simulator, aiohttp.ClientSession() as session:
        settings = two_accounts(tmp_path, simulator.url, database_url=SecretStr(database_url))
        ours = broker(session, settings, 0)
        await ours.submit(resting(type="market", limit_price=None, quantity=Decimal(5)))
        while not await ours.positions():
            await asyncio.sleep(0.02)
        await ours.submit(resting())
        await ours.submit(resting(side="sell", limit_price=Decimal(9999)))
        report = await killing(session, settings).turn(Wish(True, "one", cancel_orders=True))
        assert report.confirmed
        assert report.accounts[0].open_orders == 0
        assert len(await ours.positions()) == 1
        assert (await killing(session, settings).turn(Wish(False, "one"))).confirmed
        await ours.submit(resting(side="sell", limit_price=Decimal(9999)))
        report = await killing(session, settings).turn(Wish(True, "one", flatten=True))
        assert report.confirmed
        assert (report.accounts[0].open_orders, report.accounts[0].open_positions) == (0, 0)
        assert await ours.positions() == []


async def test_it_is_not_confirmed_unless_the_broker_says_so(database_url: str, tmp_path: Path) -> None:
    """A broker that answers 200 and does nothing, or does not answer: the user must be told."""
    await asyncio.to_thread(migrate.apply, database_url)
    async with simulated(tmp_path) as simulator, aiohttp.ClientSession() as session:
        settings = two_accounts(tmp_path, simulator.url, database_url=SecretStr(database_url))
        known = accounts.load(settings)
        fault = {"venue": "trading", "kind": "status_http", "code": 500, "path": "/v2/account/configurations"}
        await session.post(f"{simulator.url}/sim/faults", json=fault | {"count": 1000, "method": "PATCH"})

        def open(name: str) -> Broker:
            return of_account(session, settings, next(a for a in known if a.name == name), never)

        hasty = Kill(tmp_path, database_url, ["one"], open, patience=0.6)
        report = await hasty.turn(Wish(True))
        assert (report.confirmed, report.file, report.database) == (False, None, None)
        assert report.accounts[0].suspended is False
        assert kill_file.why_on(tmp_path, "one") is not None  # what can be stopped here, is


# -- the command ---------------------------------------------------------------------------------------------


async def command(settings: Settings, database: str, *arguments: str) -> tuple[int, dict[str, Any], str]:
    """`tidewire kill ...`, with Kafka down; exit code, its JSON and all that it wrote."""
    environment = {
        "PATH": os.environ["PATH"], "TIDEWIRE_HOME": str(settings.tidewire_home), "DATABASE_URL": database,
        "TIDEWIRE_ACCOUNTS_FILE": str(settings.tidewire_accounts_file), "KAFKA_BOOTSTRAP_SERVERS": NOWHERE,
        "TIDEWIRE_TRADING_URL": str(settings.tidewire_trading_url), "HOME": str(settings.tidewire_home),
    }  # fmt: skip
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", "from console.cli import main; main()", "kill", *arguments, "--json",
        env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await asyncio.wait_for(process.communicate(), 120)
    assert process.returncode is not None
    return process.returncode, json.loads(out or b"{}"), (out + err).decode()


async def test_the_command_works_without_kafka_and_without_postgresql(
    database_url: str, tmp_path: Path
) -> None:
    """It is needed most when everything else is broken. No key may show in what it prints."""
    await asyncio.to_thread(migrate.apply, database_url)
    async with simulated(tmp_path) as simulator, aiohttp.ClientSession() as session:
        settings = two_accounts(tmp_path, simulator.url)
        away = f"postgresql://nobody:secret-word@{NOWHERE}/none"
        code, found, said = await command(settings, away, "on", "--reason", "test")
        assert (code, found["confirmed"]) == (0, True), said  # the file holds, and the broker agrees
        assert "PostgreSQL" in found["database"]
        with pytest.raises(Refused):
            await broker(session, settings, 1).submit(resting())
        code, found, more = await command(settings, away, "off")
        assert (code, found["confirmed"]) == (1, False)
        assert kill_file.why_on(tmp_path, "one") is not None
        code, found, last = await command(settings, database_url, "off")
        assert (code, found["confirmed"]) == (0, True), last
        await broker(session, settings, 1).submit(resting())
        everything = said + more + last
        assert not [secret for secret in ("secret-word", "demo-secret") if secret in everything]


async def test_status_tells_of_a_broker_that_is_away(database_url: str, tmp_path: Path) -> None:
    """A status that fails, or shows nothing, when one part is away would hide that the rest is on."""
    await asyncio.to_thread(migrate.apply, database_url)
    settings = two_accounts(tmp_path, f"http://{NOWHERE}", database_url=SecretStr(database_url))
    kill_file.set_on(tmp_path, "one", "by hand")
    async with aiohttp.ClientSession() as session:
        report = await killing(session, settings).status()
    one, two = report.accounts
    assert (report.on, report.confirmed) == (False, False)
    assert (one.suspended, two.suspended, two.stopped_by) == (None, None, None)
    assert "by hand" in str(one.stopped_by)
    assert one.problems


# -- the gateway ---------------------------------------------------------------------------------------------


@pytest.fixture
async def place(settings: Settings) -> AsyncIterator[World]:
    async with world(settings) as made:
        yield made


@pytest.mark.kafka
async def test_admins_turn_it_by_rest_and_nobody_else(place: World, tmp_path: Path) -> None:
    """Anybody who is signed in could stop everybody's trading, or start it again."""
    async with simulated(tmp_path) as simulator, aiohttp.ClientSession() as http:
        known = two_accounts(tmp_path, simulator.url)
        more = {
            "tidewire_accounts_file": known.tidewire_accounts_file, "tidewire_trading_url": simulator.url,
            "tidewire_home": tmp_path,
        }  # fmt: skip
        async with serving(place, **more) as gateway:
            address = f"{gateway.url}/api/kill"
            anna, ben = ({"Cookie": place.cookie(name)} for name in ("anna", "ben"))
            for method in (http.get, http.post):
                assert (await method(address)).status == 401
                assert (await method(address, headers=ben)).status == 403
            on = {"on": True, "reason": "by rest"}
            assert (await http.post(address, json=on, headers=ben)).status == 403
            evil = anna | {"Origin": "https://evil.example"}
            assert (await http.post(address, json=on, headers=evil)).status == 403
            plain = anna | {"Content-Type": "text/plain"}
            assert (await http.post(address, data=json.dumps(on), headers=plain)).status == 400
            wrongs: list[Any] = [{}, [], {"on": 1}, {"on": True, "acount": "one"}, on | {"account": "nosuch"}]
            for wrong in wrongs:
                assert (await http.post(address, json=wrong, headers=anna)).status == 400, wrong
            assert kill_file.why_on(tmp_path, "one") is None

            answer = await (await http.post(address, json=on, headers=anna)).json()
            assert (answer["confirmed"], len(answer["accounts"])) == (True, 2)
            with pytest.raises(Refused):
                await broker(http, known, 0).submit(resting())
            shown = await (await http.get(address, headers=anna)).json()
            assert (shown["on"], shown["confirmed"]) == (True, True)
            assert "by rest" in shown["database"]
            answer = await (await http.post(address, json={"on": False}, headers=anna)).json()
            assert answer["confirmed"]
            await broker(http, known, 0).submit(resting())
