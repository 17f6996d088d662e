"""The channels of the screen, by the names that it shows, and what is true of each."""

from __future__ import annotations

STOCKS = ("trades", "quotes", "bars")
CRYPTO = ("crypto trades", "crypto quotes", "crypto bars")
OPTIONS = ("option trades", "option quotes")
NEWS, ORDERS = "news", "order events"
OTHERS = ("statuses", "bands", "imbalances", "corrections", "order books")
"""Channels that are shown together, by their counts."""
CHANNELS = (*STOCKS, *OPTIONS, *CRYPTO, NEWS, ORDERS, *OTHERS)
FOLDED = ("trades", "quotes")
"""The channels whose folded records the feature table counts."""
COMMITTED = (NEWS, ORDERS)
"""Channels that processors read to the end, too, as their committed offsets tell."""
