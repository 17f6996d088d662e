"""The ledger in a real PostgreSQL: one owner an account, one row an exit, nothing from who was taken over."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator

import psycopg
import pytest

from sinks.executor.broker_types import NewOrder
from sinks.executor.ledger import FencedError, Ledger
from sinks.executor.moves import State
from sinks.executor.transactions import Transactions
from sinks.postgres import migrate
from sinks.postgres.connection import Connection
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


async def test_a_process_stopped_in_a_transaction_is_not_waited_for(
    ledger: Ledger, database_url: str
) -> None:
    """A frozen machine holds its account's row: its successor would not sell before somebody thaws it."""
    claim = await ledger.claim("one")
    held, thawed = threading.Event(), threading.Event()

    def stand_still(db: Connection) -> None:
        if not held.is_set():
            db.execute("SELECT 1 FROM executor_owners WHERE account = 'one' FOR UPDATE")
            held.set()
            thawed.wait(60)

    stopped = Transactions(database_url, "stopped")
    successor = Ledger(database_url, "second")
    try:
        standing = asyncio.create_task(stopped.run("one", stand_still))
        await asyncio.to_thread(held.wait, 10)
        async with asyncio.timeout(30):
            assert (await successor.claim("one")).fence == claim.fence + 1
        thawed.set()
        await standing  # it begins again, on a connection of its own
        with pytest.raises(FencedError):
            await ledger.confirm(claim)
    finally:
        thawed.set()
        await successor.close()
        await stopped.close()


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


async def test_work_that_is_asked_for_at_once_shares_transactions(database_url: str) -> None:
    """Twenty stops that fire together would each wait for the disk: the last would be sold too late."""
    transactions = Transactions(database_url, "test")
    try:
        asked = [transactions.run("one", _transaction) for _ in range(50)]
        assert len(set(await asyncio.gather(*asked))) <= 3
    finally:
        await transactions.close()


async def test_one_that_fails_takes_nobody_with_it(ledger: Ledger) -> None:
    """An account that was taken over must not keep the exits of all others from their orders."""
    first, lost, third = [await ledger.claim(name) for name in ("one", "two", "three")]
    await ledger.claim("two")
    intents = [exit_intent(account=name, intent_id=f"of {name}") for name in ("one", "two", "three")]
    found = await asyncio.gather(
        *(ledger.take(c, [(i, b"")]) for c, i in zip((first, lost, third), intents, strict=True)),
        return_exceptions=True,
    )
    assert found[0] == ([intents[0]], [])
    assert isinstance(found[1], FencedError)
    assert found[2] == ([intents[2]], [])
    assert [len(await ledger.unfinished(claim)) for claim in (first, third)] == [1, 1]


def _transaction(db: Connection) -> str:
    row = db.execute("SELECT pg_current_xact_id()::text").fetchone()
    assert row is not None
    return str(row[0])


async def test_published_results_are_forgotten_after_a_week_in_small_portions(
    ledger: Ledger, database_url: str
) -> None:
    """The outbox would grow for ever; what still waits must stay however old it is."""
    rows = """INSERT INTO order_results_outbox (account, event_id, value, published_at)
        SELECT 'one', '12345678', 'x', CASE WHEN n > 2 THEN now() - make_interval(days => 7, secs => %s) END
        FROM generate_series(1, 7) AS n"""
    with psycopg.connect(database_url, autocommit=True) as database:
        database.execute(rows.encode(), (60,))
        database.execute(rows.encode(), (-60,))
        assert [await ledger.prune(3), await ledger.prune(3), await ledger.prune(3)] == [3, 2, 0]
        left = database.execute(b"SELECT count(*), count(published_at) FROM order_results_outbox").fetchone()
    assert left == (9, 5)
    assert len(await ledger.waiting(["one"], 10)) == 4
