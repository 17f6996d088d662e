"""Halts, price bands and order imbalances of stocks: messages to records, under the entrance's rules.

They are rare where trades and quotes are many, so there is no fast way here. Alpaca keeps no history of them:
what a socket did not bring cannot be fetched.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from producers import normalize
from producers.channel import Channel, Message
from producers.entrance import Window
from producers.stamp import Stamp
from schemas import event_id
from schemas.catalogue import STOCK_IMBALANCES, STOCK_LULDS, STOCK_STATUSES

NOTICES = (STOCK_STATUSES, STOCK_LULDS, STOCK_IMBALANCES)
"""The catalogue topics of their records."""


class Notices:
    """A part of the stock feed's encoder, with its stamp and its window."""

    def __init__(self, stamp: Stamp, window: Window) -> None:
        self._stamp, self._window = stamp, window

    def channels(self) -> Mapping[str, Channel]:
        """Channels by the type T of their messages."""
        return {
            "s": Channel("statuses", STOCK_STATUSES, self.status),
            "l": Channel("lulds", STOCK_LULDS, self.luld),
            "i": Channel("imbalances", STOCK_IMBALANCES, self.imbalance),
        }

    def status(self, m: Message) -> tuple[bytes, bytes] | None:
        """T=s."""
        c = normalize.status(m)
        event = event_id.status_id(c["symbol"], c["ts"], c["status_code"], c["reason_code"])
        return self._stamp.once(self._window, "stock_status", c, event)

    def luld(self, m: Message) -> tuple[bytes, bytes] | None:
        """T=l."""
        c = normalize.luld(m)
        event = event_id.luld_id(
            c["symbol"], c["ts"], c["limit_up_price"], c["limit_down_price"], c["indicator"]
        )
        return self._stamp.once(self._window, "stock_luld", c, event)

    def imbalance(self, m: Message) -> tuple[bytes, bytes]:
        """T=i. A true repeat stays a record of its own, told apart by its ordinal."""
        return self._stamp.numbered(self._window, "stock_imbalance", normalize.imbalance(m), imbalance_event)


def imbalance_event(content: Mapping[str, Any], ordinal: int) -> bytes:
    """The event id of one imbalance among identical ones."""
    return event_id.imbalance_id(content["symbol"], content["ts"], content["price"], ordinal)
