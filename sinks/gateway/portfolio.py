"""Portfolios to their watchers: state, batching and fan-out. Frames are made once and shared.

Everything that sends takes one lock, so while a change goes out to hundreds of sockets no newer one overtakes
it; joining and subscribing are plain calls between two sends. That is why a client never gets an older state
after a newer one, and none is missing between its snapshot and what follows.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import Iterable
from functools import cache

import orjson

from sinks.gateway import frames
from sinks.gateway.batching import Batcher
from sinks.gateway.changes import Change, Executed
from sinks.gateway.client import CONFLATE_ABOVE, count
from sinks.gateway.holdings import Account, Held, Key
from sinks.gateway.messages import Payload, moment
from sinks.gateway.subscriptions import Wanted
from sinks.gateway.watcher import KIND, Shared, Watcher, as_json
from tidewire import metrics
from tidewire.clock import NS_PER_SECOND, Clock

MOST_FILLS_QUEUED = 1000
"""Fills have no newer state that replaces them: a client that is behind by more of them is given up."""

_TYPES = {"positions": "position_update", "orders": "order_update", "account": "account_update"}
_YIELD_AFTER = 300
_delivery = cache(metrics.GATEWAY_DELIVERY_SECONDS.labels)
_IDLE_SECONDS = 1.0
_BEHIND_SECONDS = 0.1


class Portfolios:
    """All accounts and who watches them. `now` in ns."""

    def __init__(self, now: Clock) -> None:
        self._now = now
        self._accounts: dict[str, Account] = {}
        self._batchers: dict[str, Batcher[Key]] = {}
        self._watchers: dict[str, dict[Watcher, None]] = {}
        self._behind: dict[Watcher, None] = {}
        self._lock = asyncio.Lock()
        self._wake = asyncio.Event()
        self._writes = 0

    def account(self, name: str) -> Account:
        """The account's objects (empty when nothing is known of it)."""
        return self._accounts.setdefault(name, Account())

    def load(self, changes: Iterable[Change | Executed]) -> None:
        """Take what the log held before anybody watched."""
        for change in changes:
            if isinstance(change, Change):
                self._put(change)

    async def take(self, changes: Iterable[Change | Executed]) -> None:
        """Take what one poll brought and send what is due at once."""
        async with self._lock:
            now = self._now()
            quick: dict[tuple[str, Key], None] = {}
            quiet: defaultdict[str, dict[Key, None]] = defaultdict(dict)
            for change in changes:
                if isinstance(change, Executed):
                    await self._send_fill(change)
                    continue
                former, held = self._put(change), change.held
                if held is None:
                    continue
                urgent = _urgent(former, held)
                if change.key.channel == "orders":
                    await self._send_object(change.account, change.key, held)
                elif not self._batcher(change.account).offer(change.key, urgent, now):
                    self._wake.set()
                elif urgent:
                    quick[change.account, change.key] = None
                else:
                    quiet[change.account][change.key] = None
            for account, key in quick:
                await self._send_due(account, [key], [])
            for account, keys in quiet.items():  # marks of all positions come together after a quiet second
                one_by_one, together = ([*keys], []) if len(keys) == 1 else ([], [*keys])
                await self._send_due(account, one_by_one, together)

    async def run(self) -> None:
        """Send what waits when it is due, and catch slow clients up, for ever."""
        while True:
            try:
                async with asyncio.timeout(self._pause()):
                    await self._wake.wait()
            except TimeoutError:
                pass
            self._wake.clear()
            async with self._lock:
                now = self._now()
                for account, batcher in tuple(self._batchers.items()):
                    if (due := batcher.next_due) is not None and due <= now:
                        await self._send_due(account, *batcher.due(now))
                self._catch_up()

    # ---------------------------------------------------------------- clients

    def join(self, watcher: Watcher) -> None:
        """Send the snapshot; from now on what changes."""
        for account in watcher.accounts:
            self._watchers.setdefault(account, {})[watcher] = None
        self.snapshot(watcher, watcher.wanted)

    def leave(self, watcher: Watcher) -> None:
        """The client is gone."""
        for account in watcher.accounts:
            watchers = self._watchers.get(account, {})
            watchers.pop(watcher, None)
            if not watchers:
                self._watchers.pop(account, None)
        self._behind.pop(watcher, None)

    def snapshot(self, watcher: Watcher, wanted: Wanted) -> None:
        """Send everything of these channels as it is now: one batch an account."""
        for account in watcher.accounts:
            payload = self.account(account).snapshot(wanted)
            self._answer(watcher, "batch", as_json(payload, account if watcher.labelled else None))

    def tell(self, watcher: Watcher, kind: str, data: Payload) -> None:
        """Send something of our own in D1's envelope."""
        self._answer(watcher, kind, orjson.dumps(data))

    @property
    def watchers(self) -> list[Watcher]:
        """All clients, each once."""
        return list(dict.fromkeys(w for watchers in self._watchers.values() for w in watchers))

    # ---------------------------------------------------------------- sending

    def _answer(self, watcher: Watcher, kind: str, data: bytes) -> None:
        watcher.write(frames.enveloped(kind, moment(self._now()), watcher.user, data), kind)

    async def _send_object(self, account: str, key: Key, held: Held) -> None:
        kind = _TYPES[key.channel]
        shared = Shared(kind, moment(self._now()), account)
        for watcher in tuple(self._watchers.get(account, ())):
            if not watcher.wanted.hears(key.channel, held.symbol):
                continue
            written = shared.send(watcher, None, lambda: held.payload)
            if written:
                await self._breathe()
            elif written is False:
                self._defer(watcher, account, (key,))
        if shared.sent:
            self._observe(shared, held.received_ts)

    async def _send_fill(self, fill: Executed) -> None:
        kind = "trade_executed"
        shared = Shared(kind, moment(self._now()), fill.account)
        for watcher in tuple(self._watchers.get(fill.account, ())):
            if not watcher.wanted.hears("trades", fill.symbol):
                continue
            written = shared.send(watcher, None, lambda: fill.payload)
            if written:
                await self._breathe()
            elif written is False:
                watcher.fills.append(shared.frame(watcher, None, lambda: fill.payload))
                self._behind[watcher] = None
                if len(watcher.fills) > MOST_FILLS_QUEUED:
                    watcher.abort("slow")
        if shared.sent:
            self._observe(shared, fill.received_ts)

    async def _send_due(self, account: str, single: list[Key], batch: list[Key]) -> None:
        objects = self.account(account).objects
        for key in single:
            if (held := objects.get(key)) is not None:
                await self._send_object(account, key, held)
        if not batch:
            return
        shared = Shared("batch", moment(self._now()), account)
        for watcher in tuple(self._watchers.get(account, ())):
            wanted = watcher.wanted
            written = shared.send(watcher, wanted, lambda w=wanted: self.account(account).batch(batch, w))
            if written:
                await self._breathe()
            elif written is False:
                heard = [k for k in batch if k in objects and wanted.hears(k.channel, objects[k].symbol)]
                self._defer(watcher, account, heard)
        if shared.sent:
            oldest = min((objects[key].received_ts for key in batch if key in objects), default=0)
            self._observe(shared, oldest)

    def _defer(self, watcher: Watcher, account: str, keys: Iterable[Key]) -> None:
        watcher.defer(account, keys)
        self._behind[watcher] = None

    def _catch_up(self) -> None:
        """Send those who have read what was queued the newest of everything that they missed."""
        for watcher in tuple(self._behind):
            if not watcher.open:
                del self._behind[watcher]
            elif watcher.transport.get_write_buffer_size() <= CONFLATE_ABOVE // 2:
                del self._behind[watcher]
                pending, watcher.pending = watcher.pending, {}
                fills, watcher.fills = watcher.fills, deque()
                if fills:
                    watcher.write(b"".join(fills), "trade_executed", len(fills))
                for account in dict.fromkeys(account for account, _ in pending):
                    keys = [key for of, key in pending if of == account]
                    payload = self.account(account).batch(keys, watcher.wanted)
                    if payload:
                        self._answer(
                            watcher, "batch", as_json(payload, account if watcher.labelled else None)
                        )

    async def _breathe(self) -> None:
        self._writes += 1
        if self._writes % _YIELD_AFTER == 0:
            await asyncio.sleep(0)

    # ---------------------------------------------------------------- state

    def _put(self, change: Change) -> Held | None:
        account = self.account(change.account)
        if change.held is None:
            account.drop(change.key)
            return None
        return account.put(change.key, change.held)

    def _batcher(self, account: str) -> Batcher[Key]:
        return self._batchers.setdefault(account, Batcher())

    def _pause(self) -> float:
        due = min((b.next_due for b in self._batchers.values() if b.next_due is not None), default=None)
        pause = _BEHIND_SECONDS if self._behind else _IDLE_SECONDS
        return pause if due is None else min(pause, max(0.001, (due - self._now()) / NS_PER_SECOND))

    def _observe(self, shared: Shared, received_ts: int) -> None:
        count(KIND, shared.kind, shared.sent, shared.bytes)
        seconds = (self._now() - received_ts) / NS_PER_SECOND
        _delivery(shared.kind).observe(max(0.0, seconds))


def _urgent(former: Held | None, held: Held) -> bool:
    return former is not None and former.traded != held.traded
