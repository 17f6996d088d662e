"""Prices as records -> calls of the fold, whatever their asset class. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from processors.features.row import MAX_TS
from schemas.codec import Record

if TYPE_CHECKING:
    from processors.exits.coordinates import Coordinates
    from processors.exits.fold import PartitionExits

PRICES = {"quote": ("bid_price", "ask_price"), "trade": ("price",)}
SIZES = {"quote": ("bid_size", "ask_size"), "trade": ("size",)}
MAX_PRICE = 1e15
"""Above it a price or a size cannot be."""


def kind_of(stem: str) -> str:
    """quote or trade, of a schema such as option_quote."""
    return stem.rpartition("_")[2]


def refusal(stem: str, record: Record) -> str | None:
    """Why a record's numbers or time cannot be; None: they can."""
    kind = kind_of(stem)
    for name in (*PRICES[kind], *SIZES[kind]):
        if not 0 <= record[name] <= MAX_PRICE:  # not a number is wrong as well
            what = "price" if name in PRICES[kind] else "size"
            return f"{name} {record[name]} is not a {what}"
    if not 0 <= record["ts"] < MAX_TS:
        return f"event time {record['ts']} is not between 1970 and 2100"
    return None


def fold(exits: PartitionExits, stem: str, record: Record, at: Coordinates) -> str:
    """Fold one sound record; returns what the fold says of it."""
    if kind_of(stem) == "quote":
        return exits.quote(
            record["symbol"],
            record["bid_price"],
            record["ask_price"],
            record["bid_size"],
            record["ask_size"],
            conditions(record),
            record["ts"],
            record["received_ts"],
            at,
            record["source"],
        )
    return exits.trade(
        record["symbol"],
        record["price"],
        record["size"],
        conditions(record),
        record.get("exchange", ""),
        record["ts"],
        record["received_ts"],
        at,
        record["source"],
        record.get("tape", ""),
    )


def conditions(record: Record) -> list[str]:
    """Conditions of a stock's record, the one of an option's, none of a pair's."""
    found: Any = record.get("conditions")
    if found is None:
        found = [record["condition"]] if record.get("condition") else []
    return list(found)
