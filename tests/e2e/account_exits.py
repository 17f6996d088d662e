"""Exits of a demo's accounts, judged by the broker's journal and not by what the line says of itself."""

from __future__ import annotations

import json
from collections import defaultdict
from decimal import Decimal
from typing import Any

import psycopg

from schemas.order_ids import PREFIX
from tests.e2e.demo_process import Ended, database_url
from tidewire.config import Settings

ENDED = "SELECT count(*) FROM order_intents_ledger WHERE kind = 'exit' AND outcome = 'filled'"
ORDERS = "SELECT order_id FROM order_attempts WHERE order_id IS NOT NULL"


def filled(settings: Settings) -> bool:
    """Whether an exit has been filled; none has where the executor's tables are not there yet."""
    with psycopg.connect(database_url(settings)) as connection:
        if connection.execute("SELECT to_regclass('order_intents_ledger')").fetchone() == (None,):
            return False
        row = connection.execute(ENDED).fetchone()
        return row is not None and row[0] > 0


def stored(settings: Settings) -> int:
    """Trades in PostgreSQL; a demo that is interrupted before it has stored anything makes no report."""
    with psycopg.connect(database_url(settings)) as connection:
        row = connection.execute("SELECT count(*) FROM trades").fetchone()
        return 0 if row is None else int(row[0])


def at_the_broker(settings: Settings) -> list[str]:
    """What is wrong with the exits' orders, in words: one order each, and none that passes through zero."""
    orders: dict[str, set[str]] = defaultdict(set)
    wrong: list[str] = []
    journal = settings.tidewire_home / "simulator" / "trading" / "updates.jsonl"
    for line in journal.read_text("utf-8").splitlines():
        data = json.loads(line)["message"]["data"]
        order: dict[str, Any] = data["order"]
        if not order["client_order_id"].startswith(PREFIX):
            continue
        orders[order["client_order_id"]].add(order["id"])
        if data["event"] in ("fill", "partial_fill"):
            left = Decimal(data["position_qty"])
            if (left < 0) if order["side"] == "sell" else (left > 0):
                wrong.append(f"{order['side']} {order['symbol']} left {left}: the exit went the wrong way")
    wrong += [f"{name} has {len(ids)} orders" for name, ids in orders.items() if len(ids) > 1]
    with psycopg.connect(database_url(settings)) as connection:
        known = {row[0] for row in connection.execute(ORDERS)}
    placed = {id for ids in orders.values() for id in ids}
    wrong += [f"order {id} is not in the ledger" for id in placed - known]
    wrong += [f"order {id} is not at the broker" for id in known - placed]
    return wrong if placed else ["no exit has ordered anything"]


def reported(ended: Ended) -> None:
    """The report counts them: every trigger has its intent, every intent was taken, one was closed."""
    exits = ended.json["exits"]
    assert exits["triggers"] == exits["intents"] == exits["taken"] > 0, exits
    assert exits["closed"] > 0, exits
    assert exits["closed"] + exits["not_closed"] + exits["still_open"] == exits["intents"], exits
