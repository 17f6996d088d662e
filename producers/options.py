"""The option stream's messages to records: by normalize_options.py and the codec, under the entrance's rules.

Neither trades nor quotes of options have an id: their content and an ordinal among identical ones name them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from producers import normalize_options
from producers.channel import Channel, Message, Tail
from producers.entrance import LARGEST_TAIL, WINDOW_NS, Window
from producers.stamp import Stamp
from schemas import event_id
from schemas.catalogue import OPTION_FRAMES, OPTION_QUOTES, OPTION_TRADES
from schemas.codec import Codec


class OptionEncoder:
    """Messages to (key, value) of their Kafka records. A true repeat stays a record of its own."""

    frames = OPTION_FRAMES

    def __init__(self, codec: Codec, *, owner_epoch: int, source: str = "ws") -> None:
        self._stamp = Stamp(codec, owner_epoch=owner_epoch, source=source)
        self._window = Window()

    def frame(self, received_ns: int) -> None:
        """The following messages were received at this time (ns since 1970)."""
        self._stamp.received = received_ns

    def channels(self) -> Mapping[str, Channel]:
        """Channels by the type T of their messages."""
        return {
            "t": Channel("trades", OPTION_TRADES, self.trade),
            "q": Channel("quotes", OPTION_QUOTES, self.quote),
        }

    def whole(self, raw: bytes) -> None:
        """Every frame is taken message by message: there are few."""

    def tails(self) -> tuple[Tail, ...]:
        """The last minute of events."""
        events = (OPTION_TRADES, OPTION_QUOTES)
        return (Tail(events, WINDOW_NS, LARGEST_TAIL, _event, lambda kept: self._window.repeats(*kept)),)

    def trade(self, m: Message) -> tuple[bytes, bytes]:
        """T=t."""
        return self._stamp.numbered(self._window, "option_trade", normalize_options.trade(m), trade_event)

    def quote(self, m: Message) -> tuple[bytes, bytes]:
        """T=q."""
        return self._stamp.numbered(self._window, "option_quote", normalize_options.quote(m), quote_event)


def trade_event(content: Mapping[str, Any], ordinal: int) -> bytes:
    """The event id of one trade among identical ones."""
    c = content
    return event_id.option_trade_id(
        c["symbol"], c["ts"], c["exchange"], c["price"], c["size"], c["condition"], ordinal
    )


def quote_event(content: Mapping[str, Any], ordinal: int) -> bytes:
    """The event id of one quote among identical ones."""
    c = content
    return event_id.option_quote_id(
        c["symbol"], c["ts"],
        c["bid_exchange"], c["bid_price"], c["bid_size"],
        c["ask_exchange"], c["ask_price"], c["ask_size"],
        c["condition"], ordinal,
    )  # fmt: skip


def _event(stem: str, record: Mapping[str, Any]) -> tuple[int, bytes]:
    # Counted under the id of the first among identical ones, as `numbered` does.
    return record["ts"], (trade_event if stem == "option_trade" else quote_event)(record, 0)
