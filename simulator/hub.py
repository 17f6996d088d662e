"""The sockets of all endpoints: who holds which, what each gets, and who is too slow."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from simulator.client import Client, shown
from simulator.door import HELD, Door
from simulator.faults import Fault
from simulator.interest import Interest, Subscriptions
from simulator.market import Frame
from simulator.options import SimulatorOptions
from simulator.skips import Skips
from simulator.wire import Message, Streams, frame
from tidewire.metrics import SIMULATOR_CLIENTS

ROOM_BYTES = 1 << 21
"""At rate max the tape waits while more than this is on its way to a client."""


class Hub:
    """All clients. `on_interest` is called when what is published may have changed."""

    def __init__(
        self,
        options: SimulatorOptions,
        streams: Streams,
        interest: Interest,
        on_interest: Callable[[Interest], None],
        clock: Callable[[], float],
        skips: Skips,
    ) -> None:
        self._options = options
        self._streams = streams
        self._clock = clock
        self._on_interest = on_interest
        self.interest = interest
        self.greeting: Callable[[Subscriptions], Sequence[Frame]] = lambda added: ()
        """What is published because somebody subscribed to `added`."""
        self.clients: list[Client] = []
        self.door = Door(clock)
        self.skips = skips
        self.subscribed = asyncio.Event()
        self._holders: dict[str, Client] = {}
        self._held_until: dict[str, float] = {}
        self._room = asyncio.Event()
        streams.choose(interest.wanted)
        if interest.any:
            self.subscribed.set()

    def admit(self, client: Client, key: str, secret: str) -> int | None:
        """Let a client in, or the code why not."""
        if (refused := self.door.sign_in()) is not None:
            return refused
        if (key, secret) not in self._options.keys:
            return 402
        if client.feed in self._holders or self._held_until.get(client.feed, 0.0) > self._clock():
            return HELD
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
        if self.skips.pending and not all(client.deaf for client in receivers):
            frames = self._without_skipped(frames)
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
        """Do a fault to the venue or to its signed-in clients; returns how many clients it hit.

        Raises:
            ValueError: it cannot be done here.
        """
        if fault.kind == "skip":
            self.skips.add(fault)
            return 0
        if fault.kind == "outage":
            for client in self.clients:
                client.inflict(Fault("drop"))
        if self.door.inflict(fault):
            return len(self.clients) if fault.kind == "outage" else 0
        return sum(client.inflict(fault) for client in self.clients if client.session.authenticated)

    def _without_skipped(self, frames: Sequence[Frame]) -> list[Frame]:
        kept = [[m for m in published.messages if not self._skip(m)] for published in frames]
        return [Frame(messages, frame([m[3] for m in messages])) for messages in kept if messages]

    def _skip(self, message: Message) -> bool:
        stream = message[2]
        symbols = stream.symbol.split(",")
        return self.skips.take((stream.channel,), symbols, message[1], lambda: shown(message))

    def _choose(self) -> None:
        self._streams.choose(self.interest.wanted)
        if self.interest.any:
            self.subscribed.set()
        self._on_interest(self.interest)
