"""The last feature record of each symbol: what the table folded, read from its output topic."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import polars as pl

from schemas.catalogue import STOCK_FEATURES
from tidewire.columns import Decoder, Version
from tidewire.config import Settings
from verify.topic import decoded

STEM = "stock_features"


@dataclass(frozen=True, slots=True)
class Features:
    """One row per symbol (columns of stock_features.avsc); `records`: feature records in all."""

    last: pl.DataFrame
    records: int

    def folded(self, channel: str) -> int:
        """Trades or quotes that the table has folded, over all symbols."""
        return int(self.last[f"{channel}_folded"].sum())


async def read(settings: Settings, versions: Callable[[str], Sequence[Version]]) -> Features:
    """Read the whole topic, keeping the newest record of each symbol.

    Raises:
        UnreachableError: Kafka does not answer.
    """
    decoder = Decoder(versions(STEM))
    last = decoder([]).frame
    records = 0
    async for _, batch in decoded(settings, settings.tidewire_topic_prefix + STOCK_FEATURES, decoder):
        records += batch.frame.height
        # A symbol lives in one partition and its records come in order, so the newest is the last one seen.
        last = pl.concat([last, batch.frame]).unique("symbol", keep="last", maintain_order=True)
    return Features(last, records)
