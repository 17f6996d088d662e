"""Which messages of a frame came before in the same frame, sent twice. Pure and bounded.

Quotes have no id, and true repeats of one are real, so two equal quotes are two quotes. But a whole frame
that comes again within a few frames is the same frame if it could not be another: if it holds a trade, whose
id is given once, or events of different times, since the exchange's time would have had to go back. A frame
whose quotes are all of one time (most often a single quote) cannot be told from a true repeat, and is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from producers.frames import Unreadable

FRAMES = 16
"""How many frames back a repeat is looked for; those of one message do not count."""
LARGEST_FRAME = 1 << 18
"""Bytes; larger frames are not remembered, so that all of them take 4 MiB at most."""


class Repeats:
    """The last frames of one feed, by their bytes."""

    def __init__(self) -> None:
        self._kept: dict[bytes, int] = {}
        """Frame -> its whole messages, negative if it was broken off."""
        self._broken = 0

    def known(self, raw: bytes, messages: Sequence[Any]) -> int:
        """How many of the frame's first messages came before in this very frame; remembers the frame.

        A frame that was broken off is a copy of any near one that begins with its bytes, before it or after.
        """
        if not messages:
            return 0
        broken = isinstance(messages[-1], Unreadable)
        return self.seen(raw, len(messages), lambda: _is_one(messages), broken=broken)

    def seen(self, raw: bytes, count: int, is_one: Callable[[], bool], *, broken: bool = False) -> int:
        """The same of a frame of so many messages; `is_one`: whether an equal one can only be this again."""
        if count < 2:  # a trade's id tells, and of anything else alone nobody can
            return 0
        known = count if raw in self._kept and is_one() else 0
        if broken:
            if any(kept.startswith(raw) for kept in self._kept):
                known = count
        elif self._broken:
            known = max((known, *(-n for kept, n in self._kept.items() if n < 0 and raw.startswith(kept))))
        self._keep(raw, 1 - count if broken else count)  # broken: the last is no message
        return known

    def _keep(self, raw: bytes, count: int) -> None:
        if len(raw) > LARGEST_FRAME:
            return
        former = self._kept.pop(raw, 0)
        self._kept[raw] = count
        self._broken += (count < 0) - (former < 0)
        if len(self._kept) > FRAMES:
            self._broken -= self._kept.pop(next(iter(self._kept))) < 0


def _is_one(messages: Sequence[Any]) -> bool:
    """Whether an equal frame can only be this one again."""
    times = set()
    for message in messages:
        if type(message) is not dict:
            continue
        if message.get("T") == "t" and type(message.get("i")) is int:
            return True
        if type(message.get("t")) is int:
            times.add(message["t"])
    return len(times) > 1
