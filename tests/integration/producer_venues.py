"""Alpaca's data sockets of several feeds in a test: scripted by the test, while they are connected."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import msgpack
from prometheus_client import REGISTRY
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed

STOCKS, CRYPTO, NEWS = "/v2/iex", "/v1beta3/crypto/us", "/v1beta1/news"
OPTIONS = "/v1beta1/indicative"
Message = dict[str, Any]


class Venue:
    """One endpoint: what it refuses, and what its newest connection holds."""

    def __init__(self) -> None:
        self.refusal: Message | None = None
        """The answer to keys."""
        self.unknown: set[str] = set()
        """Symbols that no subscription may name."""
        self.no_star: set[str] = set()
        """Channels that take no star."""
        self.held: dict[str, list[str]] = {}
        self.connections = 0
        self.socket: ServerConnection | None = None

    async def say(self, *messages: Any) -> None:
        """One frame to the newest connection."""
        assert self.socket is not None
        await self.socket.send(msgpack.packb(list(messages)))

    async def talk(self, socket: ServerConnection) -> None:
        """The protocol of one connection."""
        self.socket, self.held = socket, {}
        self.connections += 1
        await self.say({"T": "success", "msg": "connected"})
        await socket.recv()
        if self.refusal is not None:
            await self.say(self.refusal)
            return
        await self.say({"T": "success", "msg": "authenticated"})
        while True:
            wish = msgpack.unpackb(await socket.recv())
            action = wish.pop("action")
            if action == "subscribe" and any(self.unknown & set(symbols) for symbols in wish.values()):
                await self.say({"T": "error", "code": 400, "msg": "invalid syntax"})
                continue
            if any("*" in symbols for channel, symbols in wish.items() if channel in self.no_star):
                await self.say({"T": "error", "code": 413, "msg": "star subscription is not allowed"})
                continue
            for channel, symbols in wish.items():
                rest = [s for s in self.held.get(channel, []) if s not in symbols]
                self.held[channel] = [*rest, *symbols] if action == "subscribe" else rest
            await self.say({"T": "subscription", **self.held})


class Alpaca:
    """Serves the venues; `async with` gives the base URL."""

    def __init__(self) -> None:
        self.venues = {path: Venue() for path in (STOCKS, CRYPTO, NEWS, OPTIONS)}
        self._server: Server | None = None

    async def __aenter__(self) -> str:
        self._server = await serve(self._connection, "127.0.0.1", 0, compression=None, max_size=None)
        return f"ws://127.0.0.1:{next(iter(self._server.sockets)).getsockname()[1]}"

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        await self._server.wait_closed()

    async def _connection(self, socket: ServerConnection) -> None:
        assert socket.request is not None
        try:
            await self.venues[socket.request.path].talk(socket)
        except ConnectionClosed:
            return


async def until(condition: Callable[[], object], seconds: float = 60) -> None:
    """Wait for something that happens elsewhere, a process that starts on a busy machine among it."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        await asyncio.sleep(0.02)


def metric(name: str, **labels: str) -> float:
    """The sum of a metric of this process over the labels that are not named."""
    return sum(
        sample.value
        for family in REGISTRY.collect()
        for sample in family.samples
        if sample.name == name and all(sample.labels.get(k) == v for k, v in labels.items())
    )
