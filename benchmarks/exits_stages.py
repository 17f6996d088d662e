"""Where an exit is when, on its way from the quote to the order at the broker.

Every process of the benchmark is on one machine, so their clocks are one.

::

    fired    the trigger is encoded: the quote was fetched, decoded, folded
    durable  the intent is encoded: Kafka has the trigger, and the row that says it
    taken    the executor has the intent, and its transaction begins
    sending  the broker has been looked at, and the order's transaction begins
    post     the order's POST comes in at the broker
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

import psycopg

from benchmarks import whole_topic
from schemas.catalogue import EXIT_TRIGGERS, ORDER_INTENTS
from sinks.postgres import connection
from tidewire.config import Settings

NAMES = ("fired", "durable", "taken", "sending", "post")
_LEDGER = b"""SELECT i.intent_id, (extract(epoch from i.taken_at) * 1000)::float8,
    (extract(epoch from a.sent_at) * 1000)::float8
    FROM order_intents_ledger i JOIN order_attempts a USING (account, intent_id) WHERE a.attempt = 0"""


@dataclass(frozen=True, slots=True)
class Stamps:
    """One exit: when its quote was sent, and each stage's end, in ms since 1970."""

    quote: float
    ends: Mapping[str, float]

    def since(self, name: str) -> float:
        """ms from the quote to the end of a stage; Kafka's own times are whole ms."""
        return self.ends[name] - self.quote


async def stamps(settings: Settings, quotes: Mapping[str, int], arrived: Mapping[str, int]) -> list[Stamps]:
    """Of every intent whose quote's time (ns) is given, with when its order came (ns)."""
    fired = await _first_times(settings, EXIT_TRIGGERS, "trigger_id")
    durable = await _first_times(settings, ORDER_INTENTS, "intent_id")
    ledger = await asyncio.to_thread(_ledger, connection.url(settings))
    found = []
    for name, ns in quotes.items():
        taken, sending = ledger[name]
        ends = (fired[name], durable[name], taken, sending, arrived[name] / 1e6)
        found.append(Stamps(ns / 1e6, dict(zip(NAMES, ends, strict=True))))
    return found


async def _first_times(settings: Settings, topic: str, field: str) -> dict[str, float]:
    """By id, when its first record was made, ms."""
    found: dict[str, float] = {}
    async for made, record in whole_topic.records(settings, topic):
        found.setdefault(record[field], made)
    return found


def _ledger(url: str) -> dict[str, tuple[float, float]]:
    with psycopg.connect(url) as database:
        return {name: (taken, sent) for name, taken, sent in database.execute(_LEDGER)}
