"""Time and sales to their watchers: which client watches which symbol, and the fan-out after each poll.

A slow client is conflated: while more than 64 KB wait for it, of each symbol only the newest trade is kept;
when it has read them it gets that trade and a `skipped` message with the number that it did not get.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence

from sinks.gateway import tape_messages
from sinks.gateway.alpaca_state import Connections
from sinks.gateway.client import CONFLATE_ABOVE, Client, Transport, count
from sinks.gateway.fan import send_all
from sinks.gateway.interest import Interest
from sinks.gateway.sessions import Session
from tidewire import metrics
from tidewire.clock import NS_PER_SECOND, Clock

KIND = "tape"
SYMBOLS_PER_CLIENT = 50
_YIELD_AFTER = 300


class TapeClient(Client):
    """A client of /ws/tape."""

    __slots__ = ("missed", "symbols", "waiting")

    def __init__(self, session: Session, transport: Transport, now: float) -> None:
        super().__init__(KIND, session, transport, now)
        self.symbols: set[str] = set()
        self.waiting: set[str] = set()
        self.missed: dict[str, tuple[bytes, int]] = {}


class Tape:
    """Who watches what. `changed` is called when the set of watched symbols may have changed."""

    def __init__(
        self, interest: Interest, alpaca: Connections, now: Clock, changed: Callable[[], None]
    ) -> None:
        self.interest, self._alpaca, self._now, self._changed = interest, alpaca, now, changed
        self._watchers: dict[str, dict[TapeClient, None]] = {}
        self._clients: dict[TapeClient, None] = {}
        self._behind: dict[TapeClient, None] = {}

    @property
    def clients(self) -> list[TapeClient]:
        """All clients."""
        return list(self._clients)

    def join(self, client: TapeClient) -> None:
        """A socket was opened."""
        self._clients[client] = None

    def leave(self, client: TapeClient) -> None:
        """The client is gone; what only it watched is released."""
        for symbol in tuple(client.symbols):
            self._release(client, symbol)
        self._clients.pop(client, None)
        self._behind.pop(client, None)

    def subscribe(self, client: TapeClient, symbol: str) -> bytes:
        """Watch a symbol; returns the answer."""
        feed = tape_messages.feed_of(symbol)
        if feed is None:
            return tape_messages.about("error", symbol, "the tape has stocks and crypto pairs only")
        if symbol not in client.symbols:
            if len(client.symbols) >= SYMBOLS_PER_CLIENT:
                text = f"at most {SYMBOLS_PER_CLIENT} symbols a connection"
                return tape_messages.about("error", symbol, text)
            client.symbols.add(symbol)
            self._watchers.setdefault(symbol, {})[client] = None
            self.interest.add(symbol)
            self._tell_changed()
        if self._alpaca.connected(feed, self._now()):
            return tape_messages.about("subscribed", symbol, f"Watching {symbol}")
        client.waiting.add(symbol)
        return tape_messages.about("connecting", symbol, f"Waiting for Alpaca's {feed} stream")

    def unsubscribe(self, client: TapeClient, symbol: str) -> bytes:
        """Watch it no longer; returns the answer."""
        if symbol not in client.symbols:
            return tape_messages.about("error", symbol, f"{symbol} is not watched")
        self._release(client, symbol)
        return tape_messages.about("unsubscribed", symbol, f"No longer watching {symbol}")

    def pong(self) -> bytes:
        """The answer to ping."""
        return tape_messages.pong(self._alpaca.any_market(self._now()))

    def health(self) -> bytes:
        """The answer to health."""
        connected = self._alpaca.any_market(self._now())
        return tape_messages.health(connected, len(self._watchers), len(self._clients))

    def confirm(self) -> None:
        """Alpaca may be connected now: tell those who were told to wait; and catch slow clients up."""
        for client in self._clients:
            for symbol in tuple(client.waiting):
                if self._alpaca.connected(tape_messages.feed_of(symbol) or "", self._now()):
                    client.waiting.discard(symbol)
                    answer = tape_messages.about("subscribed", symbol, f"Watching {symbol}")
                    client.write(answer, "subscribed")
        self._catch_up()

    async def deliver(self, trades: Mapping[str, Sequence[bytes]], received_ts: int) -> None:
        """Send the frames of one poll, by symbol: joined, so that each client gets one write a symbol."""
        self._catch_up()
        writes = pause = 0
        for symbol, made in trades.items():
            joined = b"".join(made)
            before = writes
            watchers = tuple(self._watchers.get(symbol, ()))
            for first in range(0, len(watchers), _YIELD_AFTER):
                writes += self._send(watchers[first : first + _YIELD_AFTER], symbol, made, joined)
                if writes - pause >= _YIELD_AFTER:
                    pause = writes
                    await asyncio.sleep(0)
            count(KIND, "trade", (writes - before) * len(made), (writes - before) * len(joined))
        if writes:
            seconds = (self._now() - received_ts) / NS_PER_SECOND
            metrics.GATEWAY_DELIVERY_SECONDS.labels("trade").observe(max(0.0, seconds))

    def _send(self, watchers: Sequence[TapeClient], symbol: str, made: Sequence[bytes], joined: bytes) -> int:
        """Returns how many were sent it; the others are behind, or gone."""
        sent, behind = send_all(watchers, joined, owed=self._behind)
        for client in behind:
            self._skip(client, symbol, made)
        return sent

    def _skip(self, client: TapeClient, symbol: str, made: Sequence[bytes]) -> None:
        kept = client.missed.get(symbol)
        skipped = len(made) - 1 if kept is None else kept[1] + len(made)
        metrics.GATEWAY_CONFLATED.labels(KIND).inc(len(made) - (kept is None))
        client.missed[symbol] = (made[-1], skipped)
        self._behind[client] = None

    def _catch_up(self) -> None:
        for client in tuple(self._behind):
            if client.open and client.transport.get_write_buffer_size() > CONFLATE_ABOVE // 2:
                continue
            del self._behind[client]
            missed, client.missed = client.missed, {}
            for symbol, (newest, skipped) in missed.items():
                if symbol in client.symbols:
                    told = tape_messages.about("skipped", symbol, f"{skipped} trades were not sent")
                    client.write(told + newest if skipped else newest, "trade", 1 + bool(skipped))

    def _release(self, client: TapeClient, symbol: str) -> None:
        client.symbols.discard(symbol)
        client.waiting.discard(symbol)
        client.missed.pop(symbol, None)
        watchers = self._watchers[symbol]
        del watchers[client]
        if not watchers:
            del self._watchers[symbol]
        self.interest.remove(symbol)
        self._tell_changed()

    def _tell_changed(self) -> None:
        for feed in ("stocks", "crypto"):
            count = sum(tape_messages.feed_of(symbol) == feed for symbol in self._watchers)
            metrics.GATEWAY_WATCHED.labels(feed).set(count)
        self._changed()
