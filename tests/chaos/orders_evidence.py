"""Collects what a run has left behind: journal, ledger and topics, read without the executor's own code."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson
import psycopg

from schemas.catalogue import ORDER_INTENTS, ORDER_RESULTS
from schemas.codec import load_codec
from tests.chaos.orders_line import Line
from tests.chaos.orders_records import Attempt, Evidence, Happened, Kept
from tests.integration.topic_content import held

_NS = "(extract(epoch FROM {}) * 1000000)::int8 * 1000"
_KEPT = f"SELECT intent_id, phase, outcome, {_NS.format('taken_at')} FROM order_intents_ledger"
_ATTEMPTS = (
    "SELECT intent_id, attempt, client_order_id, order_id, filled_quantity,"
    f" {_NS.format('sent_at')} FROM order_attempts"
)
_OUTBOX = "SELECT event_id, value FROM order_results_outbox ORDER BY id"
_WAITING = "SELECT count(*)::int4 FROM order_results_outbox WHERE published_at IS NULL"


async def collect(line: Line, switched: Iterable[tuple[int, int]] = (), old: Iterable[str] = ()) -> Evidence:
    """Once nothing moves any more."""
    codec = load_codec(line.settings)
    told = await held(line.settings, ORDER_RESULTS)
    published = [(_event(codec.decode(r.value)[1]), bytes(r.value)) for r in told]
    evidence = Evidence(
        journal=journal(line.journal, line.accounts),
        accepted=dict(line.accepted),
        intents={
            content["intent_id"]: content
            for content in (codec.decode(r.value)[1] for r in await held(line.settings, ORDER_INTENTS))
        },
        published=published,
        results=[codec.decode(value)[1] for value in dict(published).values()],
        switched=list(switched),
        old=frozenset(old),
        max_age={name: seconds * 10**9 for name, seconds in line.max_age.items()},
    )
    await asyncio.to_thread(_ledger, line.url, evidence)
    return evidence


def journal(path: Path, accounts: list[str]) -> list[Happened]:
    """The simulator's own story, line by line."""
    return [_line(orjson.loads(raw), accounts) for raw in path.read_bytes().splitlines()]


def _line(kept: dict[str, Any], accounts: list[str]) -> Happened:
    data = kept["message"]["data"]
    order = data["order"]
    return Happened(
        account=accounts[kept["account"] - 1],
        event=data["event"],
        status=order["status"],
        order_id=order["id"],
        client_order_id=order["client_order_id"],
        symbol=order["symbol"],
        side=order["side"],
        quantity=Decimal(order["qty"] or 0),
        filled=Decimal(data["qty"]) if data["event"] in ("fill", "partial_fill") else Decimal(0),
    )


def _event(result: dict[str, Any]) -> bytes:
    return bytes(result["event_id"])


def _ledger(url: str, evidence: Evidence) -> None:
    with psycopg.connect(url) as connection:
        evidence.kept = [Kept(*row) for row in connection.execute(_KEPT.encode())]
        evidence.attempts = [Attempt(*row) for row in connection.execute(_ATTEMPTS.encode())]
        evidence.outbox = [(bytes(e), bytes(v)) for e, v in connection.execute(_OUTBOX.encode())]
        row = connection.execute(_WAITING.encode()).fetchone()
        evidence.waiting = row[0] if row else 0
