"""The screen's view of the portfolio: a signed-in client of the gateway, like any user's program.

What it is told it also writes down, so that the completeness report can say what was pushed to a client.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import orjson

from console.client.portfolio import Portfolio as Folded
from console.client.stream import Message, SignInError, Stream
from console.screen.state import Portfolio

_GREETING = ({"type": "subscribe", "channels": ["positions", "orders", "account", "trades"]},)


def seen(stream: Stream, folded: Folded) -> Portfolio:
    """What a client has been told so far, as it is shown."""
    return Portfolio(
        stream.connected,
        stream.reason,
        tuple(folded.open_positions()),
        tuple(folded.newest_orders()),
        tuple(folded.accounts.values()),
    )


class GatewaySide:
    """`cookie` is `name=value` of a session; `record` is the file for what is pushed, begun anew.

    `accounts` are those that the session's user may see.
    """

    def __init__(self, url: str, cookie: str, record: Path, accounts: Sequence[str]) -> None:
        self._stream = Stream(url, "/ws/portfolio", cookie, _GREETING)
        self._record, self._accounts = record, accounts
        self._folded = Folded()

    def portfolio(self) -> Portfolio:
        """What has been told so far."""
        return seen(self._stream, self._folded)

    async def run(self) -> None:
        """Follow the gateway until cancelled, or until it refuses the session."""
        self._record.parent.mkdir(parents=True, exist_ok=True)
        with self._record.open("wb", buffering=0) as file:
            file.write(orjson.dumps({"accounts": list(self._accounts)}) + b"\n")
            try:
                async for message in self._stream.messages():
                    self._take(message)
                    file.write(orjson.dumps({"at": time.time_ns(), "message": message}) + b"\n")
            except SignInError as error:
                self._stream.reason = str(error)

    def _take(self, message: Message) -> None:
        self._folded.apply(message)
