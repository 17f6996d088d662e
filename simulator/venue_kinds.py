"""What tells the venues apart: their channels, how a message is found again, what bars are made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from simulator.bars import BarFold, new_york_midnight
from simulator.crypto import bars as crypto_bars
from simulator.wire import CHANNELS, TradePart, trade_part


@dataclass(frozen=True)
class VenueKind:
    """One kind of venue."""

    name: str
    channels: Mapping[str, str]
    """Type letter -> the channel that a client subscribes."""
    locate: Callable[[Mapping[str, Any]], tuple[str, int]]
    """A published message -> the symbol of its stream and its event time in ns since 1970 UTC."""
    part: Callable[[Mapping[str, Any]], TradePart | None]
    """What bars need of a published message."""
    bars: Callable[[], BarFold]
    day_start: Callable[[int], int]
    """Start of the venue's day of a time, both in ns since 1970 UTC."""

    def metric(self, channel: str) -> str:
        """The label under which a channel's messages are counted."""
        return channel if self.name in ("stocks", channel) else f"{self.name} {channel}"


def news_stream_symbol(symbols: list[str]) -> str:
    """An article's stream: its symbols, comma separated, since it is one message whatever their number."""
    return ",".join(symbols)


def of_symbol(message: Mapping[str, Any]) -> tuple[str, int]:
    """The symbol of a message of one symbol, and its time in ns since 1970 UTC."""
    return str(message.get("S")), message["t"].to_unix_nano()


def _of_article(message: Mapping[str, Any]) -> tuple[str, int]:
    return news_stream_symbol(message["symbols"]), message["updated_at"].to_unix_nano()


def _stock_part(message: Mapping[str, Any]) -> TradePart | None:
    return trade_part(message) if message.get("T") == "t" else None


_CRYPTO_CHANNELS = {
    "t": "trades",
    "q": "quotes",
    "b": "bars",
    "u": "updatedBars",
    "d": "dailyBars",
    "o": "orderbooks",
}

STOCKS = VenueKind("stocks", CHANNELS, of_symbol, _stock_part, BarFold, new_york_midnight)
CRYPTO = VenueKind(
    "crypto",
    _CRYPTO_CHANNELS,
    of_symbol,
    crypto_bars.part_of,
    crypto_bars.bar_fold,
    crypto_bars.day_start,
)
NEWS = VenueKind("news", {"n": "news"}, _of_article, lambda _: None, BarFold, new_york_midnight)
