"""The crypto stream's messages to records: by normalize_crypto.py and the codec, under the entrance's rules.

Crypto is hundreds of messages a second where stocks are hundreds of thousands, so there is no fast way here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from producers import normalize_crypto
from producers.channel import Channel, Message, Tail
from producers.entrance import BARS_WINDOW_NS, LARGEST_TAIL, WINDOW_NS, Bars, Window
from producers.order_books import OrderBooks, order_book_event
from producers.stamp import Stamp
from schemas import event_id
from schemas.catalogue import (
    CRYPTO_BARS,
    CRYPTO_FRAMES,
    CRYPTO_ORDERBOOKS,
    CRYPTO_QUOTES,
    CRYPTO_TRADES,
)
from schemas.codec import Codec


class CryptoEncoder:
    """Messages to (key, value) of their Kafka records; None when the log already holds the event."""

    frames = CRYPTO_FRAMES

    def __init__(self, codec: Codec, *, owner_epoch: int, source: str = "ws") -> None:
        self._stamp = Stamp(codec, owner_epoch=owner_epoch, source=source)
        self._window, self._bars = Window(), Bars()
        self._books = OrderBooks(self._stamp, self._window)

    def frame(self, received_ns: int) -> None:
        """The following messages were received at this time (ns since 1970)."""
        self._stamp.received = received_ns

    def channels(self) -> Mapping[str, Channel]:
        """Channels by the type T of their messages."""
        return {
            "t": Channel("trades", CRYPTO_TRADES, self.trade),
            "q": Channel("quotes", CRYPTO_QUOTES, self.quote),
            "b": Channel("bars", CRYPTO_BARS, self.bar),
            "u": Channel("updatedBars", CRYPTO_BARS, self.bar),
            "d": Channel("dailyBars", CRYPTO_BARS, self.bar),
            "o": Channel("orderbooks", CRYPTO_ORDERBOOKS, self._books.order_book),
        }

    def whole(self, raw: bytes) -> None:
        """Every frame is taken message by message: there are few."""

    def tails(self) -> tuple[Tail, ...]:
        """The last minute of trades, quotes and order books, and the bars of a day."""
        events = (CRYPTO_TRADES, CRYPTO_QUOTES, CRYPTO_ORDERBOOKS)
        return (
            Tail(events, WINDOW_NS, LARGEST_TAIL, _event, lambda kept: self._window.repeats(*kept)),
            Tail((CRYPTO_BARS,), BARS_WINDOW_NS, LARGEST_TAIL, lambda _, r: r, self._bars.recall),
        )

    def trade(self, m: Message) -> tuple[bytes, bytes] | None:
        """T=t."""
        content = normalize_crypto.trade(m)
        event = event_id.crypto_trade_id(content["symbol"], content["id"], content["ts"])
        return self._stamp.once(self._window, "crypto_trade", content, event)

    def quote(self, m: Message) -> tuple[bytes, bytes] | None:
        """T=q. A true repeat stays a record of its own, told apart by its ordinal; so never None."""
        return self._stamp.numbered(self._window, "crypto_quote", normalize_crypto.quote(m), quote_event)

    def bar(self, m: Message) -> tuple[bytes, bytes] | None:
        """T=b, u, d."""
        content = normalize_crypto.bar(m)
        revision = self._bars.revision(content, late=m["T"] == "u")
        if revision is None:
            return None
        content["revision"] = revision
        event = event_id.crypto_bar_id(content["symbol"], content["interval"], content["ts"], revision)
        return self._stamp.keyed("crypto_bar", content, event)


def quote_event(content: Mapping[str, Any], ordinal: int) -> bytes:
    """The event id of one quote among identical ones."""
    c = content
    return event_id.crypto_quote_id(
        c["symbol"], c["ts"], c["bid_price"], c["bid_size"], c["ask_price"], c["ask_size"], ordinal
    )


def _event(stem: str, record: Mapping[str, Any]) -> tuple[int, bytes]:
    # What has no id is counted under the id of the first among identical ones, as above.
    numbered = _NUMBERED.get(stem)
    return record["ts"], record["event_id"] if numbered is None else numbered(record, 0)


_NUMBERED = {"crypto_quote": quote_event, "crypto_orderbook": order_book_event}
