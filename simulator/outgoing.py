"""One socket's outgoing side: a bounded queue that a writer task empties, and what faults do to its data."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections import deque

from simulator.faults import Fault
from simulator.spoils import Form, Spoil, spoil_of

_NO_LINGER = struct.pack("ii", 1, 0)
_HALF_FRAME = b"\x82\x7e\x10\x00" + b"\xdc\x00\x40\x89\xa1T\xa1t"  # a binary frame of 4096 bytes, begun
LONGEST_HELD = 0.5
"""Seconds after which a `reorder` lets go what is short of a window."""


class Outgoing:
    """What waits for one client. Control messages are said, data is sent; faults act on data only."""

    def __init__(self, limit: int, form: Form) -> None:
        self.form: Form = form
        self.transport: asyncio.BaseTransport | None = None
        self.waiting = 0
        """Bytes of data and of control messages on their way."""
        self.muted = False
        self.closing: int | None = None
        """A close code, once the queue's end is to be the socket's end."""
        self._limit = limit
        self._queue: deque[bytes] = deque()
        self._stirred = asyncio.Event()
        self._spoils: deque[Spoil] = deque()
        self._delayed: list[bytes] | None = None

    @property
    def deaf(self) -> bool:
        """Data does not reach this client."""
        return self.muted or self.closing is not None

    def say(self, data: bytes) -> None:
        """Queue a control message."""
        self._queue.append(data)
        self.waiting += len(data)
        self._stirred.set()

    def send(self, data: bytes) -> None:
        """Queue a data frame; a client that is `deaf` must not be sent any."""
        if self._spoils:
            self._spoilt(data)
        elif self._delayed is not None:
            self._delayed.append(data)
            self.waiting += len(data)
        else:
            self.say(data)

    def overflows(self) -> bool:
        """Whether too much waits; then all of it is gone, and the client is to be told off."""
        if self.waiting <= self._limit:
            return False
        self._queue.clear()
        self._delayed = None
        self.waiting = 0
        return True

    def finish(self, code: int = 1000) -> None:
        """Close behind what is queued."""
        self.closing = code
        self._stirred.set()

    async def next(self) -> bytes | None:
        """The next frame; None when it is time to close."""
        while not self._queue:
            if self.closing is not None:
                return None
            self._stirred.clear()
            await self._stirred.wait()
        return self._queue.popleft()

    def sent(self, size: int) -> None:
        """A frame has gone to the transport."""
        self.waiting = max(0, self.waiting - size)

    def inflict(self, fault: Fault) -> bool:
        """Do what a fault does to any socket; whether it is such a fault."""
        if (spoil := spoil_of(fault)) is not None:
            self._spoils.extend([spoil] * fault.count)
        elif fault.kind in ("drop", "half_frame"):
            reset(self.transport, half_frame=fault.kind == "half_frame")
        elif fault.kind == "close":
            self.finish(fault.code)
        elif fault.kind in ("mute", "unmute"):
            self.muted = fault.kind == "mute"
            if self.muted and fault.seconds is not None:
                asyncio.get_running_loop().call_later(fault.seconds, self._unmute)
        elif fault.kind == "delay":
            self._delayed = self._delayed or []
            asyncio.get_running_loop().call_later(fault.seconds or 0.0, self._release)
        else:
            return False
        return True

    def _spoilt(self, data: bytes) -> None:
        spoil = self._spoils.popleft()
        self._pass(spoil(data, self.form))
        asyncio.get_running_loop().call_later(LONGEST_HELD, lambda: self._pass(spoil.held()))

    def _pass(self, frames: list[bytes]) -> None:
        """Send frames that are not spoilt once more."""
        if self.deaf:
            return
        spoils, self._spoils = self._spoils, deque()
        for frame in frames:
            self.send(frame)
        self._spoils = spoils

    def _unmute(self) -> None:
        self.muted = False

    def _release(self) -> None:
        delayed, self._delayed = self._delayed or [], None
        self._queue.extend(delayed)
        self._stirred.set()


def reset(transport: asyncio.BaseTransport | None, *, half_frame: bool = False) -> None:
    """End a TCP connection with RST, after half a WebSocket frame if asked."""
    if not isinstance(transport, asyncio.Transport):
        return
    if half_frame:
        transport.write(_HALF_FRAME)
    raw = transport.get_extra_info("socket")
    if raw is not None:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
    transport.abort()
