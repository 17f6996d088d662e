"""One frame to many clients at once: a client that is passed over or gets half a frame shows a wrong tape."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any, cast

import pytest

from sinks.gateway.client import CONFLATE_ABOVE, Client
from sinks.gateway.fan import send_all
from sinks.gateway.native import library
from sinks.gateway.sessions import Session

FRAME = b"\x81\x05trade" * 9
_SESSION = Session(b"", "ann", 0, 0)


@pytest.fixture(params=["native", "one by one"])
def push(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> library.Push:
    """Both ways of sending; `make setup` builds the library."""
    if request.param == "one by one":
        monkeypatch.setattr("sinks.gateway.fan.push", lambda: library.one_by_one)
        return library.one_by_one
    assert library.push() is not library.one_by_one, "make setup builds the library"
    return library.push()


class Wire:
    """A socket pair, and of asyncio's transport what the gateway uses of it."""

    def __init__(self, *, queued: int = 0, closing: bool = False, encrypted: bool = False) -> None:
        self.ours, self.theirs = socket.socketpair()
        self.ours.setblocking(False)
        self.theirs.setblocking(False)
        self.queued, self.closing = queued, closing
        self.given: list[bytes] = []
        self.client = Client("tape", _SESSION, cast("Any", self), 0.0)
        self.client.descriptor = None if encrypted else self.ours.fileno()

    def write(self, data: bytes) -> None:
        self.given.append(data)

    def get_write_buffer_size(self) -> int:
        return self.queued

    def is_closing(self) -> bool:
        return self.closing

    def read(self) -> bytes:
        """All that has come out at the other end."""
        found = b""
        try:
            while part := self.theirs.recv(1 << 16):
                found += part
        except BlockingIOError:
            pass
        return found

    def fill(self) -> int:
        """Send until the kernel takes no more; returns the bytes."""
        sent = 0
        try:
            while True:
                sent += self.ours.send(b"x" * 777)
        except BlockingIOError:
            return sent

    def close(self) -> None:
        self.ours.close()
        self.theirs.close()


@pytest.fixture
def wires() -> Iterator[list[Wire]]:
    """Those of a test; they are closed after it."""
    made: list[Wire] = []
    yield made
    for wire in made:
        wire.close()


def test_each_gets_the_whole_frame_once_or_is_named(push: library.Push, wires: list[Wire]) -> None:
    """Quiet ones by the kernel, those with something queued or encrypted behind that; nobody else."""
    quiet, other, queued, encrypted, slow, closing, ended = wires[:] = [
        Wire(), Wire(), Wire(queued=1), Wire(encrypted=True), Wire(queued=CONFLATE_ABOVE + 1),
        Wire(closing=True), Wire(),
    ]  # fmt: skip
    ended.client.ended = "left"
    sent, behind = send_all([wire.client for wire in wires], FRAME)
    assert (sent, behind) == (4, [slow.client])
    assert [wire.read() for wire in (quiet, other)] == [FRAME, FRAME]
    assert [wire.given for wire in (queued, encrypted)] == [[FRAME], [FRAME]]
    assert not any(wire.read() for wire in (queued, encrypted, slow, closing, ended))
    assert not any(wire.given for wire in (quiet, other, slow, closing, ended))


def test_what_the_kernel_does_not_take_is_queued_from_there(push: library.Push, wires: list[Wire]) -> None:
    """Half a frame lost, or sent twice, would make all that follows unreadable to the client."""
    full, large, quiet = wires[:] = [Wire(), Wire(), Wire()]
    full.fill()
    frame = FRAME + b"y" * 10_000_000  # more than any socket takes at once
    large.ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 32_768)
    assert send_all([full.client, large.client, quiet.client], frame) == (3, [])
    assert full.given == [frame]
    assert large.read() + b"".join(large.given) == frame
    assert quiet.read() + b"".join(quiet.given) == frame


def test_a_socket_that_fails_is_left_to_its_transport(push: library.Push, wires: list[Wire]) -> None:
    """A client that is gone must neither end the gateway nor keep the next from its frame."""
    gone, quiet = wires[:] = [Wire(), Wire()]
    gone.theirs.close()
    assert send_all([gone.client, quiet.client], FRAME) == (2, [])
    assert gone.given == [FRAME]
    assert quiet.read() == FRAME


def test_nobody_is_no_trouble(push: library.Push) -> None:
    """The last watcher may have left since the trade was read."""
    assert send_all([], FRAME) == (0, [])
