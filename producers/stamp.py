"""The fields that every record of a feed carries beside its content: when and how it came, and its id."""

from __future__ import annotations

from collections.abc import Callable

from producers.entrance import Window
from producers.normalize import Content
from schemas.codec import Codec


class Stamp:
    """Content to bytes, with the stamp of the frame that it came in."""

    def __init__(self, codec: Codec, *, owner_epoch: int, source: str = "ws") -> None:
        self._codec, self._owner_epoch, self._source = codec, owner_epoch, source
        self.received = 0
        """When the frame at hand was received, ns since 1970."""

    def record(self, stem: str, content: Content, event: bytes) -> bytes:
        """The value of one record. Raises RecordError."""
        record = {
            **content,
            "received_ts": self.received,
            "source": self._source,
            "owner_epoch": self._owner_epoch,
            "event_id": event,
        }
        return self._codec.encode(stem, record)

    def keyed(self, stem: str, content: Content, event: bytes) -> tuple[bytes, bytes]:
        """Key and value of a record that is keyed by its symbol. Raises RecordError."""
        return content["symbol"].encode(), self.record(stem, content, event)

    def once(self, window: Window, stem: str, content: Content, event: bytes) -> tuple[bytes, bytes] | None:
        """The same, or None when the window knows the event. Raises RecordError."""
        record = self.keyed(stem, content, event)  # first: what is no record is not remembered
        return None if window.repeats(content["ts"], event) else record

    def numbered(
        self, window: Window, stem: str, content: Content, event: Callable[[Content, int], bytes]
    ) -> tuple[bytes, bytes]:
        """The same for events without an id: a true repeat stays a record of its own, told apart by its
        ordinal, of which `event` makes the id. Raises RecordError.
        """
        first = event(content, 0)
        record = self.keyed(stem, content, first)
        ordinal = window.repeats(content["ts"], first)
        return self.keyed(stem, content, event(content, ordinal)) if ordinal else record
