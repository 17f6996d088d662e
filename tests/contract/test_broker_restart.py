"""A simulator killed with -9 while it trades: else a chaos run blamed the line for the broker's losses."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from simulator.app import Simulator, SimulatorOptions
from simulator.options import key_pair
from tidewire.config import load

ROOT = Path(__file__).parents[2]
PROGRAM = """
import asyncio, sys
from pathlib import Path
from simulator.app import Simulator, SimulatorOptions
from tidewire.config import load

async def main():
    options = SimulatorOptions(symbols=("AAPL", "MSFT"), wait_for_subscriber=False, orders_per_minute=None)
    simulator = Simulator(load(tidewire_home=Path(sys.argv[1])), options)
    await simulator.start()
    print(simulator.url, flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""
ORDER = {"symbol": "AAPL", "side": "buy", "type": "market", "qty": "2", "time_in_force": "day"}


def ask(url: str, body: Any = None, account: int = 2) -> Any:
    key, secret = key_pair(account)
    headers = {"APCA-API-KEY-ID": key, "APCA-API-SECRET-KEY": secret}
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(urllib.request.Request(url, data, headers), timeout=20) as answer:
        return json.load(answer)


@pytest.fixture
def killed(tmp_path: Path) -> dict[str, Any]:
    """What the broker said last before it was killed while taking orders."""
    program = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    try:
        assert program.stdout is not None
        url = next(line.strip() for line in program.stdout if line.startswith("http"))
        deadline = time.monotonic() + 30
        while not ask(f"{url}/v2/positions"):
            assert time.monotonic() < deadline, "no order was filled"
            for _ in range(20):
                ask(f"{url}/v2/orders", ORDER)
        limit = ORDER | {"type": "limit", "limit_price": "1"}
        open_ids = {ask(f"{url}/v2/orders", limit)["id"] for _ in range(3)}
        deadline = time.monotonic() + 30
        while len(ask(f"{url}/v2/orders")) > len(open_ids):
            assert time.monotonic() < deadline, "a market order stayed open"
        return {
            "open": open_ids,
            "cash": ask(f"{url}/v2/account")["cash"],
            "fills": ask(f"{url}/v2/account/activities/FILL"),
            "qty": ask(f"{url}/v2/positions")[0]["qty"],
        }
    finally:
        os.kill(program.pid, signal.SIGKILL)
        program.wait()
        if program.stdout is not None:
            program.stdout.close()


async def test_a_killed_broker_goes_on_where_it_was_unless_fresh(
    killed: dict[str, Any], tmp_path: Path
) -> None:
    options = SimulatorOptions(symbols=("AAPL", "MSFT"), wait_for_subscriber=False, strategy=False)
    simulator = Simulator(load(tidewire_home=tmp_path), options)
    await simulator.start()
    try:
        account = simulator.broker.broker.accounts[2]
        assert account.book.cash == Decimal(killed["cash"])
        assert account.book.quantity("AAPL") == Decimal(killed["qty"])
        assert {o.id for o in account.orders.values() if o.open} == killed["open"]
        fills = [activity for activity, _ in account.activities]
        assert fills[::-1] == [fill["id"] for fill in killed["fills"]]
        lines = (tmp_path / "simulator/trading/updates.jsonl").read_bytes().splitlines()
        told = [u["message"]["data"] for u in map(json.loads, lines) if u["account"] == 2]
        assert sum(u["event"] == "fill" for u in told) == len(fills)
        assert len({u["event_id"] for u in told}) == len(told)
    finally:
        await simulator.stop()
    await starts_with_nothing(tmp_path)


async def starts_with_nothing(home: Path) -> None:
    options = SimulatorOptions(symbols=("AAPL", "MSFT"), fresh=True, strategy=False)
    simulator = Simulator(load(tidewire_home=home), options)
    await simulator.start()
    try:
        assert simulator.broker.status() == {"updates": 0, "open_orders": 0}
        assert simulator.broker.broker.accounts[2].book.cash == 1_000_000
    finally:
        await simulator.stop()


async def test_the_house_does_not_trade_before_somebody_follows_it(tmp_path: Path) -> None:
    """Nobody can say afterwards in which passing states an earlier order was: a run would count as lossy."""
    options = SimulatorOptions(symbols=("AAPL", "MSFT"), fresh=True, strategy=True, wait_for_subscriber=False)
    simulator = Simulator(load(tidewire_home=tmp_path), options)
    await simulator.start()
    try:
        service = simulator.broker
        assert service._strategy is not None
        service.pass_time()
        assert service._strategy._next == 0
        await asyncio.to_thread(ask, f"{simulator.url}/v2/account", account=1)
        service.pass_time()
        assert service._strategy._next > 0
    finally:
        await simulator.stop()
