"""One feed of this process: running while it is ours, standing by while it is another's."""

from __future__ import annotations

import asyncio
import random
from typing import Any

from aiokafka.errors import KafkaError

from producers import companions, contact, warm_start
from producers.alpaca_stream import AlpacaStream
from producers.announce import Announcer
from producers.channel import Encoder
from producers.companions import Ground, Ownership
from producers.connection import Connection
from producers.feed import Feed
from producers.intake import Intake
from producers.plans import Plan
from producers.subscriptions import Urgent, Wanted
from producers.warm_start import Recalled
from schemas.catalogue import Catalogue
from tidewire import kafka, log
from tidewire.endings import end
from tidewire.errors import RefusedError

STANDBY = "STANDBY"
"""The state, in /health, of a feed that another process owns."""
_PAUSE_SECONDS = 1.0

_log = log.get("owned-feed")


class OwnedFeed:
    """`run` once for each epoch under which the feed is ours, one at a time."""

    def __init__(self, plan: Plan, ground: Ground) -> None:
        self.plan, self._ground = plan, ground
        self._name = Catalogue(ground.settings.tidewire_topic_prefix, 1).name
        self._wanted: Wanted = {}
        self._urgent: Urgent = {}
        self._epoch: int | None = None
        self._feed: Feed | None = None
        self.refusal: RefusedError | None = None
        """Why Alpaca refuses the feed for good, if it does."""

    @property
    def lost(self) -> str | None:
        """Why our feed has no connection; None: it has one, or is not ours."""
        if self._epoch is None:
            return None
        return "reading what the log holds" if self._feed is None else self._feed.lost

    async def want(self, wanted: Wanted, urgent: Urgent) -> None:
        """Hold these symbols besides the configured ones, whenever the feed is ours."""
        self._wanted, self._urgent = wanted, urgent
        if self._feed is not None:
            await self._feed.want(wanted, urgent)

    def tell(self) -> None:
        """Announce where the connection stands, if it is ours."""
        if self._feed is not None:
            self._feed.tell()

    def details(self, owner: str | None) -> dict[str, object]:
        """For /health; `owner` is who has claimed the feed last."""
        if self._feed is not None:
            return {**self._feed.details(), "owner": True, "epoch": self._epoch}
        return {
            "feed": self.plan.label,
            "name": self.plan.name,
            "websocket_connected": False,
            "connection_state": STANDBY if self._epoch is None else "DISCONNECTED",
            "subscribed_symbols": [],
            "refused_symbols": {},
            "reconnect_attempts": 0,
            "last_message_time": None,
            "owner": self._epoch is not None,
            "owned_by": owner,
        }

    async def run(self, epoch: int) -> None:
        """Run the feed under this epoch until cancelled; what was received is then in Kafka, or said lost.

        Raises:
            RefusedError: Alpaca refuses us for good.
        """
        self._epoch, self.refusal = epoch, None
        try:
            encoder = self.plan.encoder(self._ground.codec, epoch)
            await self._connected(encoder, Ownership(self.plan, epoch, await self._recall(encoder), encoder))
        finally:
            self._epoch = self._feed = None

    async def _recall(self, encoder: Encoder) -> Recalled:
        """Tell the encoder what the log holds; a Kafka that is away is waited for."""
        publisher = self._ground.publisher
        while True:
            try:
                await publisher.settle()  # of an earlier ownership something may still be on its way
                recalled = await warm_start.recall(
                    kafka.client_arguments(self._ground.settings),
                    self._ground.codec,
                    encoder.tails(),
                    lambda topic: publisher.partitions(self._name(topic)),
                )
            except (KafkaError, OSError) as error:
                _log.warning("the log cannot be read", feed=self.plan.name, error=repr(error))
                await asyncio.sleep(_PAUSE_SECONDS)
            else:
                publisher.expect(recalled.ends)
                return recalled

    async def _connected(self, encoder: Encoder, owned: Ownership) -> None:
        ground, plan = self._ground, self.plan
        observers = companions.observers_of(ground, owned)
        await companions.begin(ground, owned, observers)
        announcer = Announcer(
            ground.settings,
            ground.codec,
            ground.teller,
            plan.name,
            owner_epoch=owned.epoch,
            clock=ground.clock,
        )
        feed = Feed(
            plan,
            AlpacaStream(plan.url, *ground.keys),
            Intake(plan.label, encoder, ground.publisher, self._name),
            ground.publisher,
            Connection(random.random),
            announcer.state,
            ground.clock,
            observers,
        )
        await feed.want(self._wanted, self._urgent)
        stop = asyncio.Event()
        beside = [asyncio.create_task(c) for c in companions.companions(ground, owned, feed, observers)]
        announcer.start()
        self._feed = feed
        session = asyncio.create_task(feed.run(stop))
        try:
            await _first_end(session, beside)
        finally:
            stop.set()
            await asyncio.wait([session])
            await end(*beside)
            await asyncio.gather(contact.flush(ground.publisher, "producer"), announcer.stop())
        session.result()


async def _first_end(session: asyncio.Task[None], beside: list[asyncio.Task[None]]) -> None:
    """Wait for the end of the session; what runs beside it may end before, but not with an error."""
    running: set[asyncio.Task[Any]] = {session, *beside}
    while not session.done():
        done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
        for task in done - {session}:
            task.result()
