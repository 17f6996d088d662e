"""The loop of one feed: connect, subscribe, take frames, and again after every loss, until told to stop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Protocol

from producers.alpaca_stream import AlpacaStream, LostError, error_of
from producers.channel import Message
from producers.connection import AlpacaError, Connection, Meaning, State
from producers.intake import Intake
from producers.plans import Plan
from producers.publisher import Publisher
from producers.subscriptions import Subscriptions, Urgent, Wanted
from tidewire import log
from tidewire.clock import NS_PER_SECOND, Clock
from tidewire.errors import RefusedError
from tidewire.metrics import (
    CONNECTION_ATTEMPTS,
    CONNECTION_ERRORS,
    CONNECTION_STATE,
    FRAMES_RECEIVED,
    LAST_MESSAGE_TIME,
    SYMBOLS_REFUSED,
    SYMBOLS_SUBSCRIBED,
)

DRAIN_SECONDS = 1.5
"""How long a stop waits for the closing handshake and for the frames read before it."""

_log = log.get("feed")

Announce = Callable[[str, str | None, int | None, int], None]
"""Told where the connection stands: state, why it is not connected, time of the last message (ns),
reconnects.
"""


class Observer(Protocol):
    """Told what happens to a feed's connection, in order, by the feed's own task; must not wait."""

    def subscribed(self, confirmed: Mapping[str, tuple[str, ...]]) -> None:
        """Alpaca holds these symbols by channel from now on; the whole list at each change."""
        ...

    def settled(self) -> None:
        """Everything that is wanted has been asked for and answered; what is not held was refused."""
        ...

    def data(self, newest: Mapping[str, int], received_ns: int) -> None:
        """A frame with data was handed on. `newest`: by channel the greatest event time so far, ns."""
        ...

    def lost(self, kind: str, reason: str, at_ns: int) -> None:
        """The connection ended, or could not be made; called once for each attempt that ends.

        `kind`: `stopped` (by us), `mute`, `slow_client`, `overflow` (Kafka was behind), or the metric's.
        """
        ...


class Feed:
    """One feed's connection and what goes through it."""

    def __init__(
        self,
        plan: Plan,
        stream: AlpacaStream,
        intake: Intake,
        publisher: Publisher,
        connection: Connection,
        announce: Announce,
        clock: Clock,
        observers: Sequence[Observer] = (),
    ) -> None:
        self.name, self.label = plan.name, plan.label
        self._url, self._advice = plan.url, plan.advice
        self._stream, self._intake, self._publisher = stream, intake, publisher
        self._subscriptions = Subscriptions(plan.symbols, plan.channels, plan.automatic, plan.limits)
        self._connection, self._announce, self._clock = connection, announce, clock
        self._observers = tuple(observers)
        self._unfit: Mapping[str, Sequence[str]] = {}
        self._broken: LostError | None = None
        self._ended_by = ""
        self._stopping = False
        self._last_message_ns: int | None = None
        self.lost: str | None = "not yet connected"
        """Why there is no connection; None while there is one."""
        self._frames = FRAMES_RECEIVED.labels(self.label)
        self._last_message = LAST_MESSAGE_TIME.labels(self.label)
        self._show_state()

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop` is set; then the socket is closed and what was read from it has been handed on.

        Raises:
            RefusedError: Alpaca refuses us for good.
        """
        session = asyncio.create_task(self._forever())
        stopped = asyncio.create_task(stop.wait())
        await asyncio.wait((session, stopped), return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        if not session.done():
            await self._stop(session)
        if not session.cancelled():
            session.result()

    def details(self) -> dict[str, object]:
        """For /health."""
        last = self._last_message_ns
        return {
            "feed": self.label,
            "name": self.name,
            "websocket_connected": self._connection.state is State.CONNECTED,
            "connection_state": str(self._connection.state),
            "subscribed_symbols": list(self._subscriptions.symbols),
            "refused_symbols": {c: list(s) for c, s in self._subscriptions.refused.items()},
            "beyond_plan_limit": {c: list(s) for c, s in self._subscriptions.unfit.items()},
            "reconnect_attempts": self._connection.reconnects,
            "last_message_time": None
            if last is None
            else datetime.fromtimestamp(last / NS_PER_SECOND, UTC).isoformat(timespec="milliseconds"),
        }

    async def want(self, wanted: Wanted, urgent: Urgent) -> None:
        """Hold these symbols besides the configured ones, from now on and on later connections."""
        self._subscriptions.want(wanted, urgent)
        self._show_refused()
        with suppress(LostError):  # the session sees it too, and asks for everything on the next connection
            await self._subscribe_next()

    async def break_off(self, kind: str, reason: str) -> None:
        """End the connection at hand, as if it had been lost by itself; it is made anew."""
        if self._connection.state is State.CONNECTED:
            self._broken = LostError(kind, reason)
            await self._stream.close()

    def sample(self) -> Collection[Message]:
        """Some of the newest messages, to learn from them what moves."""
        return self._intake.last.values()

    def tell(self) -> None:
        """Announce where the connection stands."""
        state = self._connection.state
        reason = None if state is State.CONNECTED else self.lost
        self._announce(str(state), reason, self._last_message_ns, self._connection.reconnects)

    async def _stop(self, session: asyncio.Task[None]) -> None:
        self._stopping = True
        if self._connection.state is State.CONNECTED:
            closing = asyncio.create_task(self._stream.close())
            await asyncio.wait((session, closing), timeout=DRAIN_SECONDS, return_when=asyncio.ALL_COMPLETED)
            closing.cancel()
            await asyncio.gather(closing, return_exceptions=True)
        if not session.done():
            if self._stream.waiting:
                _log.error("stopped with frames not handed on: they are lost", frames=self._stream.waiting)
            session.cancel()
            await asyncio.wait((session,))

    async def _forever(self) -> None:
        while not self._stopping:
            self._connection.connecting()
            CONNECTION_ATTEMPTS.labels(self.label).inc()
            self._show_state()
            refusal: RefusedError | None = None
            ended: AlpacaError | None = None
            try:
                await self._session()
            except AlpacaError as error:
                ended = error
                self._note(error.kind, str(error))
                if error.meaning is Meaning.STOP:
                    refusal = error.refusal(self._url, self._advice)
                    self.lost = str(refusal)
            except LostError as error:
                cause, self._broken = self._broken or error, None
                self._note(cause.kind, str(cause))
            finally:
                await self._disconnect()
            self._tell_lost()
            delay = self._connection.lost(ended)
            self._show_state()
            if refusal is not None:
                raise refusal
            if not self._stopping:
                _log.info("connecting again", feed=self.name, in_seconds=round(delay, 1))
                await asyncio.sleep(delay)

    async def _session(self) -> None:
        await self._stream.connect()
        self._frames.inc()
        self._connection.greeted()
        self._show_state()
        await self._stream.authenticate()
        self._frames.inc()
        self._connection.authenticated()
        self.lost = "Alpaca has not yet confirmed the subscriptions"
        self._show_state()
        _log.info("connected", feed=self.name)
        self._subscriptions.restart()
        self._show_refused()
        await self._subscribe_next()
        if self._subscriptions.settled:  # nothing is wanted
            self._tell_settled()
        while True:
            await self._take(await self._stream.receive())

    async def _take(self, raw: bytes | str) -> None:
        received = self._clock()
        messages, control = self._intake.frame(raw, received)
        self._frames.inc()
        if messages:
            self._connection.data()
            self._last_message_ns = received
            self._last_message.set(received / NS_PER_SECOND)
            for observer in self._observers:
                observer.data(self._intake.newest, received)
        for message in control:
            await self._control(message)
        if self._publisher.full:
            _log.warning("Kafka is behind: the socket waits", buffered_bytes=self._publisher.buffered_bytes)
            await self._publisher.room()
            self._connection.waited(self._clock())

    async def _control(self, message: Message) -> None:
        if message.get("T") == "subscription":
            self._subscriptions.acknowledged(message)
            await self._subscribed()
        elif message.get("T") == "error":
            error = error_of(message)
            if error.meaning is Meaning.SUBSCRIPTION and self._subscriptions.asking:
                await self._subscription_refused(error)
            elif error.meaning in (Meaning.STOP, Meaning.RETRY):
                raise error
            else:
                self._connection.told(error.kind)
                self._note(error.kind, str(error))

    async def _subscription_refused(self, error: AlpacaError) -> None:
        CONNECTION_ERRORS.labels(self.label, error.kind).inc()
        piece = self._subscriptions.rejected()
        if piece is not None:
            self._show_refused()
            _log.error(
                "Alpaca does not take this symbol",
                feed=self.name,
                action=piece.action,
                channel=piece.channels[0],
                symbol=piece.symbols[0],
                error=str(error),
            )
        await self._subscribed()

    async def _subscribed(self) -> None:
        for channel, symbols in self._subscriptions.confirmed.items():
            SYMBOLS_SUBSCRIBED.labels(self.label, channel).set(len(symbols))
        for observer in self._observers:
            observer.subscribed(self._subscriptions.confirmed)
        await self._subscribe_next()
        if self._subscriptions.settled:
            channels = {c: len(s) for c, s in self._subscriptions.confirmed.items()}
            _log.info("subscribed", feed=self.name, symbols_by_channel=channels)
            self.lost = None if any(channels.values()) else "Alpaca refused every subscription"
            self._tell_settled()

    async def _subscribe_next(self) -> None:
        piece = self._subscriptions.next()
        if piece is not None:
            await self._stream.subscribe(piece.message())

    async def _disconnect(self) -> None:
        with suppress(Exception):  # it is over in any case
            await self._stream.close()
        self._subscriptions.forget()
        for channel in self._subscriptions.channels:
            SYMBOLS_SUBSCRIBED.labels(self.label, channel).set(0)

    def _tell_settled(self) -> None:
        for observer in self._observers:
            observer.settled()

    def _tell_lost(self) -> None:
        now = self._clock()
        kind = "stopped" if self._stopping else self._connection.cause(self._ended_by, now)
        for observer in self._observers:
            observer.lost(kind, self.lost or "", now)

    def _note(self, kind: str, reason: str) -> None:
        self._ended_by = kind
        CONNECTION_ERRORS.labels(self.label, kind).inc()
        self.lost = "stopped" if self._stopping else reason
        if not self._stopping:
            _log.warning("connection trouble", feed=self.name, kind=kind, reason=reason)

    def _show_state(self) -> None:
        for state in State:
            CONNECTION_STATE.labels(self.label, state).set(state is self._connection.state)
        self.tell()

    def _show_refused(self) -> None:
        refused, unfit = self._subscriptions.refused, self._subscriptions.unfit
        for channel in self._subscriptions.channels:
            count = len(refused.get(channel, ())) + len(unfit.get(channel, ()))
            SYMBOLS_REFUSED.labels(self.label, channel).set(count)
        if unfit != self._unfit:
            self._unfit = unfit
            for channel, symbols in unfit.items():
                _log.error("plan limit", feed=self.name, channel=channel, refused=list(symbols))
