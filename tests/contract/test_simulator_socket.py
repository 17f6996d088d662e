"""The simulator's socket from a plain client's side: codes, faults, missed messages, endings.

Without these the tests of the producer's misfortunes would test a server that misbehaves in another way.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import msgpack
import pytest

from simulator.app import Simulator, SimulatorOptions
from tidewire.config import load

AUTH = {"action": "auth", "key": "demo-key", "secret": "demo-secret"}
ALL = {"action": "subscribe", "trades": ["*"], "quotes": ["*"]}
PACKED = {"Content-Type": "application/msgpack"}
ROWS = 30_000


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)  # no .env of the developer


def write_ticks(folder: Path, rows: int = ROWS) -> Path:
    path = folder / "ibm_20131007_trade_tick.csv"
    lines = (f"{36_000_000 + i},{1_800_000 + i % 500},100,N,1,0\n" for i in range(rows))
    path.write_text("ms,price,size,exchange,condition,suspicious\n" + "".join(lines))
    return path


class Socket:
    """A client that packs and unpacks, and knows nothing else."""

    def __init__(self, ws: aiohttp.ClientWebSocketResponse) -> None:
        self.ws = ws

    async def send(self, command: dict[str, Any]) -> None:
        await self.ws.send_bytes(msgpack.packb(command))

    async def next(self) -> Any:
        message = await self.ws.receive(30)
        if message.type == aiohttp.WSMsgType.BINARY:
            return msgpack.unpackb(message.data)
        return json.loads(message.data) if message.type == aiohttp.WSMsgType.TEXT else message.type.name

    async def sign_in(self, command: dict[str, Any] | None = None) -> None:
        assert await self.next() == [{"T": "success", "msg": "connected"}]
        await self.send(AUTH)
        assert await self.next() == [{"T": "success", "msg": "authenticated"}]
        if command is not None:
            await self.send(command)
            assert (await self.next())[0]["T"] == "subscription"

    async def trades(self, count: int) -> list[int]:
        """Ids of the next trades, at least so many."""
        ids: list[int] = []
        while len(ids) < count:
            ids += [m["i"] for m in await self.next() if m["T"] == "t"]
        return ids


class Server:
    """A running simulator and ways to reach it."""

    def __init__(self, simulator: Simulator, http: aiohttp.ClientSession) -> None:
        self.simulator = simulator
        self.http = http

    @asynccontextmanager
    async def socket(self, feed: str = "sip", headers: dict[str, str] = PACKED) -> AsyncIterator[Socket]:
        async with self.http.ws_connect(
            f"{self.simulator.url}/v2/{feed}", headers=headers, max_msg_size=0
        ) as ws:
            yield Socket(ws)

    async def status(self) -> dict[str, Any]:
        async with self.http.get(f"{self.simulator.url}/sim/status") as answer:
            status: dict[str, Any] = await answer.json()
            return status

    async def fault(self, **body: object) -> int:
        async with self.http.post(f"{self.simulator.url}/sim/faults", json=body) as answer:
            return answer.status

    async def status_until(self, name: str, value: object) -> dict[str, Any]:
        for _ in range(3000):
            if (status := await self.status())[name] == value:
                return status
            await asyncio.sleep(0.02)
        raise AssertionError(f"{name} never became {value}: {status}")


@asynccontextmanager
async def serving(home: Path, **options: Any) -> AsyncIterator[Server]:
    options = {"rate": "max", "fresh": True, **options}
    if "ticks" not in options:
        options["ticks"] = (write_ticks(home),)
    simulator = Simulator(load(tidewire_home=home / "home"), SimulatorOptions(**options))
    await simulator.start()
    try:
        async with aiohttp.ClientSession() as http:
            yield Server(simulator, http)
    finally:
        await simulator.stop()


def ledger_ids(home: Path) -> list[int]:
    ids: list[int] = []
    for path in sorted((home / "home" / "simulator" / "ledger").glob("*.frames")):
        data = path.read_bytes()
        while data:
            size = int.from_bytes(data[:4], "big")
            ids += [m["i"] for m in msgpack.unpackb(data[4 : 4 + size]) if m["T"] == "t"]
            data = data[4 + size :]
    return ids


async def test_the_tape_waits_for_the_first_subscription_and_ends_flushed(tmp_path: Path) -> None:
    async with serving(tmp_path) as server, server.socket() as client:
        await client.sign_in()
        assert (await server.status())["state"] == "waiting"
        await client.send(ALL)
        await client.next()
        assert await client.trades(ROWS) == list(range(1, ROWS + 1))
        status = await server.status_until("state", "finished")
    assert status["published"] == {"trades": ROWS, "quotes": 0, "bars": 0}
    assert (status["rejected"], status["clients"]) == (0, 1)
    assert ledger_ids(tmp_path) == list(range(1, ROWS + 1))


async def test_json_is_spoken_to_clients_that_do_not_ask_for_msgpack(tmp_path: Path) -> None:
    async with serving(tmp_path) as server, server.socket(headers={}) as client:
        await client.ws.send_str(json.dumps(AUTH))
        await client.ws.send_str(json.dumps({"action": "subscribe", "trades": ["IBM"]}))
        for _ in range(3):
            await client.next()
        frame = await client.next()
        assert frame[0] == {
            "T": "t", "S": "IBM", "i": 1, "x": "N", "p": 180.0, "s": 100, "c": [" "],
            "t": "2013-10-07T14:00:00Z", "z": "A",
        }  # fmt: skip
        assert frame[1]["t"] == "2013-10-07T14:00:00.001Z"


async def test_a_second_connection_is_one_too_many_until_the_first_is_gone(tmp_path: Path) -> None:
    async with serving(tmp_path) as server, server.socket() as second, server.socket("iex") as elsewhere:
        async with server.socket() as first:
            await first.sign_in()
            await elsewhere.sign_in()
            await second.next()
            await second.send(AUTH)
            assert (await second.next())[0]["code"] == 406
        await server.status_until("clients", 1)
        await second.send(AUTH)  # on the same socket, as the Go client does
        assert (await second.next())[0]["msg"] == "authenticated"


async def test_a_dead_connection_can_be_held_for_a_while(tmp_path: Path) -> None:
    async with serving(tmp_path, hold_seconds=3600.0) as server:
        async with server.socket() as first:
            await first.sign_in()
            await server.fault(kind="drop")
            await server.status_until("clients", 0)
        async with server.socket() as second:
            await second.next()
            await second.send(AUTH)
            assert (await second.next())[0]["code"] == 406


async def test_who_does_not_sign_in_is_sent_away(tmp_path: Path) -> None:
    async with serving(tmp_path, auth_seconds=0.2) as server, server.socket() as client:
        await client.next()
        assert await client.next() == [{"T": "error", "code": 404, "msg": "auth timeout"}]
        assert await client.next() == "CLOSE"


async def test_a_wrong_path_is_not_found(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        for path in ("/v1/sip", "/v2/nofeed", "/v2"):
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await server.http.ws_connect(server.simulator.url + path)
            assert refused.value.status == 404


async def test_the_tape_goes_on_while_nobody_is_connected(tmp_path: Path) -> None:
    async with serving(tmp_path, rate=6_000) as server:
        async with server.socket() as first:
            await first.sign_in(ALL)
            seen = await first.trades(1_000)
            await server.fault(kind="drop")
            await server.status_until("clients", 0)
        gone = (await server.status())["published"]["trades"]
        while (await server.status())["published"]["trades"] < gone + 2_000:
            await asyncio.sleep(0.02)
        async with server.socket() as second:
            await second.sign_in(ALL)
            later = await second.trades(1_000)
        await server.status_until("state", "finished")
    assert later[0] > seen[-1] + 1_000  # what was sent meanwhile is missed, not delayed
    assert ledger_ids(tmp_path) == list(range(1, ROWS + 1))


async def test_at_rate_max_the_tape_waits_for_a_slow_reader(tmp_path: Path) -> None:
    async with serving(tmp_path, outgoing_bytes=4 << 20) as server, server.socket() as client:
        await client.sign_in(ALL)
        await asyncio.sleep(0.5)
        assert await client.trades(ROWS) == list(range(1, ROWS + 1))


async def test_at_a_rate_a_slow_reader_is_cut_off_with_407(tmp_path: Path) -> None:
    async with serving(tmp_path, rate=200_000, outgoing_bytes=20_000, frame_messages=2_000) as server:
        async with server.socket() as client:
            await client.sign_in(ALL)
            while (last := await client.next())[0]["T"] != "error":
                pass
            assert last == [{"T": "error", "code": 407, "msg": "slow client"}]
            assert await client.next() == "CLOSE"
        await server.status_until("state", "finished")


@pytest.mark.parametrize("kind", ["drop", "half_frame"])
async def test_a_dropped_connection_ends_without_a_close_frame(tmp_path: Path, kind: str) -> None:
    async with serving(tmp_path, rate=1_000) as server, server.socket() as client:
        await client.sign_in(ALL)
        await server.fault(kind=kind)
        while not isinstance(await client.next(), str):
            pass
        assert client.ws.close_code != 1000
        assert client.ws.exception() is not None or client.ws.close_code == 1006


async def test_faults_spoil_frames_and_nothing_else(tmp_path: Path) -> None:
    async with serving(tmp_path, rate=2_000) as server, server.socket() as client:
        await client.sign_in(ALL)
        await client.trades(1)
        await server.fault(kind="repeat")
        ids = await client.trades(200)
        repeated = [i for i in ids if ids.count(i) > 1]
        assert repeated == sorted(set(repeated)) * 2
        await server.fault(kind="malformed", message={"T": "t", "S": "BROKEN"})
        frames = [await client.next() for _ in range(40)]
        assert sum(m.get("S") == "BROKEN" for frame in frames for m in frame) == 1
        await server.fault(kind="truncate", extra=True)
        broken = 0
        for _ in range(40):
            try:
                await client.next()
            except ValueError:
                broken += 1
        assert broken == 1
        await server.fault(kind="error", code=500)
        codes = [m.get("code") for _ in range(40) for m in await client.next()]
        assert codes.count(500) == 1
        await server.fault(kind="mute", seconds=0.3)
        before = (await server.status())["published"]["trades"]
        ids = await client.trades(1)
        while ids[-1] < before:
            ids = await client.trades(1)
        assert await server.fault(kind="nonsense") == 400
        await server.fault(kind="close", code=1012)
        while not isinstance(await client.next(), str):
            pass
        assert client.ws.close_code == 1012


async def test_sign_ins_can_be_refused_on_demand(tmp_path: Path) -> None:
    async with serving(tmp_path) as server, server.socket() as client:
        await server.fault(kind="refuse_auth", code=409)
        await client.next()
        await client.send(AUTH)
        assert (await client.next())[0] == {"T": "error", "code": 409, "msg": "insufficient subscription"}
        await client.send(AUTH)
        assert (await client.next())[0]["msg"] == "authenticated"


async def test_broken_lines_are_shown(tmp_path: Path) -> None:
    path = write_ticks(tmp_path, 3)
    path.write_text(path.read_text() + "5,6\n")
    async with serving(tmp_path, ticks=(path,)) as server, server.socket() as client:
        await client.sign_in(ALL)
        await server.status_until("state", "finished")
        async with server.http.get(f"{server.simulator.url}/sim/rejected") as answer:
            rejected = await answer.json()
    assert rejected == [
        {"file": str(path), "line": 5, "raw": "5,6", "reason": "2 columns instead of 6", "channel": "trades"}
    ]
