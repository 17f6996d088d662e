"""Where an order is when, on its way from the broker to the clients' screens.

Every process of the benchmark is on one machine, so their clocks are one.

::

    accepted  the broker has answered the order's POST
    heard     the accounts producer has its fill, from the broker's socket
    folded    the portfolio has made the position's record: the fill went through Kafka, and was folded
    pushed    a client has position_update: the record went through Kafka, and the gateway
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from benchmarks import whole_topic
from schemas.catalogue import PORTFOLIO_POSITIONS, TRADE_UPDATES
from schemas.fills import FILL_EVENTS
from tidewire.config import Settings

NAMES = ("accepted", "heard", "folded", "pushed")
_MS = 1e6


@dataclass(frozen=True, slots=True)
class Order:
    """One order of the benchmark, and when it was sent and answered; ns since 1970."""

    number: int
    symbol: str
    sent: int
    accepted: int


@dataclass(frozen=True, slots=True)
class Stamps:
    """One update of one client: ms since its order was sent, by the stage that ended then."""

    order: Order
    ends: Mapping[str, float]


async def stamps(settings: Settings, pushed: Iterable[tuple[Order, int]]) -> list[Stamps]:
    """Of every update (its order, and when the client had it, ns), the ends of its stages.

    Each account may have one order a symbol among them, and its fill must be the last there is.
    """
    heard = {
        (record["account"], record["symbol"]): record["received_ts"] / _MS
        async for _, record in whole_topic.records(settings, TRADE_UPDATES)
        if record["event"] in FILL_EVENTS
    }
    folded: dict[tuple[str, str], tuple[Any, float]] = {}
    async for made, record in whole_topic.records(settings, PORTFOLIO_POSITIONS):
        key, quantity = (record["account"], record["symbol"]), record["quantity"]
        if key not in folded or folded[key][0] != quantity:  # later ones are of marks alone
            folded[key] = quantity, made
    found = []
    for order, at in pushed:
        key, sent = (f"demo-{order.number}", order.symbol), order.sent / _MS
        ends = (order.accepted / _MS, heard[key], folded[key][1], at / _MS)
        found.append(Stamps(order, {name: end - sent for name, end in zip(NAMES, ends, strict=True)}))
    return found


def figures(found: Iterable[Stamps]) -> dict[str, float]:
    """Percentiles in ms since the order was sent; of the whole way, then of each stage's end before."""
    every, shown = list(found), dict[str, float]()
    for name in ("pushed", *NAMES[:-1]):
        waits = sorted(stamp.ends[name] for stamp in every)
        prefix = "" if name == "pushed" else f"{name}_"
        shown |= {f"{prefix}p50": waits[len(waits) // 2], f"{prefix}p99": waits[int(len(waits) * 0.99)]}
    return shown | {"max": max(stamp.ends["pushed"] for stamp in every)}
