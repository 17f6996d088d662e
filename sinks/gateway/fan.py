"""One frame to many clients at once: who is behind is told apart, the others get it from the kernel."""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from typing import TypeVar

from sinks.gateway.client import CONFLATE_ABOVE, Client
from sinks.gateway.native.library import push

C = TypeVar("C", bound=Client)


def send_all(clients: Iterable[C], data: bytes, owed: Container[C] = ()) -> tuple[int, list[C]]:
    """Send a frame to all; returns how many were sent it, and those that are behind, as `owed` are already.
    The others are gone.

    As `Client.offer`, but the descriptors are written by one call. It must not be interrupted by an await: a
    descriptor belongs to its client only as long as the transport is not closing.
    """
    ready: list[C] = []
    descriptors: list[int] = []
    behind: list[C] = []
    queue: list[C] = []
    for client in clients:
        transport = client.transport
        if client.ended is not None or transport.is_closing():
            continue
        queued = transport.get_write_buffer_size()
        if queued > CONFLATE_ABOVE or (owed and client in owed):
            behind.append(client)
        elif not queued and client.descriptor is not None:
            ready.append(client)
            descriptors.append(client.descriptor)
        else:
            queue.append(client)
    _push(ready, descriptors, data)
    for client in queue:
        client.transport.write(data)
    return len(ready) + len(queue), behind


def _push(clients: Sequence[Client], descriptors: Sequence[int], data: bytes) -> None:
    if not descriptors:
        return
    taken = push()(descriptors, data)
    if min(taken) < len(data):  # some are full, or gone: their transports find out
        for client, count in zip(clients, taken, strict=True):
            if count < len(data):
                client.transport.write(data[max(0, count) :])
