"""What a held symbol is worth, as a mark record. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal, localcontext
from typing import Any

from schemas.event_id import mark_id, plain_quantity

_PLACES = Decimal(1).scaleb(-18)
_DIGITS = 60  # 20 before the point, 18 behind it, and some to spare
_LARGEST = 1e19  # what a record of 38 digits can hold


@dataclass(frozen=True, slots=True)
class Price:
    """The newest prices of a symbol as Alpaca's float64 (USD), None or 0 where there is none.

    `ts` is the event time of the newest of them, `received_ts` the receive time of the newest input; ns.
    """

    symbol: str
    ts: int
    bid: float | None
    ask: float | None
    last: float | None
    received_ts: int
    source: str


def mark(price: Price) -> dict[str, Any] | None:
    """The mark record, or None where there is no price at all.

    The middle of bid and ask where both are positive and not crossed, else the last trade.
    """
    bid, ask, last = _decimal(price.bid), _decimal(price.ask), _decimal(price.last)
    value = _middle(bid, ask) or last
    if value is None:
        return None
    return {
        "symbol": price.symbol,
        "ts": price.ts,
        "price": value,
        "bid": bid,
        "ask": ask,
        "last": last,
        "received_ts": price.received_ts,
        "source": price.source,
        "event_id": mark_id(price.symbol, price.ts, plain_quantity(value)),
    }


def _middle(bid: Decimal | None, ask: Decimal | None) -> Decimal | None:
    if bid is None or ask is None or bid > ask:
        return None
    with localcontext(prec=_DIGITS):
        return ((bid + ask) / 2).quantize(_PLACES)


def _decimal(price: float | None) -> Decimal | None:
    """The decimal that Alpaca wrote, to 18 places; None where that is no positive price."""
    if not price or not 0 < price < _LARGEST:
        return None
    with localcontext(prec=_DIGITS):
        return Decimal(repr(float(price))).quantize(_PLACES) or None
