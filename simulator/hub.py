"""The sockets of all endpoints: who holds which, what each gets, and who is too slow."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import msgpack
import orjson

from simulator import rfc3339
from simulator.faults import Fault, Spoil, spoiler
from simulator.interest import Interest, Subscriptions, covers
from simulator.market import Frame
from simulator.options import SimulatorOptions
from simulator.session import Reply, Session, error
from simulator.wire import Message, Stream, Streams, frame
from tidewire.metrics import SIMULATOR_CLIENTS

ROOM_BYTES = 1 << 21
"""At rate max the tape waits while more than this is on its way to a client."""


class Client:
    """One socket's outgoing side: a bounded queue that a writer task empties."""

    def __init__(self, feed: str, session: Session, limit: int) -> None:
        self.feed = feed
        self.session = session
        self.waiting = 0
        self.muted = False
        self.spoils: deque[Spoil] = deque()
        self.closing: int | None = None
        """A close code, once the queue's end is to be the socket's end."""
        self.abort: Callable[[bool], None] = lambda half_frame: None
        self._limit = limit
        self._queue: deque[bytes] = deque()
        self._stirred = asyncio.Event()
        self._gets: dict[Stream, bool] = {}

    def reply(self, replies: Sequence[Reply]) -> None:
        """Queue control messages, each an array of one."""
        for message in replies:
            data = msgpack.packb([message]) if self.session.msgpack else orjson.dumps([message])
            self._put(data)

    def offer(self, frames: Sequence[Frame], *, whole: bool) -> None:
        """Queue data frames; `whole`: every message in them is for this client."""
        if self.muted or self.closing is not None:
            return
        for published in frames:
            messages = published.messages if whole else [m for m in published.messages if self._wants(m[2])]
            if not messages:
                continue
            if not self.session.msgpack:
                data = json_frame(messages)
            elif whole:
                data = published.data
            else:
                data = frame([message[3] for message in messages])
            for part in self.spoils.popleft()(data, self.session.msgpack) if self.spoils else [data]:
                self._put(part)
        if self.waiting > self._limit:
            self._queue.clear()
            self.waiting = 0
            self.finish(1008, [error(407)])

    def finish(self, code: int, replies: Sequence[Reply] = ()) -> None:
        """Queue last words; the writer closes behind them."""
        self.reply(replies)
        self.closing = code
        self._stirred.set()

    def changed(self) -> None:
        """The subscriptions changed."""
        self._gets.clear()

    async def next(self) -> bytes | None:
        """The next frame to send; None when it is time to close."""
        while not self._queue:
            if self.closing is not None:
                return None
            self._stirred.clear()
            await self._stirred.wait()
        return self._queue.popleft()

    def sent(self, size: int) -> None:
        """A frame has gone to the transport."""
        self.waiting = max(0, self.waiting - size)

    def _put(self, data: bytes) -> None:
        self._queue.append(data)
        self.waiting += len(data)
        self._stirred.set()

    def _wants(self, stream: Stream) -> bool:
        wants = self._gets.get(stream)
        if wants is None:
            wants = covers(self.session.subscriptions, stream.channel, stream.symbol)
            self._gets[stream] = wants
        return wants


class Hub:
    """All clients. `on_interest` is called when what is published may have changed."""

    def __init__(
        self,
        options: SimulatorOptions,
        streams: Streams,
        interest: Interest,
        on_interest: Callable[[Interest], None],
        clock: Callable[[], float],
    ) -> None:
        self._options = options
        self._streams = streams
        self._clock = clock
        self._on_interest = on_interest
        self.interest = interest
        self.greeting: Callable[[Subscriptions], Sequence[Frame]] = lambda added: ()
        """What is published because somebody subscribed to `added`."""
        self.clients: list[Client] = []
        self.refusals: deque[int] = deque()
        self.subscribed = asyncio.Event()
        self._holders: dict[str, Client] = {}
        self._held_until: dict[str, float] = {}
        self._room = asyncio.Event()
        streams.choose(interest.wanted)
        if interest.any:
            self.subscribed.set()

    def admit(self, client: Client, key: str, secret: str) -> int | None:
        """Let a client in, or the code why not."""
        if self.refusals:
            return self.refusals.popleft()
        if (key, secret) not in self._options.keys:
            return 402
        if client.feed in self._holders or self._held_until.get(client.feed, 0.0) > self._clock():
            return 406
        self._holders[client.feed] = client
        SIMULATOR_CLIENTS.inc()
        return None

    def join(self, client: Client) -> None:
        """A socket opened."""
        self.clients.append(client)

    def subscribed_to(self, client: Client, before: Subscriptions) -> None:
        """A client's subscriptions changed."""
        client.changed()
        now = client.session.subscriptions
        self.interest.update(client, now)
        self._choose()
        self.deliver(self.greeting({c: symbols - before.get(c, frozenset()) for c, symbols in now.items()}))

    def leave(self, client: Client, *, clean: bool) -> None:
        """A socket is gone; an unclean end keeps its endpoint for a while, if so configured."""
        self.clients.remove(client)
        if self._holders.get(client.feed) is client:
            del self._holders[client.feed]
            if not clean:
                self._held_until[client.feed] = self._clock() + self._options.hold_seconds
            SIMULATOR_CLIENTS.dec()
        self.interest.leave(client)
        self._choose()
        self._room.set()

    def deliver(self, frames: Sequence[Frame]) -> None:
        """Queue published frames for everybody who subscribed to some of it."""
        receivers = [c for c in self.clients if any(c.session.subscriptions.values())]
        whole = len(receivers) == 1 and not self.interest.retained
        for client in receivers:
            client.offer(frames, whole=whole)

    async def room(self) -> None:
        """Wait until no client has much on its way."""
        while any(c.waiting > ROOM_BYTES for c in self.clients):
            self._room.clear()
            await self._room.wait()

    async def drained(self) -> None:
        """Wait until everything has gone to the clients' transports."""
        while any(c.waiting for c in self.clients):
            self._room.clear()
            await self._room.wait()

    def sent(self, client: Client, size: int) -> None:
        """A writer handed a frame to its transport."""
        client.sent(size)
        if client.waiting <= ROOM_BYTES // 2:
            self._room.set()

    def inflict(self, fault: Fault) -> int:
        """Do a fault to every authenticated client; returns how many it hit."""
        if fault.kind == "refuse_auth":
            self.refusals.extend([fault.code] * fault.count)
            return 0
        victims = [c for c in self.clients if c.session.authenticated]
        for client in victims:
            self._inflict(fault, client)
        return len(victims)

    def _inflict(self, fault: Fault, client: Client) -> None:
        if (spoil := spoiler(fault)) is not None:
            client.spoils.extend([spoil] * fault.count)
        elif fault.kind in ("drop", "half_frame"):
            client.abort(fault.kind == "half_frame")
        elif fault.kind == "close":
            client.finish(fault.code)
        elif fault.kind == "mute":
            client.muted = True
            if fault.seconds is not None:
                asyncio.get_running_loop().call_later(fault.seconds, _unmute, client)
        elif fault.close:
            client.finish(1008, [error(fault.code)])
        else:
            client.reply([error(fault.code)])

    def _choose(self) -> None:
        self._streams.choose(self.interest.wanted)
        if self.interest.any:
            self.subscribed.set()
        self._on_interest(self.interest)


def _unmute(client: Client) -> None:
    client.muted = False


def json_frame(messages: Sequence[Message]) -> bytes:
    """Published messages as a JSON array, times in RFC 3339."""
    return orjson.dumps([msgpack.unpackb(message[3]) for message in messages], default=_json_time)


def _json_time(value: Any) -> str:
    if isinstance(value, msgpack.Timestamp):
        return rfc3339.show(value.to_unix_nano())
    raise TypeError
