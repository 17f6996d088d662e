"""The ledger in a real PostgreSQL: one owner an account, one row an exit, nothing from who was taken over."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import psycopg
import pytest

from sinks.executor.broker_types import NewOrder
from sinks.executor.ledger import FencedError, Ledger
from sinks.executor.moves import State
from sinks.postgres import migrate
from tests.unit.executor_model import exit_intent, order_intent

SENDING = State(
    phase="sending", order=NewOrder("tw-1", "AAPL", "sell", "market", "day", quantity=exit_intent().quantity)
)


@pytest.fixture
async def ledger(database_url: str) -> AsyncIterator[Ledger]:
    await asyncio.to_thread(migrate.apply, database_url)
    opened = Ledger(database_url, "first")
    yield opened
    await opened.close()


async def test_who_was_taken_over_can_write_nothing(ledger: Ledger, database_url: str) -> None:
    """A zombie that still writes would move an intent under its new owner's hands, and order beside it."""
    intent, other = exit_intent(), order_intent()
    zombie = await ledger.claim("one")
    await ledger.take(zombie, [(intent, b"bytes")])
    successor = Ledger(database_url, "second")
    try:
        claim = await successor.claim("one")
        assert claim.fence == zombie.fence + 1
        for work in (
            ledger.take(zombie, [(other, b"")]),
            ledger.unfinished(zombie),
            ledger.move(zombie, intent, 0, SENDING, [(b"12345678", b"")], 0, SENDING.order),
            ledger.refuse(zombie, [(b"12345678", b"")]),
        ):
            with pytest.raises(FencedError):
                await work
        found = await successor.unfinished(claim)
        assert [(entry.record, entry.version, entry.state) for entry in found] == [(b"bytes", 0, State())]
        assert await successor.waiting(["one"], 10) == []
    finally:
        await successor.close()


async def test_an_intent_is_taken_once(ledger: Ledger) -> None:
    """Kafka delivers again after each crash; two rules of one position may fire at the same time."""
    claim = await ledger.claim("one")
    intent = exit_intent()
    new, known = await ledger.take(claim, [(intent, b"")] * 50)
    assert (len(new), len(known)) == (1, 49)
    assert await ledger.take(claim, [(intent, b"")]) == ([], [intent])
    twin = exit_intent(intent_id="another name for the same exit")
    assert await ledger.take(claim, [(twin, b"")]) == ([], [twin])


async def test_a_step_is_kept_with_its_order_and_results_or_not_at_all(
    ledger: Ledger, database_url: str
) -> None:
    """A result without its change, or a change without its result, leaves a position unguarded."""
    claim, intent = await ledger.claim("one"), exit_intent()
    await ledger.take(claim, [(intent, b"")])
    await ledger.move(claim, intent, 0, SENDING, [(b"12345678", b"first")], 0, SENDING.order)
    await ledger.move(
        claim, intent, 0, SENDING, [(b"12345678", b"again")], 0, SENDING.order
    )  # an answer was lost
    assert [value for _, _, value in await ledger.waiting(["one"], 10)] == [b"first"]
    with pytest.raises(FencedError):
        await ledger.move(claim, intent, 7, SENDING, [(b"12345678", b"")], 0)
    with psycopg.connect(database_url, autocommit=True) as database:
        sent = "SELECT intent_id, attempt, client_order_id FROM order_attempts"
        assert database.execute(sent.encode()).fetchall() == [(intent.intent_id, 0, "tw-1")]
        with pytest.raises(psycopg.errors.UniqueViolation):
            database.execute(_SECOND_ORDER, (intent.intent_id, 0, "tw-2"))
        with pytest.raises(psycopg.errors.UniqueViolation):
            database.execute(_SECOND_ORDER, (intent.intent_id, 1, "tw-1"))


_SECOND_ORDER = b"""INSERT INTO order_attempts
    (account, intent_id, attempt, client_order_id, kind, symbol, side, order_type, fence)
    VALUES ('one', %s, %s, %s, 'exit', 'AAPL', 'sell', 'market', 1)"""


async def test_a_lost_connection_is_waited_for(ledger: Ledger, database_url: str) -> None:
    """PostgreSQL restarts while exits are due: they go on after it, and none is ordered without it."""
    claim = await ledger.claim("one")
    with psycopg.connect(database_url, autocommit=True) as database:
        database.execute(
            b"SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            b"WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    new, _ = await ledger.take(claim, [(exit_intent(), b"")])
    assert len(new) == 1
    assert await ledger.orders_in_minute("one") == 0
