"""When a change is sent: at once, or in one batch a second. Pure; one Batcher an account; times in ns.

A fill's change of a position goes at once, and so does a key's first change after a quiet second. Further
changes within the second wait for the account's next batch, which comes a second after the last one, or
after the first of these keys was sent. Fills that follow each other within QUICK_NS on one key are sent
together, so that a storm of them is 40 messages a second.

It holds keys, never values: whoever sends looks up the newest value then, so that an older value can never
follow a newer one and the last one is never lost.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

from tidewire.clock import NS_PER_MS, NS_PER_SECOND

WINDOW_NS = NS_PER_SECOND
QUICK_NS = 25 * NS_PER_MS

K = TypeVar("K", bound=Hashable)


class Batcher(Generic[K]):
    """Decides for the keys of one account."""

    def __init__(self) -> None:
        self._sent: OrderedDict[K, int] = OrderedDict()  # in the order of the times
        self._quick: dict[K, int] = {}
        self._waiting: dict[K, None] = {}
        self._batch_at: int | None = None

    def offer(self, key: K, urgent: bool, now: int) -> bool:
        """A key has changed. True: send it now; False: `due` will name it."""
        self._forget(now)
        last = self._sent.get(key)
        quiet = QUICK_NS if urgent else WINDOW_NS
        if (last is None or now - last >= quiet) and key not in self._quick:
            self._send(key, now)
            return True
        if urgent and last is not None:
            self._quick.setdefault(key, last + QUICK_NS)
            self._waiting.pop(key, None)
        elif key not in self._quick:
            if not self._waiting and (self._batch_at is None or self._batch_at <= now):
                self._batch_at = (now if last is None else last) + WINDOW_NS
            self._waiting[key] = None
        return False

    @property
    def next_due(self) -> int | None:
        """When `due` is to be called next; None: nothing waits."""
        times = list(self._quick.values())
        if self._batch_at is not None and self._waiting:
            times.append(self._batch_at)
        return min(times, default=None)

    def due(self, now: int) -> tuple[list[K], list[K]]:
        """The keys to send now: one by one, and together in a batch."""
        single = [key for key, at in self._quick.items() if at <= now]
        for key in single:
            self._send(key, now)
        batch: list[K] = []
        if self._batch_at is not None and self._batch_at <= now:
            batch = list(self._waiting)
            for key in batch:
                self._send(key, now)
            # While changes keep coming the batches keep their rhythm; else the next change starts a new one.
            self._batch_at = now + WINDOW_NS if batch else None
        return single, batch

    def _send(self, key: K, now: int) -> None:
        self._quick.pop(key, None)
        self._waiting.pop(key, None)
        self._sent[key] = now
        self._sent.move_to_end(key)

    def _forget(self, now: int) -> None:
        while self._sent:
            key, at = next(iter(self._sent.items()))
            if now - at < WINDOW_NS:
                return
            del self._sent[key]
