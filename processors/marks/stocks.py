"""Stock prices for marks, out of the features: what StockFeatures has just sent, and what its table holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from faust.types import TP

from processors.marks.price import Price
from processors.marks.sender import Marks
from processors.stock_features import StockFeatures


class StockPrices:
    """Between the features and the marks; while nobody holds anything it costs one comparison a batch."""

    def __init__(self, features: StockFeatures, marks: Marks) -> None:
        self._features, self._marks = features, marks
        self._topic = features.components[0].topic
        features.sender.watcher = self
        marks.current.append(self.current)

    def wants(self) -> bool:
        """Whether any symbol is held."""
        return len(self._marks.holders) > 0

    async def take_features(self, partition: int, rows: Sequence[tuple[bytes, Mapping[str, Any]]]) -> None:
        """Offer the prices of the held symbols among these features."""
        holders = self._marks.holders
        prices = [_price(record) for _, record in rows if record["symbol"] in holders]
        if prices:
            await self._marks.take(TP(self._topic, partition), prices)

    def current(self, symbol: str) -> Price | None:
        """The price of a symbol in the table, None: not known here."""
        record = self._features.current(symbol)
        return None if record is None else _price(record)


def _price(record: Mapping[str, Any]) -> Price:
    return Price(
        record["symbol"],
        record["ts"],
        record["bid"],
        record["ask"],
        record["last"],
        record["received_ts"],
        record["source"],
    )
