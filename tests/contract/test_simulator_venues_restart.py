"""Each venue of a killed simulator goes on where its own ledger ends.

Without this a restart would publish crypto or news twice or never, and blame the pipeline for it.
"""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from simulator.app import Simulator, SimulatorOptions
from tests.ledger_files import messages
from tidewire.config import load

TRADES = 6_000
FIRST = 1_723_161_254_000_000_000
AUTH = {"action": "auth", "key": "demo-key", "secret": "demo-secret"}
ROOT = Path(__file__).parents[2]
STARTER = """
import sys
from pathlib import Path
from simulator.app import SimulatorOptions, main
from tidewire.config import load
options = SimulatorOptions(ticks=(Path(sys.argv[2]),), rate=6_000, port=int(sys.argv[3]))
sys.exit(main(load(tidewire_home=Path(sys.argv[1])), options))
"""


def write_recording(path: Path) -> None:
    rows = (
        b'%d {"stream":"x","data":{"s":"BTCUSDT","e":"trade","t":%d,"p":"60000.5","q":"0.5","T":%d,'
        b'"m":true}}\n' % (FIRST + i * 50_000_000, i + 1, (FIRST + i * 50_000_000) // 1_000_000)
        for i in range(TRADES)
    )
    path.write_bytes(b"".join(rows))


def ledger(folder: Path) -> list[dict[str, Any]]:
    return list(messages(folder / "ledger"))


async def venue_of(http: aiohttp.ClientSession, url: str, name: str) -> dict[str, Any]:
    for _ in range(1_500):
        try:
            async with http.get(f"{url}/sim/status") as answer:
                venue: dict[str, Any] = (await answer.json())["venues"][name]
                return venue
        except aiohttp.ClientError:
            await asyncio.sleep(0.02)
    raise AssertionError("the simulator does not answer")


async def subscribe_and_leave(http: aiohttp.ClientSession, url: str, **channels: list[str]) -> None:
    async with http.ws_connect(url) as ws:
        await ws.send_json(AUTH)
        await ws.send_json({"action": "subscribe", **channels})
        for _ in range(3):
            await ws.receive()


async def test_a_kill_leaves_no_trace_in_the_crypto_ledger(tmp_path: Path) -> None:
    """Crypto records that nobody sent, or sent twice, would be reported as the pipeline's losses."""
    recording = tmp_path / "btcusdt"
    write_recording(recording)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    command = (sys.executable, "-c", STARTER, str(tmp_path / "home"), str(recording), str(port))
    environment = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}
    async with aiohttp.ClientSession() as http:
        for kill in (2_500, None):
            process = await asyncio.create_subprocess_exec(*command, cwd=tmp_path, env=environment)
            try:
                venue = await venue_of(http, url, "crypto")
                if venue["state"] == "waiting":
                    crypto = f"{url}/v1beta3/crypto/us"
                    await subscribe_and_leave(http, crypto, trades=["*"], bars=["*"])
                while venue["state"] != "finished" and (kill is None or venue["published"]["trades"] < kill):
                    await asyncio.sleep(0.01)
                    venue = await venue_of(http, url, "crypto")
            finally:
                process.send_signal(signal.SIGTERM if kill is None else signal.SIGKILL)
                await process.wait()
        assert process.returncode == 0
    messages = ledger(tmp_path / "home" / "simulator" / "crypto")
    assert [m["i"] for m in messages if m["T"] == "t"] == list(range(1, TRADES + 1))
    bars = [m for m in messages if m["T"] == "b"]
    assert sum(m["n"] for m in bars) == TRADES  # also of the minutes in which a kill fell
    assert len({m["t"].to_unix_nano() for m in bars}) == len(bars)
    assert ledger(tmp_path / "home" / "simulator") == []


async def test_made_up_news_go_on_with_new_ids(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Articles of the second run would pass as revisions of the first one's, and REST forget the first."""
    monkeypatch.chdir(tmp_path)  # no .env of the developer
    options = SimulatorOptions(news_limit=30, news_seconds=0.05, symbols=("AAPL",))
    async with aiohttp.ClientSession() as http:
        for half in (10, 30):
            simulator = Simulator(load(tidewire_home=tmp_path), options)
            await simulator.start()
            venue = await venue_of(http, simulator.url, "news")
            if venue["state"] == "waiting":
                url = f"{simulator.url}/v1beta1/news"
                await subscribe_and_leave(http, url, news=["*"])
            while venue["published"]["news"] < half:
                await asyncio.sleep(0.01)
                venue = await venue_of(http, simulator.url, "news")
            await simulator.stop()
    messages = ledger(tmp_path / "simulator" / "news")
    assert len(messages) == 30
    revisions = {(m["id"], m["updated_at"].to_unix_nano()) for m in messages}
    assert len(revisions) == 30
