"""What an account's stream does not tell is found, repaired and named, whether it is lost, dead or silent."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession

from schemas import cluster
from schemas.catalogue import AUDITS, CONNECTIONS, GAPS, LEASES, PORTFOLIO_POSITIONS
from schemas.event_id import plain_quantity
from simulator.app import Simulator, SimulatorOptions
from tests.integration.accounts_world import (
    TOPICS,
    Record,
    accounts,
    has,
    opened,
    running,
    until,
    until_held,
    updates,
)
from tests.integration.producer_process import Process
from tests.integration.topic_content import decoded
from tests.integration.trading_server import Broker
from tidewire.config import Settings

pytestmark = pytest.mark.kafka

PROGRAM = (
    "import sys; from producers.accounts.app import main; from tidewire import config; "
    "sys.exit(main(config.load(_env_file=None)))"
)


@pytest.fixture
async def ready(settings: Settings, tmp_path: Path) -> Settings:
    await cluster.apply(settings, (*TOPICS, PORTFOLIO_POSITIONS))
    ready = settings.model_copy(update={"tidewire_accounts_file": tmp_path / "accounts.toml"})
    accounts(ready, one="test-key-1 test-secret-1")
    return ready


async def _gaps(settings: Settings) -> list[list[Record]]:
    """The records of each gap, the oldest gap first."""
    by_id: dict[str, list[Record]] = {}
    for record in await decoded(settings, GAPS):
        by_id.setdefault(record["id"], []).append(record)
    return sorted(by_id.values(), key=lambda records: records[0]["opened_ts"])


async def _closed(settings: Settings, count: int) -> bool:
    states: list[str] = [records[-1]["state"] for records in await _gaps(settings)]
    return states.count("closed") >= count


async def test_every_interruption_is_a_gap_until_a_round_has_closed_it(ready: Settings) -> None:
    """A user would not know that something was missing, nor that it has been found again."""
    broker = Broker()
    async with broker as url:
        async with running(ready, url) as (_, health):
            await until(lambda: opened(health))
            order = await broker.submit()
            await until_held(lambda: has(ready, 1))
            before = broker.connections
            await broker.drop()
            await broker.fill(order, "3", told=False)
            await broker.fill(order, "7", told=False)
            await until(lambda: broker.connections > before)
            await until_held(lambda: _closed(ready, 1))
        quiet = broker.connections
        async with running(ready, url) as (_, health):
            await until(lambda: broker.connections > quiet)
            await until_held(lambda: _closed(ready, 2))
    lost, restarted = await _gaps(ready)
    assert [(r["state"], r["until_ts"] is None) for r in lost] == [
        ("opened", True), ("opened", False), ("closed", False),
    ]  # fmt: skip
    assert (lost[0]["feed"], lost[0]["channels"], lost[0]["symbols"]) == ("trading:one", ["orders"], ["*"])
    assert (lost[0]["reason"], lost[-1]["found"], lost[-1]["published"]) == ("disconnect", 2, 2)
    assert lost[-1]["unrecoverable"] == ["orders"]
    assert "1 order cannot be had over REST" in lost[-1]["detail"]
    first, *fills = await updates(ready)
    assert lost[0]["from_ts"] <= first["ts"]
    assert all(lost[-1]["from_ts"] < fill["ts"] <= lost[-1]["until_ts"] for fill in fills)
    assert (restarted[0]["reason"], restarted[-1]["published"]) == ("restart", 0)
    assert restarted[-1]["unrecoverable"] == []  # no order was open, and none came
    assert restarted[0]["owner_epoch"] > lost[0]["owner_epoch"]


async def test_a_fill_that_a_healthy_connection_swallowed_is_found_and_named(ready: Settings) -> None:
    """A position would be wrong for ever, and nobody would know: Alpaca numbers nothing."""
    broker = Broker()
    async with broker as url, running(ready, url, 600) as (_, health):
        await until(lambda: opened(health))
        order, other = await broker.submit(), await broker.submit("IBM")
        await broker.fill(order, "2", told=False)
        await broker.fill(order, "3")  # says more than it filled
        await until_held(lambda: _closed(ready, 1))
        await until_held(lambda: _audited(ready, 3))
        await broker.fill(other, "1")
        unbegun = await broker.submit("IBM", told=False)
        await broker.fill(unbegun, "4", told=False)
        await broker.fill(other, "1")  # its own fills are whole, the position is not
        await until_held(lambda: _closed(ready, 2))
        assert broker.connections == 1  # no reason to doubt the connection itself
    one, two = await _gaps(ready)
    assert [r["reason"] for r in (one[0], two[0])] == ["audit", "audit"]
    assert [(r["found"], r["published"], r["unrecoverable"]) for r in (one[-1], two[-1])] == [
        (1, 1, []), (2, 2, ["orders"]),  # how the second order began cannot be had in full
    ]  # fmt: skip
    assert [u["source"] for u in await updates(ready) if u["order_id"] == order] == ["ws", "ws", "rest"]
    audits = [a for a in await decoded(ready, AUDITS) if a["expected"]]
    assert [(a["differing"], a["expected"] - a["held"]) for a in audits[:2]] == [(["AAPL"], 1), ([], 0)]
    assert {(a["feed"], a["channel"]) for a in audits} == {("trading:one", "orders")}
    assert "compared with the log" in audits[1]["detail"]


async def _audited(settings: Settings, count: int) -> bool:
    return len(await decoded(settings, AUDITS)) >= count


async def test_a_mute_stream_is_connected_again_and_a_quiet_one_is_not(ready: Settings) -> None:
    """Without a word the stream could be dead for days; and each quiet night would cost reconnects."""
    broker = Broker()
    async with broker as url, running(ready, url, 1) as (_, health):
        await until(lambda: opened(health))
        order = await broker.submit()
        await until_held(lambda: _audited(ready, 4))
        assert broker.connections == 1  # quiet, and REST has nothing newer
        await broker.fill(order, "10", told=False)
        await until(lambda: broker.connections == 2)
        await until_held(lambda: _closed(ready, 1))
        await until_held(lambda: _audited(ready, 8))
        assert broker.connections == 2
    (stalled,) = await _gaps(ready)
    assert (stalled[0]["reason"], stalled[-1]["published"]) == ("stall", 1)
    assert len(await updates(ready)) == 2


async def test_polling_brings_everything_without_a_stream_and_says_so(ready: Settings) -> None:
    """When the stream is out of order at the broker, an installation would stand still."""
    broker = Broker()
    poll: Any = {"tidewire_account_mode": "poll"}
    async with broker as url, running(ready, url, 1, **poll) as (service, health):
        await until(lambda: opened(health))
        order = await broker.submit(told=False)
        await broker.fill(order, "4", told=False)
        await broker.end(order, told=False)
        await until_held(lambda: has(ready, 2))
        details: Any = service.details()
        assert details["accounts"]["one"]["connection_state"] == "POLLING"
    assert broker.connections == 0
    assert [(u["event"], u["source"]) for u in await updates(ready)] == [
        ("partial_fill", "rest"), ("canceled", "rest"),
    ]  # fmt: skip
    states = [r["state"] for r in await decoded(ready, CONNECTIONS)]
    assert "POLLING" in states
    (gap,) = await _gaps(ready)
    assert [(r["state"], r["until_ts"], r["unrecoverable"]) for r in gap] == [("opened", None, ["orders"])]


async def test_rounds_of_mode_stream_come_with_doubts_only(ready: Settings) -> None:
    """The mode that saves the most requests would not, or would lose what a doubt has shown."""
    broker = Broker()
    mode: Any = {"tidewire_account_mode": "stream"}
    async with broker as url, running(ready, url, 1, **mode) as (_, health):
        await until(lambda: opened(health))
        order = await broker.submit()
        await broker.fill(order, "2")
        await until_held(lambda: has(ready, 2))
        asked = sum(broker.requests.values())
        await asyncio.sleep(2.5)  # longer than a fill or the clock would take to cause a round
        assert sum(broker.requests.values()) == asked
        await broker.fill(order, "2", told=False)
        await broker.fill(order, "2")
        await until_held(lambda: has(ready, 4))


async def test_reconcile_asks_waits_and_says_what_was_found(ready: Settings) -> None:
    """A user who doubts a position could only wait, and would not see what was found."""
    broker = Broker()
    async with broker as url:
        silent = await _reconcile(ready, "--timeout", "1")
        assert silent[0] == 1
        assert "no accounts service answered for one within 1 s" in silent[2]
        async with running(ready, url, 600) as (_, health):
            await until(lambda: opened(health))
            order = await broker.submit()
            await until_held(lambda: has(ready, 1))
            await broker.fill(order, "2", told=False)
            code, out, err = await _reconcile(ready, "one", "--json")
            assert code == 0, err
            (found,) = json.loads(out)
            assert (found["account"], found["published"], found["differing"]) == ("one", 1, ["AAPL"])
            assert "REST requests; polling each second would have made" in found["detail"]
    unknown = await _reconcile(ready, "nobody")
    assert "no such account: nobody (there are one)" in unknown[2]


async def _reconcile(settings: Settings, *arguments: str) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "console.cli", "reconcile", *arguments,
        env=_environment(settings), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )  # fmt: skip
    out, err = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


def _environment(settings: Settings, **more: str) -> dict[str, str]:
    return {
        **os.environ,
        "KAFKA_BOOTSTRAP_SERVERS": settings.kafka_bootstrap_servers or "",
        "TIDEWIRE_TOPIC_PREFIX": settings.tidewire_topic_prefix,
        "TIDEWIRE_HOME": str(settings.tidewire_home),
        "TIDEWIRE_ACCOUNTS_FILE": str(settings.tidewire_accounts_file),
        "TIDEWIRE_LOG": "json",
        **more,
    }


async def test_every_fill_that_the_simulated_broker_swallows_is_found(ready: Settings) -> None:
    """What the issue asks of silent losses would hold for a small broker of the tests only."""
    options = SimulatorOptions(
        limit=None, wait_for_subscriber=False, orders_per_minute=None, accounts=1, strategy=False,
        crypto_symbols=("BTC/USD",), crypto_messages_per_second=50, news_limit=1,
    )  # fmt: skip
    simulator = Simulator(ready.model_copy(update={"tidewire_crypto_symbols": ("*",)}), options)
    await simulator.start()
    url = f"http://127.0.0.1:{simulator.port}"
    accounts(ready, one="demo-key demo-secret")
    try:
        async with running(ready, url, 5) as (_, health):
            await until(lambda: opened(health), 40)
            fault = {"venue": "trading", "kind": "skip", "count": 5}
            async with ClientSession(headers=_DEMO_KEYS) as session:
                async with session.post(f"{url}/sim/faults", json=fault) as response:
                    assert response.status == 200, await response.text()
                for _ in range(4):
                    async with session.post(f"{url}/v2/orders", json=_ORDER) as response:
                        assert response.status == 200, await response.text()
            journal = ready.tidewire_home / "simulator" / "trading" / "updates.jsonl"
            await until_held(lambda: _has_fills(ready, journal), 40)
            await until_held(lambda: _closed(ready, 1))
    finally:
        await simulator.stop()


_DEMO_KEYS = {"APCA-API-KEY-ID": "demo-key", "APCA-API-SECRET-KEY": "demo-secret"}
_ORDER = {"symbol": "BTC/USD", "qty": "0.01", "side": "buy", "type": "market", "time_in_force": "gtc"}


async def _has_fills(settings: Settings, journal: Path) -> bool:
    sent = [json.loads(line)["message"]["data"] for line in journal.read_text().splitlines()]
    filled = {(s["order"]["id"], s["order"]["filled_qty"]) for s in sent if "fill" in s["event"]}
    told = [u for u in await updates(settings) if "fill" in u["event"]]
    there = {(u["order_id"], plain_quantity(u["cumulative_quantity"])) for u in told}
    return len({order for order, _ in filled}) == 4 and filled == there


async def test_a_killed_process_leaves_its_accounts_to_the_other_within_15_seconds(ready: Settings) -> None:
    """Fills would be missing until somebody looks at the dead process; or be followed twice."""
    accounts(
        ready,
        one="test-key-1 test-secret-1",
        two="test-key-1 test-secret-1",
        three="test-key-1 test-secret-1",
    )
    broker = Broker()
    async with broker as url:
        processes = [await _start(ready, url) for _ in range(2)]
        await until(lambda: len(broker.sockets) == 3, 60)
        for process in processes:
            await process.said("sharing the accounts")
        order = await broker.submit()
        await until_held(lambda: has(ready, 1))
        victim = max(processes, key=_owned)
        loop = asyncio.get_running_loop()
        victim.process.kill()
        killed = loop.time()
        await broker.fill(order, "3", told=False)
        await until(lambda: len(broker.sockets) == 3, 15)
        await until_held(lambda: _everywhere(ready), 15 - (loop.time() - killed))
        await victim.end(10)
        other = next(p for p in processes if p is not victim)
        other.process.terminate()
        assert (await other.end(20))[0] == 0
    epochs: dict[str, list[int]] = {}
    for lease in await decoded(ready, LEASES):
        epochs.setdefault(lease["feed"], []).append(lease["epoch"])
    assert all(sorted(set(found)) == found for found in epochs.values())
    ids = [u["event_id"] for u in await updates(ready)]
    assert len(ids) == len(set(ids)) == 2


def _owned(process: Process) -> int:
    said: list[str] = [json.loads(line)["event"] for line in process.lines if line.startswith("{")]
    return said.count("the feed is ours") - said.count("the feed is given up")


async def _everywhere(settings: Settings) -> bool:
    return all([len(await updates(settings, name)) == 2 for name in ("one", "two", "three")])


async def _start(settings: Settings, url: str) -> Process:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PROGRAM, stderr=asyncio.subprocess.PIPE,
        env=_environment(settings, TIDEWIRE_TRADING_URL=url),
    )  # fmt: skip
    return Process(process)
