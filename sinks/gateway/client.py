"""One client's socket from the sender's side: raw writes, never awaited; what a slow client gets and when it
is given up. Reading and the closing handshake stay aiohttp's.
"""

from __future__ import annotations

import asyncio
import os
import socket as sockets
from functools import cache
from typing import Protocol

from sinks.gateway import frames
from sinks.gateway.sessions import Session
from tidewire import metrics

SEND_BUFFER = 32_768
"""Bytes of SO_SNDBUF: with the kernel's default a stalled client hides 3.9 MB, with this about 70 KB."""

CONFLATE_ABOVE = 64 * 1024
CLOSE_ABOVE = 256 * 1024
FLOWING_BELOW = 16 * 1024
"""With no more than this queued a client counts as reading: uvloop holds each turn's writes until its end."""

STALLED_SECONDS = 10.0
SILENT_SECONDS = 30.0

_CLOSING_SECONDS = 2.0

# Finding a counter by its labels costs as much as a small frame.
_frames, _bytes = cache(metrics.GATEWAY_FRAMES.labels), cache(metrics.GATEWAY_BYTES.labels)

GOING_AWAY, POLICY = 1001, 1008
SIGNED_OUT = 4401
"""Close code for a session that is over: do not come back without signing in."""


class Transport(Protocol):
    """What is used of asyncio's transport."""

    def write(self, data: bytes) -> None:
        """Queue bytes."""

    def get_write_buffer_size(self) -> int:
        """Bytes queued and not yet given to the kernel."""

    def is_closing(self) -> bool:
        """Whether it is closed or about to be."""

    def close(self) -> None:
        """Close once everything queued is written."""

    def abort(self) -> None:
        """Close at once."""


class Client:
    """A connection. `kind` is the socket's name in metrics; times are the loop's, in seconds."""

    # A fan-out looks at a thousand of them one after the other: what lies together is read together.
    __slots__ = (
        "descriptor",
        "ended",
        "flowed",
        "heard",
        "kind",
        "session",
        "told_stale",
        "transport",
        "user",
    )

    def __init__(self, kind: str, session: Session, transport: Transport, now: float) -> None:
        self.kind, self.session, self.user = kind, session, session.user
        self.transport = transport
        self.heard = now
        self.flowed = now
        self.ended: str | None = None
        self.told_stale: tuple[str, ...] = ()
        self.descriptor: int | None = None
        """The plain TCP socket's file descriptor, valid as long as the transport is not closing."""

    @property
    def open(self) -> bool:
        """Whether anything can still be written."""
        return self.ended is None and not self.transport.is_closing()

    def write(self, data: bytes, type: str, count: int = 1) -> bool:
        """Queue `count` frames; False: the client is gone, or was given up for being slow."""
        if not self.open:
            return False
        # Before the write: uvloop queues everything until the loop's turn ends.
        if self.transport.get_write_buffer_size() > CLOSE_ABOVE:
            self.abort("slow")
            return False
        self.transport.write(data)
        metrics.GATEWAY_FRAMES.labels(type).inc(count)
        metrics.GATEWAY_BYTES.labels(self.kind).inc(len(data))
        return True

    def offer(self, data: bytes) -> bool | None:
        """Send a frame of a fan-out: True; False: the client is behind; None: it is gone. See `count`, and
        fan.py for one frame to many.

        While nothing is queued the kernel gets the bytes at once, which costs a third less than the
        transport's own way; what it does not take is queued as usual, so the order stays.
        """
        transport = self.transport
        if self.ended is not None or transport.is_closing():
            return None
        queued = transport.get_write_buffer_size()
        if queued > CONFLATE_ABOVE:
            return False
        if not queued and self.descriptor is not None:
            try:  # noqa: SIM105  (a context manager costs more than the rest of this)
                data = data[os.write(self.descriptor, data) :]
            except OSError:
                pass  # full, or gone: the transport finds out
        if data:
            transport.write(data)
        return True

    def abort(self, reason: str) -> None:
        """Give the client up at once; what is queued for it is thrown away."""
        if self.ended is None:
            self.ended = reason
            self.transport.abort()

    def check(self, now: float) -> None:
        """Give it up when it reads nothing, or has not been heard of."""
        if self.transport.get_write_buffer_size() <= FLOWING_BELOW:
            self.flowed = now
        if now - self.flowed >= STALLED_SECONDS:
            self.abort("stalled")
        elif now - self.heard >= SILENT_SECONDS:
            self.abort("silent")

    def ping(self) -> None:
        """Ask for a sign of life."""
        self.write(frames.PING, "ping")

    def close(self, reason: str, code: int, text: str) -> None:
        """Send a close frame; whoever reads the socket sees the answer. Without one it ends in two seconds.

        Not aiohttp's close(): called beside its receive() it ends the connection under the client's answer,
        and some clients then report a broken connection instead of the code.
        """
        if self.ended is not None:
            return
        if self.transport.get_write_buffer_size() > FLOWING_BELOW:
            self.abort(reason)
            return
        self.ended = reason
        self.transport.write(frames.close(code, text))
        asyncio.get_running_loop().call_later(_CLOSING_SECONDS, self._end)

    def _end(self) -> None:
        if self.transport.get_write_buffer_size():
            self.transport.abort()
        else:
            self.transport.close()


def count(kind: str, type: str, frames_: int, bytes_: int) -> None:
    """Count what a fan-out has written: once for all; a counter for each would cost more than its write."""
    _frames(type).inc(frames_)
    _bytes(kind).inc(bytes_)


def narrow(transport: asyncio.BaseTransport) -> int | None:
    """Let the kernel keep little of what a client does not read; returns the plain socket's descriptor."""
    socket = transport.get_extra_info("socket")
    if socket is None:
        return None
    socket.setsockopt(sockets.SOL_SOCKET, sockets.SO_SNDBUF, SEND_BUFFER)
    encrypted = transport.get_extra_info("ssl_object") is not None
    return None if encrypted else int(socket.fileno())
