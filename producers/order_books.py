"""Order books of crypto pairs: messages to records, and each pair's book folded and checked on the way.

Every message is published as it came; what the fold finds odd is counted, and is Alpaca's to explain.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from producers import normalize_crypto
from producers.channel import Message
from producers.entrance import Window
from producers.stamp import Stamp
from schemas import event_id
from schemas.order_book import OrderBook
from tidewire.metrics import ORDER_BOOK_ODDITIES


class OrderBooks:
    """A part of the crypto feed's encoder, with its stamp and its window."""

    def __init__(self, stamp: Stamp, window: Window) -> None:
        self._stamp, self._window = stamp, window
        self._books: dict[str, OrderBook] = defaultdict(OrderBook)

    def order_book(self, m: Message) -> tuple[bytes, bytes]:
        """T=o. A true repeat stays a record of its own, told apart by its ordinal."""
        content = normalize_crypto.order_book(m)
        record = self._stamp.numbered(self._window, "crypto_orderbook", content, order_book_event)
        for oddity in self._books[content["symbol"]].apply(content):
            ORDER_BOOK_ODDITIES.labels(oddity).inc()
        return record


def order_book_event(content: Mapping[str, Any], ordinal: int) -> bytes:
    """The event id of one book, or one change of a book, among identical ones."""
    c = content
    bids = tuple(zip(c["bid_prices"], c["bid_sizes"], strict=True))
    asks = tuple(zip(c["ask_prices"], c["ask_sizes"], strict=True))
    return event_id.crypto_orderbook_id(c["symbol"], c["ts"], c["reset"], bids, asks, ordinal)
