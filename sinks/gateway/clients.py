"""Every open socket: found by its session, pinged and checked by one sweeper, closed together at the end."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import suppress

from sinks.gateway.client import GOING_AWAY, SIGNED_OUT, Client
from tidewire import metrics

PING_SECONDS = 15.0
_LOOK_SECONDS = 1.0
_YIELD_AFTER = 300
_SHUTDOWN_SECONDS = 3.0


class Clients:
    """The sockets of this process."""

    def __init__(self) -> None:
        self._pinged: dict[Client, float] = {}
        self._by_session: dict[bytes, dict[Client, None]] = {}
        self._empty = asyncio.Event()
        self._empty.set()

    def __len__(self) -> int:
        return len(self._pinged)

    def of_kind(self, kind: str) -> int:
        """How many sockets of a kind are open."""
        return sum(client.kind == kind for client in self._pinged)

    def sessions(self) -> tuple[bytes, ...]:
        """The ids of the sessions that have sockets."""
        return tuple(self._by_session)

    def add(self, client: Client, now: float) -> None:
        """A socket was opened."""
        self._pinged[client] = now
        self._empty.clear()
        self._by_session.setdefault(client.session.id, {})[client] = None
        metrics.GATEWAY_CONNECTIONS.labels(client.kind).inc()

    def remove(self, client: Client) -> None:
        """A socket is gone."""
        del self._pinged[client]
        if not self._pinged:
            self._empty.set()
        of_session = self._by_session[client.session.id]
        del of_session[client]
        if not of_session:
            del self._by_session[client.session.id]
        metrics.GATEWAY_CONNECTIONS.labels(client.kind).dec()
        metrics.GATEWAY_CLOSED.labels(client.kind, client.ended or "left").inc()

    def end_session(self, id: bytes) -> None:
        """Close the sockets of a session that is over."""
        self.close(tuple(self._by_session.get(id, ())), "signed_out", SIGNED_OUT, "signed out")

    def close(self, clients: Iterable[Client], reason: str, code: int, text: str) -> None:
        """Close sockets in order."""
        for client in clients:
            client.close(reason, code, text)

    def of_users(self, users: Iterable[str]) -> list[Client]:
        """The sockets of these users."""
        wanted = set(users)
        return [client for client in self._pinged if client.user in wanted]

    async def sweep(self) -> None:
        """Ping every 15 s, give up who reads nothing for 10 s or is silent for 30 s; for ever."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            for count, client in enumerate(tuple(self._pinged)):
                now = loop.time()
                client.check(now)
                if client in self._pinged and now - self._pinged[client] >= PING_SECONDS:
                    self._pinged[client] = now
                    client.ping()
                if count % _YIELD_AFTER == _YIELD_AFTER - 1:
                    await asyncio.sleep(0)

    async def close_all(self) -> None:
        """The gateway stops."""
        self.close(tuple(self._pinged), "shutdown", GOING_AWAY, "the gateway stops")
        with suppress(TimeoutError):
            async with asyncio.timeout(_SHUTDOWN_SECONDS):
                await self._empty.wait()
