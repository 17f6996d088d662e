"""The ten accumulators one trade at a time: what stock Faust folds, and what all are checked against."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

TRADES, VOLUME, NOTIONAL, OPEN, LAST, HIGH, LOW, TS, SQUARES, ODD = range(10)


def add(held: list[int] | None, trade: Mapping[str, Any]) -> list[int]:
    """A symbol's accumulators with one more trade; `held` is not changed."""
    price, size = trade["price"], trade["size"]
    tick = round(price * 1e4)
    values = list(held) if held is not None else [0, 0, 0, tick, tick, tick, tick, 0, 0, 0]
    step = tick - values[LAST]
    values[TRADES] += 1
    values[VOLUME] += size
    values[NOTIONAL] += round(price * size * 1e6)
    values[LAST] = tick
    values[HIGH] = max(values[HIGH], tick)
    values[LOW] = min(values[LOW], tick)
    values[TS] = trade["ts"]
    values[SQUARES] += step * step
    values[ODD] += size < 100
    return values
