"""The simulated broker of the exits benchmark, a process of its own: accounts that each hold some symbols."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from string import ascii_uppercase
from typing import Any

import aiohttp

from simulator.options import SimulatorOptions, key_pair
from tidewire import config

ACCOUNTS = 20
HELD = 10
"""Positions of each account: with more their exits would wait for the broker's 200 requests a minute."""
SYMBOLS = [f"X{a}{b}" for a, b in product(ascii_uppercase, repeat=2)][: ACCOUNTS * HELD]
UNNAMED = "None"
"""What the broker's counts call orders without an id: those that buy the positions."""
_MARKET_RATE = 200.0
_PATIENCE = 60.0
_PAUSE = 0.05
_MOST_LOOKS = 400


@dataclass(frozen=True, slots=True)
class Held:
    """A position: the number of its account at the broker, and its symbol."""

    number: int
    symbol: str

    @property
    def account(self) -> str:
        """The account's name in accounts.toml."""
        return f"bench-{self.number}"


POSITIONS = [Held(1 + n // HELD, symbol) for n, symbol in enumerate(SYMBOLS)]


@contextmanager
def running(home: Path) -> Iterator[str]:
    """The address of a broker of which every account holds its symbols; it ends with this."""
    said = home / "broker.url"
    said.unlink(missing_ok=True)
    command = [sys.executable, "-m", "benchmarks.exits_broker", str(home)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + _PATIENCE
        while not said.exists():
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("the simulated broker did not start")
            time.sleep(_PAUSE)
        yield said.read_text("utf-8")
    finally:
        process.kill()
        process.wait()


def accounts_file(home: Path) -> Path:
    """accounts.toml with the keys of all accounts."""
    tables = []
    for number in range(1, ACCOUNTS + 1):
        keys = home / f"bench-{number}.keys"
        keys.write_text("\n".join(key_pair(number)), "utf-8")
        keys.chmod(0o600)
        tables.append(f'[accounts.bench-{number}]\nkey_file = "{keys.name}"\n')
    path = home / "accounts.toml"
    path.write_text("\n".join(tables), "utf-8")
    return path


async def buy_all(http: aiohttp.ClientSession, url: str) -> None:
    """One share of every symbol in its account."""
    terms = {"qty": "1", "side": "buy", "type": "market", "time_in_force": "day"}
    for each in POSITIONS:
        async with http.post(
            f"{url}/v2/orders", json=terms | {"symbol": each.symbol}, headers=_keys(each.number)
        ) as answer:
            if answer.status != 200:
                raise RuntimeError(f"the broker refuses an order: {await answer.text()}")
    for number in range(1, ACCOUNTS + 1):
        for _ in range(_MOST_LOOKS):
            if len(await _ask(http, f"{url}/v2/positions", number)) == HELD:
                break
            await asyncio.sleep(_PAUSE)
        else:
            raise RuntimeError("the broker does not fill the orders for the positions")


async def arrivals(http: aiohttp.ClientSession, url: str) -> dict[str, int]:
    """When the broker had the first order of each client_order_id, ns.

    Raises:
        RuntimeError: an order came twice.
    """
    found: dict[str, int] = {}
    for number in range(1, ACCOUNTS + 1):
        said = await _ask(http, f"{url}/sim/trading/requests?account={number}", number)
        found |= said["arrived"]
        if twice := [name for name, count in said["orders"].items() if count > 1 and name != UNNAMED]:
            raise RuntimeError(f"orders that came more than once: {twice}")
    return found


async def _ask(http: aiohttp.ClientSession, url: str, number: int) -> Any:
    async with http.get(url, headers=_keys(number)) as answer:
        return await answer.json()


def _keys(number: int) -> dict[str, str]:
    key, secret = key_pair(number)
    return {"APCA-API-KEY-ID": key, "APCA-API-SECRET-KEY": secret}


async def _serve(home: Path) -> None:
    from simulator.app import Simulator

    options = SimulatorOptions(
        symbols=tuple(SYMBOLS), accounts=ACCOUNTS, strategy=False, fresh=True, wait_for_subscriber=False,
        orders_per_minute=None, messages_per_second=_MARKET_RATE, halts_per_hour=0.0,
    )  # fmt: skip
    simulator = Simulator(config.load(_env_file=None, tidewire_home=home / "broker"), options)
    await simulator.start()
    for symbol in SYMBOLS:
        while simulator.prices.quote(symbol) is None:  # noqa: ASYNC110 - another's state
            await asyncio.sleep(_PAUSE)
    part = home / "broker.part"
    part.write_text(simulator.url, "utf-8")
    part.replace(home / "broker.url")
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_serve(Path(sys.argv[1])))
