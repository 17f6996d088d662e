"""A client of /ws/portfolio, and the frames that several of them share."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Any

import orjson

from sinks.gateway import frames
from sinks.gateway.client import Client, Transport
from sinks.gateway.holdings import Key
from sinks.gateway.messages import Payload
from sinks.gateway.sessions import Session
from sinks.gateway.subscriptions import Wanted
from tidewire import metrics

KIND = "portfolio"


class Watcher(Client):
    """A client of /ws/portfolio. `accounts`: what its user sees, fixed while it is connected."""

    __slots__ = ("accounts", "fills", "pending", "wanted")

    def __init__(self, session: Session, transport: Transport, now: float, accounts: tuple[str, ...]) -> None:
        super().__init__(KIND, session, transport, now)
        self.accounts = accounts
        self.wanted = Wanted()
        self.pending: dict[tuple[str, Key], None] = {}
        self.fills: deque[bytes] = deque()

    @property
    def labelled(self) -> bool:
        """Whether objects name their account: only where the user sees several, or they could be mixed up."""
        return len(self.accounts) > 1

    def defer(self, account: str, keys: Iterable[Key]) -> None:
        """Remember what has changed instead of sending it."""
        for key in keys:
            if (account, key) in self.pending:
                metrics.GATEWAY_CONFLATED.labels(KIND).inc()
            self.pending[account, key] = None


class Shared:
    """The frames of one message: its data is encoded once a content, the envelope once a user."""

    def __init__(self, kind: str, timestamp: str, account: str) -> None:
        self.kind, self._timestamp, self._account = kind, timestamp, account
        self.sent = self.bytes = 0
        self._data: dict[tuple[bool, Any], bytes] = {}
        self._frames: dict[tuple[str, Any], bytes] = {}

    def send(self, watcher: Watcher, content: Any, payload: Any) -> bool | None:
        """Queue it for a client: True; False: it is behind; None: it is gone, or hears nothing of it."""
        if watcher.pending or watcher.fills:
            return False
        frame = self.frame(watcher, content, payload)
        written = watcher.offer(frame) if frame else None
        if written:
            self.sent += 1
            self.bytes += len(frame)
        return written

    def frame(self, watcher: Watcher, content: Any, payload: Any) -> bytes:
        """The frame for a client; `payload()` gives what `content` names. Empty: nothing to say."""
        frame = self._frames.get((watcher.user, content))
        if frame is None:
            which = (watcher.labelled, content)
            data = self._data.get(which)
            if data is None:
                found = payload()
                data = as_json(found, self._account if watcher.labelled else None) if found else b""
                self._data[which] = data
            user = watcher.user
            frame = frames.enveloped(self.kind, self._timestamp, user, data) if data else b""
            self._frames[user, content] = frame
        return frame


def as_json(payload: Payload, account: str | None) -> bytes:
    """JSON of a payload, each object in it with its account's name where there are several."""
    if account is None:
        return orjson.dumps(payload)
    labelled = {
        name: [part | {"account": account} for part in value] if isinstance(value, list)
        else value | {"account": account} if isinstance(value, dict) else value
        for name, value in payload.items()
    }  # fmt: skip
    if not any(isinstance(value, list | dict) for value in payload.values()):
        labelled["account"] = account
    return orjson.dumps(labelled)
