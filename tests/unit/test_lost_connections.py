"""Writes to a broker's connection in the moment in which it is reset, on both loops, over real sockets."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable
from typing import Any

import pytest
import uvloop
from aiokafka.client import AIOKafkaClient
from aiokafka.conn import AIOKafkaConnection
from aiokafka.errors import KafkaConnectionError
from aiokafka.protocol.metadata import MetadataRequest

from tidewire import lost_connections

LOOPS = pytest.mark.parametrize("loop", [uvloop.new_event_loop, asyncio.new_event_loop])
_RESET = struct.pack("ii", 1, 0)
"""SO_LINGER that makes close() a reset, as of a process that is killed with unread data."""
_TURNS = 100
_VERSIONS = {3: (0, 8)}  # of the metadata request, which a client asks for when it connects


class Broker:
    """Takes connections, answers nothing, and resets them."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._socket.setblocking(False)
        self.port: int = self._socket.getsockname()[1]
        self._peers: list[socket.socket] = []

    async def connection(self) -> AIOKafkaConnection:
        """A connection that is ready for requests."""
        found = AIOKafkaConnection("127.0.0.1", self.port)
        found._do_version_lookup = lambda: self._known(found)
        connecting = asyncio.create_task(found.connect())
        peer, _ = await asyncio.get_running_loop().sock_accept(self._socket)
        self._peers.append(peer)
        await connecting
        return found

    async def _known(self, connection: AIOKafkaConnection) -> None:
        connection._versions = _VERSIONS

    def reset(self) -> None:
        """Every connection, and take none any more."""
        self._socket.close()
        for peer in self._peers:
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            peer.close()


def run(loop: Callable[[], Any], body: Callable[[], Any]) -> Any:
    """`body` on such a loop, with aiokafka told."""
    lost_connections.tell_aiokafka()
    with asyncio.Runner(loop_factory=loop) as runner:
        return runner.run(body())


@LOOPS
def test_a_request_to_a_connection_that_was_just_reset_ends_as_any_lost_one(loop: Callable[[], Any]) -> None:
    """If this failed, a task of aiokafka that nobody starts again would end of it: a processor whose broker
    was restarted would stand still until its watchdog ends it, minutes later.
    """

    async def body() -> list[BaseException]:
        broker = Broker()
        connection = await broker.connection()
        sent = [asyncio.ensure_future(connection.send(MetadataRequest([])))]
        broker.reset()
        refused: list[BaseException] = []
        for _ in range(_TURNS):
            if not connection.connected():
                break
            try:
                sent.append(asyncio.ensure_future(connection.send(MetadataRequest([]))))
            except Exception as error:
                refused.append(error)
            await asyncio.sleep(0)
        assert not connection.connected(), "a reset that nobody notices"
        return refused + [e for e in await asyncio.gather(*sent, return_exceptions=True) if e is not None]

    ends = run(loop, body)
    assert ends
    assert {type(error) for error in ends} == {KafkaConnectionError}


@LOOPS
def test_a_clients_metadata_outlives_a_reset_at_any_turn(loop: Callable[[], Any]) -> None:
    """If this failed, whoever needs metadata after a broker's restart would wait for ever."""

    async def body() -> None:
        for turn in range(12):
            broker = Broker()
            client = AIOKafkaClient(bootstrap_servers=f"127.0.0.1:{broker.port}")
            client._conns["bootstrap", 0] = await broker.connection()
            client._sync_task = asyncio.create_task(client._md_synchronizer())
            broker.reset()
            for _ in range(turn):
                await asyncio.sleep(0)
            assert await asyncio.wait_for(client.force_metadata_update(), 10) is False
            assert not client._sync_task.done(), f"ended by a reset {turn} turns before it wrote"
            await client.close()

    run(loop, body)
