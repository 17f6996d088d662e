"""What is audited of a configuration: feeds, channels, symbols, and how long a minute must rest. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from producers.audit.minutes import Lane
from schemas import gaps
from schemas.catalogue import (
    CRYPTO_BARS,
    CRYPTO_QUOTES,
    CRYPTO_TRADES,
    OPTION_TRADES,
    STOCK_BARS,
    STOCK_QUOTES,
    STOCK_TRADES,
)
from tidewire.clock import NS_PER_SECOND
from tidewire.config import Settings
from tidewire.placing import partition_of

DELAY_NS = 35 * NS_PER_SECOND
"""Late trades' corrected bars come half a minute after the bar."""
SIP_DELAY_NS = 15 * 60 * NS_PER_SECOND
"""The basic plan shows SIP's history no sooner."""
EVERY = "*"


@dataclass(frozen=True, slots=True)
class Audited:
    """One kind of feed. `topics`: channel -> topic (a constant of the catalogue) and schema."""

    kind: str
    feed: str
    symbols: tuple[str, ...]
    topics: Mapping[str, tuple[str, str]]
    delay_ns: int

    def symbols_of(self, lane: Lane, partition: int, partitions: int, minute: int) -> set[str]:
        """Whom to compare in a minute: the configured symbols of the partition, and those that somebody
        else had subscribed all through it.
        """
        if EVERY in self.symbols:
            return lane.seen_until(minute)
        fixed = {s for s in self.symbols if partition_of(s.encode(), partitions) == partition}
        return fixed | lane.seen_about(minute)


def audited(settings: Settings) -> tuple[Audited, ...]:
    """The feeds that Alpaca keeps a history of; its test stream has none."""
    found = []
    sip = settings.tidewire_feed == "sip" and settings.tidewire_plan == "basic"
    stocks = f"stocks:{settings.tidewire_feed}"
    if gaps.has_history(stocks, "trades"):
        topics = {
            "trades": (STOCK_TRADES, "stock_trade"),
            "bars": (STOCK_BARS, "stock_bar"),
            "quotes": (STOCK_QUOTES, "stock_quote"),
        }
        delay = DELAY_NS + (SIP_DELAY_NS if sip else 0)
        found.append(Audited("stocks", stocks, settings.symbols, topics, delay))
    if settings.tidewire_feed == "test":
        return tuple(found)
    if settings.tidewire_crypto_symbols:
        topics = {
            "trades": (CRYPTO_TRADES, "crypto_trade"),
            "bars": (CRYPTO_BARS, "crypto_bar"),
            "quotes": (CRYPTO_QUOTES, "crypto_quote"),
        }
        feed = f"crypto:{settings.tidewire_crypto_location}"
        found.append(Audited("crypto", feed, settings.tidewire_crypto_symbols, topics, DELAY_NS))
    if settings.tidewire_option_symbols:
        topics = {"trades": (OPTION_TRADES, "option_trade")}
        feed = f"options:{settings.tidewire_option_feed}"
        found.append(Audited("options", feed, settings.tidewire_option_symbols, topics, DELAY_NS))
    return tuple(found)
