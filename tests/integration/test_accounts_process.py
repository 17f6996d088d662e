"""The accounts producer as the process that a user runs: what a kill costs, and what it never says."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
import traceback
import urllib.request
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession, web

from producers.accounts import keys
from schemas import cluster
from schemas.catalogue import (
    ACCOUNT_SNAPSHOTS,
    ACTIVITIES,
    AUDITS,
    CONNECTIONS,
    GAPS,
    LEASES,
    REQUESTS,
    TRADE_UPDATE_FRAMES,
    TRADE_UPDATES,
)
from schemas.codec import load_codec
from simulator.app import Simulator, SimulatorOptions
from tests.integration.producer_process import Process
from tests.integration.producer_venues import until
from tests.integration.topic_content import held
from tests.integration.trading_server import Broker
from tidewire.config import Settings
from tidewire.errors import ConfigError

pytestmark = pytest.mark.kafka

WRITTEN = (TRADE_UPDATES, ACCOUNT_SNAPSHOTS, CONNECTIONS, GAPS, AUDITS, LEASES)
TOPICS = (*WRITTEN, ACTIVITIES, REQUESTS, TRADE_UPDATE_FRAMES)
CANARY_ID, CANARY_SECRET = "CANARYKEYID7Q", "CANARY/SECRET+9Z"
PROGRAM = (
    "import sys; from producers.accounts.app import main; from tidewire import config; "
    "sys.exit(main(config.load(_env_file=None)))"
)
CRASHING = (
    "from producers.accounts import memory\n"
    "def broken(self, update): raise RuntimeError('inside')\n"
    "memory.Memory.add = broken\n" + PROGRAM.replace("; ", "\n")
)


@pytest.fixture
async def ready(settings: Settings) -> Settings:
    await cluster.apply(settings, TOPICS)
    return settings


def _keys(folder: Path, **pairs: tuple[str, str]) -> Path:
    lines = []
    for name, pair in pairs.items():
        (folder / name).write_text("\n".join(pair))
        (folder / name).chmod(0o600)
        lines += [f"[accounts.{name}]", f'key_file = "{name}"']
    (folder / "accounts.toml").write_text("\n".join(lines))
    return folder / "accounts.toml"


_STARTED: list[asyncio.subprocess.Process] = []


@pytest.fixture(autouse=True)
async def none_left() -> AsyncIterator[None]:
    """What a failed test leaves running would use a core of every test after it."""
    yield
    while _STARTED:
        if (process := _STARTED.pop()).returncode is None:
            process.kill()
            await process.wait()


async def _start(
    settings: Settings, url: str, accounts: Path, program: str = PROGRAM, **more: str
) -> Process:
    environment = {
        **os.environ,
        "KAFKA_BOOTSTRAP_SERVERS": settings.kafka_bootstrap_servers or "",
        "TIDEWIRE_TOPIC_PREFIX": settings.tidewire_topic_prefix,
        "TIDEWIRE_ACCOUNTS_FILE": str(accounts),
        "TIDEWIRE_TRADING_URL": url,
        "TIDEWIRE_LOG": "json",
        "TIDEWIRE_LOG_LEVEL": "debug",
        **more,
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, env=environment, stderr=asyncio.subprocess.PIPE
    )
    _STARTED.append(process)
    return Process(process)


async def _get(port: int, path: str) -> str:
    def fetch() -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as response:
            return str(response.read().decode())

    return await asyncio.to_thread(fetch)


async def test_what_fills_while_the_producer_is_dead_is_in_the_log_once(
    ready: Settings, tmp_path: Path
) -> None:
    """After a kill -9 a user's fills would be missing from positions, or counted twice."""
    options = SimulatorOptions(
        limit=None, wait_for_subscriber=False, orders_per_minute=None, accounts=1, strategy=False,
        crypto_symbols=("BTC/USD",), crypto_messages_per_second=200, news_limit=1,
    )  # fmt: skip
    simulator = Simulator(ready.model_copy(update={"tidewire_crypto_symbols": ("*",)}), options)
    await simulator.start()
    url = f"http://127.0.0.1:{simulator.port}"
    accounts = _keys(tmp_path, one=("demo-key", "demo-secret"))
    ledger = ready.tidewire_home / "simulator" / "trading" / "updates.jsonl"
    try:
        process = await _start(ready, url, accounts)
        await process.said("listening to trade updates")
        await _opened(ready)  # what filled before it is in the opening balance, and in no event
        for _ in range(2):
            await _trade(url, 6)
            trading = asyncio.create_task(_trade(url, 24))
            process.process.kill()
            await process.end(20)
            process = await _start(ready, url, accounts)
            await trading
            await process.said("listening to trade updates")
        await _trade(url, 6)
        wanted = _facts([json.loads(line)["message"]["data"] for line in ledger.read_text().splitlines()])
        assert len(wanted) >= 66
        await _all_held(ready, wanted)
        process.process.terminate()
        code, _ = await process.end(20)
        assert code == 0
    finally:
        await simulator.stop()
    ids = [record["event_id"] for record in await _updates(ready)]
    assert len(set(ids)) == len(ids)


async def _opened(settings: Settings) -> None:
    for _ in range(600):
        if await held(settings, ACCOUNT_SNAPSHOTS):
            return
        await asyncio.sleep(0.1)
    raise AssertionError("there is no opening balance after a minute")


async def _all_held(settings: Settings, wanted: set[tuple[str, str, str]]) -> None:
    for _ in range(300):
        held = {
            (u["order_id"], u["event"], f"{u['cumulative_quantity'].normalize():f}")
            for u in await _updates(settings)
        }
        if wanted <= held:
            return
        await asyncio.sleep(0.1)
    raise AssertionError(f"missing: {wanted - held}")


async def _updates(settings: Settings) -> list[dict[str, Any]]:
    codec = load_codec(settings)
    return [codec.decode(record.value)[1] for record in await held(settings, TRADE_UPDATES)]


def _facts(sent: list[dict[str, Any]]) -> set[tuple[str, str, str]]:
    """What must never be lost: fills by order and cumulative quantity, and how orders ended."""
    return {
        (s["order"]["id"], s["event"], f"{Decimal(s['order']['filled_qty']).normalize():f}")
        for s in sent
        if s["event"] in ("fill", "partial_fill", "canceled", "expired", "rejected")
    }


async def _trade(url: str, count: int) -> None:
    """Orders that fill at once, and some that are canceled."""
    headers = {"APCA-API-KEY-ID": "demo-key", "APCA-API-SECRET-KEY": "demo-secret"}
    async with ClientSession(headers=headers) as session:
        for number in range(count):
            order = {
                "symbol": "BTC/USD",
                "qty": "0.01",
                "side": "buy",
                "type": "market",
                "time_in_force": "gtc",
            }
            if number % 3 == 0:
                order |= {"type": "limit", "limit_price": "1000"}
            async with session.post(f"{url}/v2/orders", json=order) as response:
                answer = await response.json()
                assert response.status == 200, answer
            if number % 3 == 0:
                async with session.delete(f"{url}/v2/orders/{answer['id']}") as response:
                    assert response.status == 204


@pytest.mark.parametrize("style", ["console", "json"])
async def test_the_keys_appear_nowhere_however_it_fails(ready: Settings, tmp_path: Path, style: str) -> None:
    """Whoever reads a log, a topic or a metric could trade with the user's money."""
    broker = Broker(CANARY_ID, CANARY_SECRET)
    echo = f"{CANARY_ID} {CANARY_SECRET}"
    broker.faults["account"] = [
        web.Response(status=500, body=json.dumps({"message": f"bad key {echo}"}).encode())
    ]
    broker.faults["positions"] = [web.Response(status=500, body=echo.encode())]
    environment = {"APCA_API_KEY_ID": CANARY_ID, "APCA_API_SECRET_KEY": CANARY_SECRET, "TIDEWIRE_LOG": style}
    accounts = _keys(tmp_path, one=(CANARY_ID, CANARY_SECRET))
    accounts.write_text(accounts.read_text() + "\n[accounts.two]\n")
    port = _free_port()
    async with broker as url:
        process = await _start(ready, url, accounts, TIDEWIRE_HTTP_PORT=str(port), **environment)
        await until(lambda: "snapshot" in "".join(process.lines) and len(broker.sockets) == 2, 60)
        await broker.say(f'{{"stream":"trade_updates","data":{{"event":"{echo}"}}}}'.encode())
        await broker.say(f"{{broken {echo}".encode())
        order = await broker.submit()
        update = await broker.fill(order, "1", told=False)
        await broker.say(json.dumps({**update, "data": {**update["data"], "reason": echo, "unknown": echo}}))
        await _all_held(ready, {(order, "new", "0"), (order, "partial_fill", "1")})
        public = await _get(port, "/metrics") + await _get(port, "/health")
        broker.refuse_streams = True
        broker.refusal = echo
        await broker.drop()
        await until(lambda: "".join(process.lines).count("account refused") == 2, 60)
        public += await _get(port, "/metrics") + await _get(port, "/health")
        process.process.terminate()
        code, log = await process.end(20)
        assert code == 0
        assert "[redacted]" in log
        broker.refuse_streams = False
        crashing = await _start(ready, url, accounts, CRASHING, **environment)
        code, crash = await crashing.end(60)
        assert (code, "RuntimeError: inside" in crash) == (1, True)
    away = await _start(ready, "http://127.0.0.1:9", accounts, **environment)
    await until(lambda: "brokerage account not known" in "".join(away.lines), 60)
    away.process.terminate()
    log += crash + public + (await away.end(20))[1]
    log += _refused_files(ready, tmp_path)
    for topic in (*WRITTEN, TRADE_UPDATE_FRAMES + ".dlq"):
        records = await held(ready, topic)
        assert records
        log += repr([(r.key, r.value, r.headers) for r in records])
    for part in (CANARY_ID, CANARY_SECRET):
        assert part not in log


def _refused_files(settings: Settings, folder: Path) -> str:
    """What is said about accounts.toml and key files when keys stand where they must not."""
    said = ""
    texts = (
        f'[accounts.one]\nkey_file = "{CANARY_ID}{CANARY_ID}"\n',
        f'[accounts.one]\nmode = "{CANARY_SECRET}"\n',
        f'[accounts.one]\nsecret = "{CANARY_SECRET}"\nusers = ["{CANARY_SECRET}"]\n',
        f"[accounts.one\n{CANARY_SECRET}",
        '[accounts.one]\nkey_file = "three-lines"\n',
    )
    (folder / "three-lines").write_text(f"{CANARY_ID}\n{CANARY_SECRET}\n{CANARY_SECRET}\n")
    (folder / "three-lines").chmod(0o600)
    for text in texts:
        (folder / "bad.toml").write_text(text)
        with pytest.raises(ConfigError) as refused:
            keys.load(settings.model_copy(update={"tidewire_accounts_file": folder / "bad.toml"}))
        said += "".join(traceback.format_exception(refused.value))
    return said


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
