"""The fields that every record of a feed carries beside its content: when and how it came, and its id."""

from __future__ import annotations

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
