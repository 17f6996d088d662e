"""In place of a trading stream: nothing but rounds over REST (TIDEWIRE_ACCOUNT_MODE=poll)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

STATE = "POLLING"
REASON = "TIDEWIRE_ACCOUNT_MODE=poll: REST alone, every few seconds"

Announce = Callable[[str, str | None, int | None, int], None]


class Polling:
    """What a `Link` shows, of an account that has none."""

    reconnects = 0
    last_message_ns: int | None = None
    lost: str | None = None
    state = STATE

    def __init__(self, announce: Announce) -> None:
        self._announce = announce

    async def run(self, stop: asyncio.Event) -> None:
        """Say that REST is polled, until `stop` is set."""
        self._announce(STATE, REASON, None, 0)
        await stop.wait()
