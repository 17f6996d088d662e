"""The way of one account's events into the log: each once, with its id, or as a dead letter. No sockets.

Every trade update ends in exactly one way: published, duplicate, or dead-lettered with its own bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from producers.accounts import updates
from producers.accounts.memory import Memory
from producers.accounts.updates import Content
from schemas import trading_values as values
from schemas.codec import Codec
from schemas.trading_values import Json
from tidewire import log
from tidewire.clock import NS_PER_MS
from tidewire.dead_letters import DeadLetter
from tidewire.errors import RecordError
from tidewire.metrics import (
    ACCOUNT_ACTIVITIES,
    MESSAGES_DUPLICATE,
    MESSAGES_RECEIVED,
    TRADE_UPDATES_RECOVERED,
)
from tidewire.redaction import Redactor

FEED = "trading"
"""Label of the metrics of all trading streams together: accounts are no labels."""
CHANNEL = "trade_updates"

_FREE_TEXTS = ("extra", "reason", "client_order_id", "description")
"""Where a server's words, or a careless user's key, may stand."""

Add = Callable[[bytes, bytes, int], None]
"""Key, value, Kafka timestamp in ms."""

_log = log.get("accounts")


class Log(Protocol):
    """Where records and dead letters go; `publisher.Publisher` is one."""

    def adder(self, topic: str) -> Add:
        """A function that appends records to a topic."""
        ...

    def dead_letter(self, letter: DeadLetter, timestamp_ms: int) -> None:
        """Append one dead letter."""
        ...


class Journal:
    """One account's. `updates_topic` and the like are real names."""

    def __init__(
        self,
        account: str,
        codec: Codec,
        log: Log,
        memory: Memory,
        redactor: Redactor,
        *,
        updates_topic: str,
        snapshots_topic: str,
        activities_topic: str,
        frames_topic: str,
        owner_epoch: int,
    ) -> None:
        self.account, self.memory = account, memory
        self._key = account.encode()
        self._encode_update = codec.encoder("trade_update")
        self._encode_snapshot = codec.encoder("account_snapshot")
        self._encode_activity = codec.encoder("account_activity")
        self._add_update, self._add_snapshot = log.adder(updates_topic), log.adder(snapshots_topic)
        self._add_activity = log.adder(activities_topic)
        self._log, self._redactor, self._frames = log, redactor, frames_topic
        self._epoch = owner_epoch
        self._received = MESSAGES_RECEIVED.labels(FEED, CHANNEL)
        self._duplicates = MESSAGES_DUPLICATE.labels(FEED, CHANNEL)

    def frame(self, raw: bytes | str, received_ns: int) -> tuple[Content | None, Json | None]:
        """Take one message of the socket: the update that was published, or the control message it is.

        Neither: it was a repeat (counted), or is a dead letter now; then `refused` is set.
        """
        self.refused, self.doubt = False, None
        try:
            message = values.parse(raw)
            if not isinstance(message, dict):
                raise RecordError(f"not a message but {type(message).__name__}")
            if message.get("stream") != CHANNEL:
                return None, self._control(message)
            self._received.inc()
            content = updates.content(self.account, message.get("data"))
            return (content, None) if self.event(content, "ws", received_ns) else (None, None)
        except Exception as error:  # whatever it is, it is this message's alone
            self.refuse(raw, error, received_ns)
            return None, None

    refused = False
    """Whether the last frame became a dead letter: REST may know what it said."""
    doubt: str | None = None
    """Why the last event does not follow on those before it: something was never told."""
    streamed_ts: int | None = None
    """When the newest event that the stream has told happened, by the broker's clock, ns."""

    def event(self, content: Content, source: str, received_ns: int) -> bool:
        """Publish an event unless the log has it; whether it was published. Raises RecordError."""
        if source == "ws":
            self.streamed_ts = max(self.streamed_ts or 0, content["ts"])
        if self.memory.holds(content):
            if source == "ws":
                self._duplicates.inc()
            return False
        self._publish(self._encode_update, self._add_update, content, source, received_ns)
        self.doubt = self.memory.doubt(content)
        self.memory.add(content)
        if source == "rest":
            TRADE_UPDATES_RECOVERED.labels(content["event"]).inc()
        return True

    def snapshot(self, content: Content, received_ns: int) -> None:
        """Publish a snapshot. Raises RecordError."""
        self._publish(self._encode_snapshot, self._add_snapshot, content, "rest", received_ns)

    def activity(self, content: Content, received_ns: int) -> bool:
        """Publish an activity unless the log has it in this status; whether it was. Raises RecordError."""
        if self.memory.holds_activity(content):
            return False
        self._publish(self._encode_activity, self._add_activity, content, "rest", received_ns)
        self.memory.add_activity(content)
        ACCOUNT_ACTIVITIES.inc()
        return True

    def _publish(
        self, encode: Callable[[Any], bytes], add: Add, content: Content, source: str, received_ns: int
    ) -> None:
        record = {**content, "received_ts": received_ns, "source": source, "owner_epoch": self._epoch}
        for name in _FREE_TEXTS:
            if (text := record.get(name)) is not None:
                record[name] = self._redactor.text(text)
        add(self._key, encode(record), received_ns // NS_PER_MS)

    def _control(self, message: Json) -> Json:
        if message.get("stream") in ("authorization", "listening") or message.get("action") == "error":
            return message
        raise RecordError(f"unknown message: stream {message.get('stream')!r:.100}")

    def refuse(self, raw: bytes | str, error: Exception, received_ns: int) -> None:
        """Keep what could not be a record as a dead letter."""
        self.refused = True
        original = raw if isinstance(raw, bytes) else raw.encode("utf-8", "surrogateescape")
        reason = self._redactor.text(str(error))
        # The one change to the original bytes: a server that echoes keys must not make them durable.
        letter = DeadLetter(
            self._frames, -1, -1, self._key, self._redactor.bytes(original), "producer",
            type(error).__name__, reason, CHANNEL,
        )  # fmt: skip
        _log.warning("trade update not understood", account=self.account, reason=reason[:200])
        self._log.dead_letter(letter, received_ns // NS_PER_MS)
