"""The loop of one account's trading stream: connect, listen, take messages, and again after every loss."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

from producers.accounts.journal import FEED, Journal
from producers.accounts.stream import TradeUpdateStream, judge
from producers.accounts.updates import Content
from producers.alpaca_stream import LostError
from producers.connection import AlpacaError, Connection, Meaning, State
from producers.publisher import Publisher
from schemas.fills import FILL_EVENTS, REVISION_EVENTS
from schemas.gaps import DISCONNECT, SLOW_CLIENT, STALL
from schemas.trading_values import Json
from tidewire import log
from tidewire.clock import NS_PER_SECOND, Clock
from tidewire.errors import RefusedError
from tidewire.metrics import (
    CONNECTION_ATTEMPTS,
    CONNECTION_ERRORS,
    FRAMES_RECEIVED,
    LAST_MESSAGE_TIME,
    TRADING_CONNECTIONS,
)
from tidewire.redaction import Redactor

DRAIN_SECONDS = 1.5
"""How long a stop waits for the closing handshake and for the messages read before it."""
STABLE_SECONDS = 30.0
"""A trading stream may be silent for days; having listened so long ends a series of failures, as an update
does."""

_log = log.get("accounts")


class Listener(Protocol):
    """Who wants to know: the rounds over REST."""

    def connected(self) -> None:
        """From now on the stream tells everything; what was before must be looked up."""
        ...

    def lost(self, reason: str) -> None:
        """The stream tells nothing any more; `reason` is that of a gap."""
        ...

    def filled(self) -> None:
        """Positions and cash have changed."""
        ...

    def doubtful(self, why: str, update: Content | None) -> None:
        """The stream has told something that cannot be all."""
        ...


Announce = Callable[[str, str | None, int | None, int], None]
"""State, reason, receive time of the last message (ns), reconnects."""


class Link:
    """One account's connection and what goes through it."""

    def __init__(
        self,
        url: str,
        stream: TradeUpdateStream,
        journal: Journal,
        publisher: Publisher,
        connection: Connection,
        listener: Listener,
        announce: Announce,
        redactor: Redactor,
        clock: Clock,
    ) -> None:
        self._url, self._stream, self._journal, self._publisher = url, stream, journal, publisher
        self._connection, self._listener, self._announce = connection, listener, announce
        self._redactor, self._clock = redactor, clock
        self._account = journal.account
        self._stopping = False
        self._broken_off: asyncio.Task[None] | None = None
        self._listening_since: float | None = None
        self.last_message_ns: int | None = None
        self.lost: str | None = "not yet connected"
        """Why no trade updates come; None while they do."""
        self._counted = State.DISCONNECTED
        TRADING_CONNECTIONS.labels(self._counted).inc()

    @property
    def state(self) -> State:
        """Where the connection stands."""
        return self._connection.state

    @property
    def reconnects(self) -> int:
        """Attempts after the first."""
        return self._connection.reconnects

    def break_off(self) -> None:
        """End a connection that tells nothing while REST does, and connect again."""
        if self.state is State.CONNECTED and self._broken_off is None:
            self._broken_off = asyncio.create_task(self._stream.close())

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop` is set; then the socket is closed and what was read from it has been handed on.

        Raises:
            RefusedError: Alpaca refuses this account's keys or address for good.
        """
        session = asyncio.create_task(self._forever())
        stopped = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait((session, stopped), return_when=asyncio.FIRST_COMPLETED)
            if not session.done():
                await self._stop(session)
        finally:
            stopped.cancel()
            session.cancel()
            await asyncio.wait((session,))
            self._connection.state = State.DISCONNECTED
            self._show()
        if not session.cancelled():
            session.result()

    async def _stop(self, session: asyncio.Task[None]) -> None:
        self._stopping = True
        if self._connection.state is State.CONNECTED:
            closing = asyncio.create_task(self._stream.close())
            await asyncio.wait((session, closing), timeout=DRAIN_SECONDS, return_when=asyncio.ALL_COMPLETED)
            closing.cancel()
            await asyncio.gather(closing, return_exceptions=True)

    async def _forever(self) -> None:
        while not self._stopping:
            self._connection.connecting()
            CONNECTION_ATTEMPTS.labels(FEED).inc()
            self._show()
            try:
                await self._session()
            except AlpacaError as error:
                self._note(error.kind, str(error))
                if error.meaning is Meaning.STOP:
                    raise self._refusal(error) from None
            except LostError as error:
                self._lost(error)
            finally:
                with suppress(Exception):  # it is over in any case
                    await self._stream.close()
            self._judge_length()
            delay = self._connection.lost()
            self._show()
            if not self._stopping:
                _log.info("connecting again", account=self._account, in_seconds=round(delay, 1))
                await asyncio.sleep(delay)

    async def _session(self) -> None:
        await self._stream.connect()
        self._connection.greeted()
        self._show()
        await self._stream.authenticate()
        FRAMES_RECEIVED.labels(FEED).inc()
        await self._stream.listen()
        while True:
            await self._take(await self._stream.receive())

    async def _take(self, raw: bytes | str) -> None:
        received = self._clock()
        FRAMES_RECEIVED.labels(FEED).inc()
        update, control = self._journal.frame(raw, received)
        if control is not None:
            self._control(control)
            return
        self._connection.data()
        self.last_message_ns = received
        LAST_MESSAGE_TIME.labels(FEED).set(received / NS_PER_SECOND)
        self._tell(update)
        if self._publisher.full:
            _log.warning("Kafka is behind: the socket waits", buffered_bytes=self._publisher.buffered_bytes)
            await self._publisher.room()

    def _lost(self, error: LostError) -> None:
        broken_off, self._broken_off = self._broken_off, None
        if broken_off is not None:
            self._note("stall", "the stream was silent while REST had news")
        else:
            self._note(error.kind, str(error))
        if self._listening_since is not None and not self._stopping:
            slow = "slow client" in str(error)
            self._listener.lost(STALL if broken_off is not None else SLOW_CLIENT if slow else DISCONNECT)

    def _tell(self, update: Content | None) -> None:
        if self._journal.refused:
            self._listener.doubtful("a message was not understood", None)
        elif update is not None and self._journal.doubt is not None:
            self._listener.doubtful(self._journal.doubt, update)
        if update is not None and update["event"] in (*FILL_EVENTS, *REVISION_EVENTS):
            self._listener.filled()
        self._announce(self.state, self.lost, self.last_message_ns, self.reconnects)

    def _control(self, message: Json) -> None:
        judge(message)
        if message.get("stream") != "listening":
            return
        data = message.get("data")
        streams = data.get("streams") if isinstance(data, dict) else None
        if not isinstance(streams, list) or "trade_updates" not in streams:
            raise LostError("protocol", f"Alpaca does not send trade updates but {streams!r:.100}")
        self._connection.authenticated()
        self._listening_since = asyncio.get_running_loop().time()
        self.lost = None
        self._show()
        _log.info("listening to trade updates", account=self._account)
        self._listener.connected()

    def _judge_length(self) -> None:
        since, self._listening_since = self._listening_since, None
        if since is not None and asyncio.get_running_loop().time() - since >= STABLE_SECONDS:
            self._connection.data()

    def _refusal(self, error: AlpacaError) -> RefusedError:
        advice = (
            "Check the account's key file and mode: a paper key and a live key each go with their own secret "
            "and address; make new ones at https://app.alpaca.markets."
            if not error.http or error.code in (401, 403)
            else "Check TIDEWIRE_TRADING_URL."
        )
        return RefusedError(
            self._redactor.text(f"account {self._account}: Alpaca refused {self._url}: {error}. {advice}")
        )

    def _note(self, kind: str, reason: str) -> None:
        CONNECTION_ERRORS.labels(FEED, kind).inc()
        self.lost = self._redactor.text(reason)
        if not self._stopping:
            _log.warning("connection trouble", account=self._account, kind=kind, reason=self.lost)

    def _show(self) -> None:
        if self._counted is not self.state:
            TRADING_CONNECTIONS.labels(self._counted).dec()
            self._counted = self.state
            TRADING_CONNECTIONS.labels(self._counted).inc()
        if self.state is not State.CONNECTED and self.lost is None:
            self.lost = "connecting"
        reason = None if self.state is State.CONNECTED else self.lost
        self._announce(self.state, reason, self.last_message_ns, self.reconnects)
