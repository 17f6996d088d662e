"""The broker as it was before it was stopped or killed, from what its journal kept. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from simulator.broker.book import Adjustment
from simulator.broker.engine import Broker
from simulator.broker.journal import adjustment_of, execution_of
from simulator.broker.orders import unpack


def restore(broker: Broker, entries: Iterable[dict[str, Any]]) -> bool:
    """Put the broker back; returns whether there was anything."""
    orders: dict[str, dict[str, Any]] = {}
    happened: dict[str, tuple[int, dict[str, Any] | Adjustment]] = {}
    any_at_all = False
    for entry in entries:
        any_at_all = True
        changed = entry.get("changed", {})
        orders.update({kept["id"]: kept for kept in changed.get("orders", ())})
        happened.update(_in_order(changed))  # a revised execution keeps its place
        _note(broker, entry)
    for n, event in happened.values():
        if n not in broker.accounts:
            continue
        if isinstance(event, Adjustment):
            broker.accounts[n].book.adjust(event)
        else:
            broker.accounts[n].fill(execution_of(event))
    for order in sorted(map(unpack, orders.values()), key=lambda o: (o.submitted, o.id)):
        if order.account in broker.accounts:
            broker.accounts[order.account].keep(order)
    for account in broker.accounts.values():
        for order in account.orders.values():
            if order.open and order.role != "leg" and (order.status != "held" or order.live):
                broker.exchange.wait(order)
    return any_at_all


def _in_order(changed: dict[str, Any]) -> dict[str, tuple[int, dict[str, Any] | Adjustment]]:
    """Executions and adjustments of one change by their ids, as they followed one another."""
    found: list[tuple[int, str, int, dict[str, Any] | Adjustment]] = []
    found += [(kept["at"], kept["id"], n, kept) for n, kept in changed.get("executions", ())]
    for n, _, kept in changed.get("activities", ()):
        if kept is not None:
            found.append((kept["at"], kept["activity"], n, adjustment_of(kept)))
    return {key: (n, event) for _, key, n, event in sorted(found, key=lambda each: each[:2])}


def _note(broker: Broker, entry: dict[str, Any]) -> None:
    if "event_id" in entry:
        broker.ulids.after(entry["event_id"])
        broker.exchange.stamped(entry["ts"])
    if "opened" in entry:
        for account in broker.accounts.values():
            account.opened = entry["opened"]
    for n, body, kept in entry.get("changed", {}).get("activities", ()):
        broker.exchange.stamped(kept["at"] if kept is not None else 0)
        if n in broker.accounts:
            broker.accounts[n].transfer(body)
    if "crypto_fee" in entry:
        broker.exchange.crypto_fee = Decimal(entry["crypto_fee"])
    account_number = entry.get("account")
    if account_number not in broker.accounts:
        return
    account = broker.accounts[account_number]
    if "transfer" in entry:
        account.transfer(entry["transfer"])
    if "configuration" in entry:
        account.configuration.update(entry["configuration"])
    if "closing" in entry:
        account.closed_at = entry["closing"]
        account.last_equity = Decimal(entry["equity"])
        account.last_prices = {symbol: Decimal(price) for symbol, price in entry["prices"].items()}
    if "sample" in entry:
        account.samples.append((entry["sample"], Decimal(entry["equity"])))
