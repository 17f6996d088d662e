"""A holding as the row of a table, without its executions and activities, which have their own. Pure."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from processors.portfolio import broker_cost
from processors.portfolio.cost import Standing
from processors.portfolio.holding import Broker, Holding, Price


def to_row(holding: Holding) -> dict[str, Any]:
    """Everything but the executions and activities, as JSON can hold it."""
    b, absorbed = holding.base, holding.story.absorbed
    return {
        "class": holding.asset_class,
        "base": [
            *map(str, (b.quantity, b.cost, b.realized, b.realized_before, b.flow)),
            b.epoch,
            b.opened_ts,
        ],
        "lots": broker_cost.to_row(holding.story.base_lots),
        "carried": {group: str(cost) for group, cost in holding.story.carried.items()},
        "base_price": _price_row(holding.base_price),
        "absorbed": None if absorbed is None else [*absorbed[:2], str(absorbed[2])],
        "chunks": holding.chunks,
        "mark": _price_row(holding.mark),
        "next_mark": holding.next_mark,
        "broker": _broker_row(holding.broker),
        "differs": [holding.differs_since, holding.unexplained],
        "newest": list(holding.newest),
    }


def from_row(account: str, symbol: str, row: dict[str, Any]) -> Holding:
    """The holding of `to_row`, without its executions and activities."""
    quantity, cost, realized, before, flow = map(Decimal, row["base"][:5])
    base = Standing(quantity, cost, realized, before, flow, *row["base"][5:])
    held = Holding(account, symbol, row["class"], base)
    if "lots" in row:
        held.story.base_lots = held.story.lots = broker_cost.from_row(row["lots"])
    held.story.carried = {group: Decimal(cost) for group, cost in row.get("carried", {}).items()}
    held.base_price = _row_price(row["base_price"])
    if row["absorbed"] is not None:
        ts, order, cumulative = row["absorbed"]
        held.story.absorbed = ts, order, Decimal(cumulative)
    held.chunks, held.mark, held.next_mark = row["chunks"], _row_price(row["mark"]), row["next_mark"]
    if row["broker"] is not None:
        said, average, received = row["broker"]
        held.broker = Broker(Decimal(said), None if average is None else Decimal(average), received)
    held.differs_since, held.unexplained = row.get("differs", (None, False))
    received_ts, ts, source, id = row["newest"]
    held.newest = received_ts, ts, source, id
    return held


def _price_row(price: Price | None) -> list[Any] | None:
    return None if price is None else [str(price.price), price.ts]


def _row_price(row: list[Any] | None) -> Price | None:
    return None if row is None else Price(Decimal(row[0]), row[1])


def _broker_row(broker: Broker | None) -> list[Any] | None:
    if broker is None:
        return None
    average = None if broker.average_price is None else str(broker.average_price)
    return [str(broker.quantity), average, broker.received_ts]
