"""The evidence of the exits: topics, the executor's ledger in PostgreSQL, the simulated broker's journal."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from schemas.catalogue import (
    EXIT_RULES,
    EXIT_TRIGGERS,
    EXIT_WATCH,
    ORDER_INTENTS,
    ORDER_RESULTS,
    PORTFOLIO_POSITIONS,
)
from schemas.codec import Codec
from tidewire import accounts
from tidewire.config import Settings
from tidewire.errors import ConfigError, RecordError
from tidewire.supervision.run_files import of_the_demo
from verify import database, exit_watches, orders_read
from verify.database import Connection
from verify.exits import Attempt, Evidence, ExitOutcome, Place, Taken, compare
from verify.topic import consumer, ends, whole

_POLL = 0.5
_TOPICS = (PORTFOLIO_POSITIONS, EXIT_RULES, EXIT_WATCH, EXIT_TRIGGERS, ORDER_INTENTS, ORDER_RESULTS)
_COMPACTED = _TOPICS[:3]
_TAKEN = "SELECT intent_id, CASE WHEN phase = 'done' THEN coalesce(outcome, '') END FROM order_intents_ledger"
_ATTEMPTS = "SELECT intent_id, attempt, client_order_id, order_id FROM order_attempts"


async def follow(
    settings: Settings, codec: Codec, connection: Connection, seconds: float, *, simulated: bool
) -> ExitOutcome:
    """Read and compare, again while something is wrong that may just be under way, for at most `seconds`.

    Raises:
        UnreachableError: Kafka or PostgreSQL does not answer.
        TidewireError: the broker's journal cannot be read.
    """
    deadline = time.monotonic() + seconds
    while True:
        outcome = compare(await _evidence(settings, codec, connection, simulated))
        if not outcome.problems or time.monotonic() > deadline:
            return outcome
        await asyncio.sleep(_POLL)


async def _evidence(settings: Settings, codec: Codec, connection: Connection, simulated: bool) -> Evidence:
    """What comes later is read first: what is found of it must be in what is read after it."""
    journal = settings.tidewire_home / orders_read.JOURNAL
    placed = _placed(journal) if simulated and journal.is_file() else None
    attempts = [Attempt(*row) for row in _rows(connection, "order_attempts", _ATTEMPTS)]
    taken = [Taken(*row) for row in _rows(connection, "order_intents_ledger", _TAKEN)]
    found = await _records(settings, codec)
    positions, rules, watches, triggers, intents, results = (list(found[topic].values()) for topic in _TOPICS)
    guards: dict[Place, list[tuple[int, int]]] = defaultdict(list)
    for watch in (watch for watch in watches if watch["active"]):
        place = watch["account"], watch["position_symbol"]
        guards[place].append((watch["position_epoch"], watch["exit_epoch"]))
    return Evidence(
        triggers,
        intents,
        results,
        taken,
        attempts,
        placed,
        {(p["account"], p["symbol"]): (p["epoch"], p["quantity"]) for p in positions},
        guards,
        _unguarded(settings, positions, rules, watches),
    )


def _unguarded(settings: Settings, positions: Any, rules: Any, watches: Any) -> list[str]:
    """By the rules that were set; by the default ones only where the file of accounts can be read."""
    try:
        owners = accounts.load(of_the_demo(settings))
    except ConfigError:
        return []
    if not {position["account"] for position in positions} <= {owner.name for owner in owners}:
        return []  # another installation's accounts: its default rules are not known here
    return exit_watches.differences(positions, rules, watches, owners)


def _placed(journal: Path) -> dict[str, frozenset[str]]:
    orders: dict[str, set[str]] = defaultdict(set)
    for _, data in orders_read.journal_lines(journal):
        orders[data["order"]["client_order_id"]].add(data["order"]["id"])
    return {name: frozenset(ids) for name, ids in orders.items()}


def _rows(connection: Connection, table: str, query: str) -> list[tuple[Any, ...]]:
    if not database.exists(connection, table):
        return []
    return list(connection.execute(query.encode()).fetchall())


async def _records(settings: Settings, codec: Codec) -> dict[str, dict[Any, Mapping[str, Any]]]:
    """Every readable record of each topic; of compacted ones the newest of each key."""
    names = {settings.tidewire_topic_prefix + topic: topic for topic in _TOPICS}
    stops = {tp: end for of in (await ends(settings, names)).values() for tp, end in of.items()}
    found: dict[str, dict[Any, Mapping[str, Any]]] = {topic: {} for topic in _TOPICS}
    async with consumer(settings) as client:
        async for place, records in whole(client, stops):
            topic = names[place.topic]
            for record in (r for r in records if r.offset < stops[place]):
                at = record.key if topic in _COMPACTED else (place.partition, record.offset)
                found[topic].pop(at, None)
                if (content := _content(codec, record.value)) is not None:
                    found[topic][at] = content
    return found


def _content(codec: Codec, value: bytes | None) -> Mapping[str, Any] | None:
    try:
        return None if value is None else codec.decode(value)[1]
    except RecordError:  # a dead letter of whoever reads it
        return None
