"""Which stocks move so much that they are worth a subscription. Pure.

A mover is up more than 30% on the previous day's close, with more than five times its usual volume: the mean
of its last 20 whole days. A stock without a history has no usual volume and is none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

GAIN = Decimal("0.30")
SURGE = 5
DAYS = 20


@dataclass(frozen=True, slots=True)
class Standing:
    """A stock today: last price and the previous close in USD, shares traded."""

    price: Decimal
    previous_close: Decimal
    volume: int


def usual_volume(volumes: Sequence[int]) -> Decimal | None:
    """Mean of the last 20 whole days' volumes, oldest first; None without any."""
    last = volumes[-DAYS:]
    return Decimal(sum(last)) / len(last) if last else None


def is_mover(standing: Standing, usual: Decimal | None) -> bool:
    """Whether both bounds are passed; a usual volume or a close of 0 says nothing."""
    if not usual or standing.previous_close <= 0:
        return False
    gain = standing.price / standing.previous_close - 1
    return gain > GAIN and standing.volume > SURGE * usual


def movers(standings: Mapping[str, Standing], usual: Mapping[str, Decimal | None]) -> set[str]:
    """Those of the symbols that are movers."""
    return {symbol for symbol, standing in standings.items() if is_mover(standing, usual.get(symbol))}
