"""Multi-leg option orders: all legs at once, at the model's quotes, when their net price is within the limit.

Net price: what one of the order costs, legs bought at the ask less legs sold at the bid, times their ratios;
negative for a credit. There are no partial fills, and legs have no events of their own.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

from simulator.broker.amounts import ZERO, text
from simulator.broker.entry import Entry
from simulator.broker.floor import Floor
from simulator.broker.orders import Order, add_fill
from simulator.broker.quotes import contract
from simulator.broker.rejections import invalid
from simulator.rfc3339 import show


def check(entry: Entry, known: set[str], now: int) -> None:
    """Every leg is an option that has not expired.

    Raises:
        Rejection: one is not.
    """
    for leg in entry.legs:
        option = contract(leg.symbol)
        if option is None or option.underlying not in known or option.expires <= now:
            raise invalid(f'asset "{leg.symbol}" not found')
    if entry.qty is None or entry.qty != entry.qty.to_integral_value():
        raise invalid("qty must be integer")


def legs(entry: Entry, parent: Order, new_id: Callable[[], str]) -> list[Order]:
    """The orders of the legs."""
    return [
        Order(
            new_id(),
            parent.account,
            new_id(),
            leg.symbol,
            "us_option",
            leg.side,
            "",
            parent.tif,
            order_class="mleg",
            qty=(parent.qty or ZERO) * leg.ratio,
            status="accepted",
            intent=leg.intent or f"{leg.side}_to_open",
            created=parent.created,
            updated=parent.updated,
            submitted=parent.submitted,
            expires=parent.expires,
            ratio=leg.ratio,
            parent=parent.id,
            role="leg",
        )
        for leg in entry.legs
    ]


def net_price(exchange: Floor, found: list[Order], now: int) -> tuple[Decimal, list[Decimal]] | None:
    """(net, price of each leg); None while an underlying has no quote."""
    prices = []
    for leg in found:
        quote = exchange.view.quote(leg.symbol, now)
        if quote is None:
            return None
        prices.append(quote.ask if leg.side == "buy" else quote.bid)
    signed = zip(found, prices, strict=True)
    return sum((leg.sign * (leg.ratio or ZERO) * price for leg, price in signed), ZERO), prices


def step(exchange: Floor, parent: Order, now: int) -> None:
    """Fill the parent and its legs if the net price allows."""
    found = [leg for leg in map(exchange.find, parent.legs) if leg is not None]
    if parent.role or not found:
        return
    priced = net_price(exchange, found, now)
    if priced is None:
        return
    net, prices = priced
    if parent.limit_price is not None and net > parent.limit_price:
        return
    executions = [
        exchange.fill(leg, leg.remaining, price, silent=True)
        for leg, price in zip(found, prices, strict=True)
    ]
    book = exchange.accounts[parent.account].book
    shown: list[dict[str, Any]] = [
        {
            "execution_id": e.id,
            "qty": text(e.qty),
            "price": text(e.price),
            "order_id": e.order_id,
            "symbol": e.symbol,
            "timestamp": show(e.at),
        }
        for e in executions
    ]
    qty, ts = parent.remaining, exchange.stamp()
    add_fill(parent, qty, net, ts)
    exchange.settle(parent)
    exchange.announce.say(
        parent,
        "fill",
        ts,
        price=text(net),
        qty=text(qty),
        position_qtys={e.symbol: text(book.quantity(e.symbol)) for e in executions},
        legs=shown,
    )
