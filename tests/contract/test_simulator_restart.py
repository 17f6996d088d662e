"""A simulator that is killed goes on where its ledger ends; one that cannot start says why.

Without this a restarted simulator would publish messages twice or never, and blame the pipeline for it.
"""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
from pathlib import Path
from typing import Any

import aiohttp
import msgpack
import pytest

from simulator.app import Simulator, SimulatorOptions
from tidewire.config import load
from tidewire.errors import TidewireError

ROWS = 30_000
ROOT = Path(__file__).parents[2]
STARTER = """
import sys
from pathlib import Path
from simulator.app import SimulatorOptions, main
from tidewire.config import load
options = SimulatorOptions(ticks=(Path(sys.argv[2]),), rate=20_000, port=int(sys.argv[3]))
sys.exit(main(load(tidewire_home=Path(sys.argv[1])), options))
"""


async def status_of(http: aiohttp.ClientSession, url: str) -> dict[str, Any]:
    for _ in range(3000):
        try:
            async with http.get(f"{url}/sim/status") as answer:
                status: dict[str, Any] = await answer.json()
                return status
        except aiohttp.ClientError:
            await asyncio.sleep(0.02)
    raise AssertionError("the simulator does not answer")


async def subscribe_and_leave(http: aiohttp.ClientSession, url: str) -> None:
    async with http.ws_connect(f"{url}/v2/sip") as ws:
        await ws.send_json({"action": "auth", "key": "demo-key", "secret": "demo-secret"})
        await ws.send_json({"action": "subscribe", "trades": ["*"]})
        for _ in range(3):
            await ws.receive()


def ledger_ids(folder: Path) -> list[int]:
    ids: list[int] = []
    for path in sorted(folder.glob("*.frames")):
        data = path.read_bytes()
        while data:
            size = int.from_bytes(data[:4], "big")
            ids += [m["i"] for m in msgpack.unpackb(data[4 : 4 + size])]
            data = data[4 + size :]
    return ids


async def test_two_kills_in_mid_tape_leave_no_trace_in_the_ledger(tmp_path: Path) -> None:
    ticks = tmp_path / "ibm_20131007_trade_tick.csv"
    lines = (f"{36_000_000 + i},{1_800_000 + i % 500},100,N,1,0\n" for i in range(ROWS))
    ticks.write_text("ms,price,size,exchange,condition,suspicious\n" + "".join(lines))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    command = (sys.executable, "-c", STARTER, str(tmp_path / "home"), str(ticks), str(port))
    environment = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}
    async with aiohttp.ClientSession() as http:
        for kill in (5_000, 15_000, None):
            process = await asyncio.create_subprocess_exec(*command, cwd=tmp_path, env=environment)
            try:
                status = await status_of(http, url)
                if status["state"] == "waiting":
                    await subscribe_and_leave(http, url)
                while status["state"] != "finished" and (
                    kill is None or status["published"]["trades"] < kill
                ):
                    await asyncio.sleep(0.01)
                    status = await status_of(http, url)
            finally:
                process.send_signal(signal.SIGTERM if kill is None else signal.SIGKILL)
                await process.wait()
        assert process.returncode == 0
    assert status["published"]["trades"] == ROWS
    assert ledger_ids(tmp_path / "home" / "simulator" / "ledger") == list(range(1, ROWS + 1))


async def test_a_taken_port_is_one_readable_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # no .env of the developer
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        simulator = Simulator(load(tidewire_home=tmp_path), SimulatorOptions(port=taken.getsockname()[1]))
        with pytest.raises(TidewireError, match="cannot listen on"):
            await simulator.start()
        await simulator.stop()
