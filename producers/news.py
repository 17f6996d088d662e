"""The news stream's messages to records: one record a revision of an article.

Alpaca sends an article once for each subscribed symbol that it is about; all but the first are duplicates.
"""

from __future__ import annotations

from collections.abc import Mapping

from producers import normalize_news
from producers.channel import Channel, Message, Tail
from producers.entrance import Known
from producers.stamp import Stamp
from schemas import event_id
from schemas.catalogue import NEWS, NEWS_FRAMES
from schemas.codec import Codec
from tidewire.clock import NS_PER_SECOND

WINDOW_NS = 48 * 3600 * NS_PER_SECOND
"""So old may an article be (by its last change) that a restart still knows it."""
LARGEST_TAIL = 5_000
"""Articles of a partition that a start reads; some 130 a day are written."""


class NewsEncoder:
    """Messages to (key, value) of their Kafka records; None when the log already holds the revision."""

    frames = NEWS_FRAMES

    def __init__(self, codec: Codec, *, owner_epoch: int, source: str = "ws") -> None:
        self._stamp = Stamp(codec, owner_epoch=owner_epoch, source=source)
        self._known = Known()

    def frame(self, received_ns: int) -> None:
        """The following messages were received at this time (ns since 1970)."""
        self._stamp.received = received_ns

    def channels(self) -> Mapping[str, Channel]:
        """Channels by the type T of their messages."""
        return {"n": Channel("news", NEWS, self.news, "updated_at")}

    def whole(self, raw: bytes) -> None:
        """Every frame is taken message by message: there are few."""

    def tails(self) -> tuple[Tail, ...]:
        """The revisions of the last two days."""
        return (Tail((NEWS,), WINDOW_NS, LARGEST_TAIL, lambda _, r: r["event_id"], self._known.repeats),)

    def news(self, m: Message) -> tuple[bytes, bytes] | None:
        """T=n."""
        content = normalize_news.news(m)
        event = event_id.news_id(content["provider"], content["id"], content["revision"])
        value = self._stamp.record("news", content, event)
        return None if self._known.repeats(event) else (content["id"].encode(), value)
