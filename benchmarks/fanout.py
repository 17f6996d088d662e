"""One trade to a thousand watchers: the gateway's sockets and tape, against a server that only sends.

Both sides send the same bytes at the same pace to the same reader, a process of its own that counts what
arrives; a run counts only if every byte did. What is compared is deliveries per CPU-second of the server.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import select
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any, cast

from benchmarks.process import ROOT, sample
from benchmarks.results import compared

CLIENTS = 1_000
EVENTS = 400
EVENTS_PER_SECOND = 40
_READ_SECONDS = 60.0
_PATIENCE_SECONDS = 30.0
_SYMBOL = "AAPL"


def measure(repetitions: int, say: Callable[[str], None]) -> tuple[float, dict[str, float]]:
    """Deliveries per CPU-second: the gateway over the server that only sends."""
    ours, floor = [], []
    for n in range(repetitions):
        say(f"pair {n + 1} of {repetitions}: {EVENTS} trades to {CLIENTS:,} clients")
        floor.append(sample("benchmarks.fanout:only_send", {}, {}))
        ours.append(sample("benchmarks.fanout:gateway", {}, {}))
    value, details = compared(ours, floor)
    return value, details | {"clients": float(CLIENTS)}


def _frames() -> list[bytes]:
    from sinks.gateway import tape_messages

    first = 1_700_000_000_000_000_000
    return [
        tape_messages.trade(_SYMBOL, first + n * 1_000_000, 190 + n / 100, 100 + n, "Q", ["@", "I"])
        for n in range(EVENTS)
    ]


class _Meter:
    """CPU (user and system) and wall time of this process since it was made."""

    def __init__(self) -> None:
        self._cpu, self._wall = _cpu(), time.monotonic()

    def answer(self) -> dict[str, float]:
        return {
            "records": CLIENTS * EVENTS,
            "wall": time.monotonic() - self._wall,
            "cpu": _cpu() - self._cpu,
        }


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


# -- the reader


def _reader(port: int, upgrade: bool, expected: int) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.process", "benchmarks.fanout:read"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=ROOT,
        text=True,
        env=os.environ,
    )
    assert process.stdin is not None
    process.stdin.write(json.dumps({"port": port, "upgrade": upgrade, "expected": expected}))
    process.stdin.close()
    return process


def _check(reader: subprocess.Popen[str]) -> None:
    assert reader.stdout is not None
    answer = json.loads(reader.stdout.read().strip().splitlines()[-1])
    reader.wait()
    if answer["missing"]:
        raise RuntimeError(f"{answer['missing']} bytes never arrived")


def read(port: int, upgrade: bool, expected: int) -> dict[str, int]:
    """Connect `CLIENTS` sockets, then count bytes until each has got `expected` of them."""
    poll = select.epoll()
    sockets = {}
    left = {}
    for n in range(CLIENTS):
        connection = socket.create_connection(("127.0.0.1", port))
        if upgrade:
            _upgrade(connection, n)
        connection.setblocking(False)
        sockets[connection.fileno()] = connection
        left[connection.fileno()] = expected
        poll.register(connection, select.EPOLLIN)
    deadline = time.monotonic() + _READ_SECONDS
    buffer = bytearray(1 << 16)
    while left and time.monotonic() < deadline:
        for number, _ in poll.poll(1.0):
            size = sockets[number].recv_into(buffer)
            if not size:
                poll.unregister(number)
                continue
            rest = left.get(number, 0) - size
            if rest > 0:
                left[number] = rest
            else:
                left.pop(number, None)
    return {"missing": sum(left.values())}


def _upgrade(connection: socket.socket, number: int) -> None:
    """The handshake, and the subscription with its answer."""
    head = (
        "GET /ws/tape HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        f"X-User: {number}\r\n\r\n"
    )
    connection.sendall(head.encode())
    _until(connection, b"\r\n\r\n")
    text = json.dumps({"action": "subscribe", "symbol": _SYMBOL}).encode()
    mask = b"\0\0\0\0"
    connection.sendall(bytes((0x81, 0x80 | len(text))) + mask + text)
    _until(connection, b"}")


def _until(connection: socket.socket, end: bytes) -> None:
    got = b""
    while not got.endswith(end):
        got += connection.recv(4096)


# -- the server that only sends


def only_send() -> dict[str, float]:
    """One send() a client and trade, in a loop in C, and nothing else: no protocol, no accounting."""
    from sinks.gateway.native.library import one_by_one, push

    send = push()
    if send is one_by_one:
        raise RuntimeError("the native library of the gateway is not built: make setup")
    frames = _frames()
    server = socket.create_server(("127.0.0.1", 0), backlog=CLIENTS)
    reader = _reader(server.getsockname()[1], False, sum(map(len, frames)))
    clients = [server.accept()[0] for _ in range(CLIENTS)]
    for client in clients:  # as the gateway's: else the kernel holds small frames back, and has less to do
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client.setblocking(False)
    descriptors = [client.fileno() for client in clients]
    time.sleep(1.0)  # the reader registers its last sockets
    meter = _Meter()
    began = time.monotonic()
    for n, frame in enumerate(frames):
        time.sleep(max(0.0, began + n / EVENTS_PER_SECOND - time.monotonic()))
        if min(send(descriptors, frame)) < len(frame):
            raise RuntimeError("the reader does not keep up")
    answer = meter.answer()
    _check(reader)
    return answer


# -- the gateway


def gateway() -> dict[str, float]:
    """The real sockets and tape on uvloop; only the sign-in is a stand-in: every client is somebody else."""
    import uvloop

    return uvloop.run(_gateway())


class _Anybody:
    """Takes each of five clients in a row for one user."""

    async def session(self, request: Any) -> Any:
        from sinks.gateway.sessions import Session

        number = int(request.headers["X-User"]) // 5
        return Session(number.to_bytes(32, "big"), f"user-{number}", 2**62, 0)


async def _gateway() -> dict[str, float]:
    from aiohttp import web

    from sinks.gateway.alpaca_state import Connections
    from sinks.gateway.clients import Clients
    from sinks.gateway.interest import Interest
    from sinks.gateway.portfolio import Portfolios
    from sinks.gateway.sockets import Sockets
    from sinks.gateway.tape import Tape
    from sinks.gateway.visibility import Visibility
    from tidewire import config
    from tidewire.clock import now_ns

    settings = config.load()
    tape = Tape(Interest("benchmark"), Connections(), now_ns, lambda: None)
    sockets = Sockets(
        settings, cast("Any", _Anybody()), Clients(), Portfolios(now_ns), tape, Visibility(settings),
        lambda _: [], lambda: False,
    )  # fmt: skip
    app = web.Application()
    app.add_routes(sockets.routes())
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, backlog=CLIENTS).start()
    frames = _frames()
    reader = _reader(runner.addresses[0][1], True, sum(map(len, frames)))
    await _until_true(lambda: sum(_SYMBOL in client.symbols for client in tape.clients) == CLIENTS)
    await asyncio.sleep(1.0)  # the last answers have gone
    meter = _Meter()
    loop = asyncio.get_running_loop()
    began = loop.time()
    for n, frame in enumerate(frames):
        await asyncio.sleep(max(0.0, began + n / EVENTS_PER_SECOND - loop.time()))
        await tape.deliver({_SYMBOL: [frame]}, now_ns())
    await _until_true(lambda: not any(c.transport.get_write_buffer_size() for c in tape.clients))
    answer = meter.answer()
    await asyncio.to_thread(_check, reader)
    await runner.cleanup()
    return answer


async def _until_true(done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while not done():
        if time.monotonic() > deadline:
            raise RuntimeError("the clients did not all come, or do not read")
        await asyncio.sleep(0.05)
