"""The executor's ledger in PostgreSQL: who owns an account, its intents, its orders, its results' outbox.

Every change first holds the account's owner row with our fence; when another has claimed the account
meanwhile, nothing is written (FencedError). A lost connection or a conflict repeats the whole transaction,
for as long as it takes: each is written so that it may have happened already. So nothing goes on without it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from psycopg.types.json import Jsonb

from sinks.executor import state_json
from sinks.executor.broker_types import NewOrder
from sinks.executor.intents import Intent
from sinks.executor.moves import State
from sinks.executor.transactions import FencedError, Transactions
from sinks.postgres.connection import Connection

__all__ = ["Claim", "Entry", "FencedError", "Ledger"]

_HOLD = "SELECT 1 FROM executor_owners WHERE account = %s AND fence = %s FOR UPDATE"
_OURS = "SELECT 1 FROM executor_owners WHERE account = %s AND fence = %s"
_CLAIM = """INSERT INTO executor_owners (account, fence, owner) VALUES (%s, 1, %s)
    ON CONFLICT (account) DO UPDATE
    SET fence = executor_owners.fence + 1, owner = excluded.owner, since = now() RETURNING fence"""
_TAKE = """INSERT INTO order_intents_ledger
    (intent_id, account, kind, symbol, position_epoch, exit_epoch, record, phase, state)
    VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING RETURNING intent_id"""
_RECORDS = "SELECT intent_id, record FROM order_intents_ledger WHERE intent_id = ANY(%s)"
_OPEN = """SELECT record, version, state FROM order_intents_ledger
    WHERE account = %s AND phase <> 'done' ORDER BY taken_at, intent_id"""
_MOVE = """UPDATE order_intents_ledger SET version = %(version)s + 1, phase = %(phase)s, state = %(state)s,
    outcome = %(outcome)s, reason = %(reason)s, ended_at = CASE WHEN %(done)s THEN now() END
    WHERE intent_id = %(intent_id)s AND version = %(version)s"""
_ATTEMPT = """INSERT INTO order_attempts (account, intent_id, attempt, client_order_id, kind, symbol, side,
    order_type, quantity, notional, limit_price, fence)
    VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
    ON CONFLICT (account, intent_id, attempt) DO UPDATE SET side = excluded.side,
    order_type = excluded.order_type, quantity = excluded.quantity, notional = excluded.notional,
    limit_price = excluded.limit_price, fence = excluded.fence, sent_at = now()"""
_PROGRESS = """UPDATE order_attempts SET order_id = %s, status = %s, filled_quantity = %s, average_price = %s
    WHERE account = %s AND intent_id = %s AND attempt = %s"""
_OUT = "INSERT INTO order_results_outbox (account, event_id, value) VALUES (%s, %s, %s)"
_WAITING = """SELECT id, account, value FROM order_results_outbox
    WHERE published_at IS NULL AND account = ANY(%s) ORDER BY id LIMIT %s"""
# One that is forgotten in a crash is published twice, as after a crash just before it: no need of the disk.
_LAZILY = "SET LOCAL synchronous_commit = off"
_PUBLISHED = "UPDATE order_results_outbox SET published_at = now() WHERE id = ANY(%s)"
_PRUNE = """DELETE FROM order_results_outbox WHERE id = ANY (ARRAY(
    SELECT id FROM order_results_outbox WHERE published_at < now() - interval '7 days'
    ORDER BY id LIMIT %s))"""
_IN_MINUTE = """SELECT count(*) FROM order_attempts WHERE account = %s AND kind = 'order'
    AND sent_at > now() - interval '60 s'"""
_TWIN = """SELECT intent_id FROM order_attempts WHERE account = %s AND kind = 'order' AND intent_id <> %s
    AND symbol = %s AND side = %s AND order_type = %s AND quantity IS NOT DISTINCT FROM %s
    AND notional IS NOT DISTINCT FROM %s AND limit_price IS NOT DISTINCT FROM %s
    AND sent_at > now() - make_interval(secs => %s) LIMIT 1"""

_LATE = """SELECT intent_id, i.outcome FROM order_attempts a JOIN order_intents_ledger i USING (intent_id)
    WHERE a.client_order_id = %s AND a.order_id IS NULL AND i.phase = 'done'"""


@dataclass(frozen=True, slots=True)
class Claim:
    """An account that is ours, under this fence."""

    account: str
    fence: int


@dataclass(frozen=True, slots=True)
class Entry:
    """An intent as the ledger holds it; `record` are its bytes."""

    record: bytes
    version: int
    state: State


Outgoing = tuple[bytes, bytes]
"""Event id and value of a result."""


class Ledger:
    """Two connections, each in a thread: one for the steps, which orders wait for, one for the outbox.

    `owner` names this process.
    """

    def __init__(self, url: str, owner: str) -> None:
        self._owner = owner
        self._steps = Transactions(url, "executor-ledger")
        self._outbox = Transactions(url, "executor-outbox")

    @property
    def trouble(self) -> str | None:
        """Why nothing can be written at the moment; None: it can."""
        return self._steps.trouble or self._outbox.trouble

    async def claim(self, account: str) -> Claim:
        """Make the account ours: whoever had it can write nothing any more."""
        fence = await self._steps.run(account, lambda db: _one(db, _CLAIM, (account, self._owner)))
        return Claim(account, fence)

    async def take(
        self, claim: Claim, taken: Sequence[tuple[Intent, bytes]]
    ) -> tuple[list[Intent], list[Intent]]:
        """Make intents durable, in their order. Returns those that are new, and those that were held already:
        by their id, or an exit by its position and exit epoch.

        Raises:
            FencedError: the account is another's.
        """

        def work(db: Connection) -> list[bool]:
            _hold(db, claim)
            return [_insert(db, *each) for each in taken]

        fresh = await self._steps.run(claim.account, work)
        return (
            [intent for (intent, _), new in zip(taken, fresh, strict=True) if new],
            [intent for (intent, _), new in zip(taken, fresh, strict=True) if not new],
        )

    async def records(self, intent_ids: Sequence[str]) -> dict[str, bytes]:
        """The bytes of intents that are held, by id."""

        def work(db: Connection) -> dict[str, bytes]:
            return dict(db.execute(_RECORDS, (list(intent_ids),)).fetchall())

        return await self._steps.run("", work)

    async def unfinished(self, claim: Claim) -> list[Entry]:
        """Every intent of the account that has not ended, oldest first. Raises FencedError."""

        def work(db: Connection) -> list[Entry]:
            _hold(db, claim)
            rows = db.execute(_OPEN, (claim.account,)).fetchall()
            return [Entry(record, version, state_json.load(state)) for record, version, state in rows]

        return await self._steps.run(claim.account, work)

    async def move(
        self,
        claim: Claim,
        intent: Intent,
        version: int,
        state: State,
        results: Sequence[Outgoing],
        attempt: int,
        sending: NewOrder | None = None,
    ) -> None:
        """Keep a step: from this version of the intent to the next, with its order and its results.

        `attempt` is the one that the step was about; `sending`: an order that may be sent after this returns.

        Raises:
            FencedError: the account is another's, or the intent has moved without us.
        """

        def work(db: Connection) -> None:
            _hold(db, claim)
            moved = db.execute(
                _MOVE,
                {
                    "version": version, "phase": state.phase, "state": Jsonb(state_json.dump(state)),
                    "outcome": state.outcome, "reason": state.reason, "done": state.done,
                    "intent_id": intent.intent_id,
                },
            ).rowcount  # fmt: skip
            if not moved:
                # Ours from before the answer was lost: nobody else can have moved it under our fence.
                kept = db.execute(_KEPT, (intent.intent_id,)).fetchone()
                if kept == (version + 1, state_json.dump(state)):
                    return
                raise FencedError(claim.account)
            if sending is not None:
                db.execute(_ATTEMPT, _attempt_row(claim, intent, state, sending))
            elif state.attempt == attempt:
                progress = (state.order_id, state.status, state.filled, state.average)
                db.execute(_PROGRESS, (*progress, claim.account, intent.intent_id, attempt))
            for event_id, value in results:
                db.execute(_OUT, (claim.account, event_id, value))

        await self._steps.run(claim.account, work)

    async def refuse(self, claim: Claim, results: Sequence[Outgoing]) -> None:
        """Results of what never becomes an intent. Raises FencedError."""

        def work(db: Connection) -> None:
            _hold(db, claim)
            for event_id, value in results:
                db.execute(_OUT, (claim.account, event_id, value))

        await self._steps.run(claim.account, work)

    async def confirm(self, claim: Claim) -> None:
        """See that the account is ours; nothing is locked. Raises FencedError."""

        def work(db: Connection) -> None:
            if db.execute(_OURS, (claim.account, claim.fence)).fetchone() is None:
                raise FencedError(claim.account)

        await self._steps.run(claim.account, work)

    async def orders_in_minute(self, account: str) -> int:
        """Orders, no exits, that were sent within the last 60 s."""
        return await self._steps.run(account, lambda db: int(_one(db, _IN_MINUTE, (account,))))

    async def twin(self, intent: Intent, order: NewOrder, seconds: float) -> str | None:
        """Another intent that sent an equal order within these seconds."""
        terms = (order.symbol, order.side, order.type, order.quantity, order.notional, order.limit_price)
        parameters = (intent.account, intent.intent_id, *terms, seconds)
        return await self._steps.run(intent.account, lambda db: _one(db, _TWIN, parameters))

    async def late(self, client_order_id: str) -> tuple[str, str] | None:
        """Intent and outcome, if an order of this id was never seen and its intent has ended."""
        row = await self._outbox.run("", lambda db: db.execute(_LATE, (client_order_id,)).fetchone())
        return None if row is None else (row[0], row[1])

    async def waiting(self, accounts: Sequence[str], most: int) -> list[tuple[int, str, bytes]]:
        """The oldest results that are not published: number, account, value."""
        return await self._outbox.run("", lambda db: db.execute(_WAITING, (list(accounts), most)).fetchall())

    async def published(self, numbers: Sequence[int]) -> None:
        """Mark results as published."""

        def work(db: Connection) -> None:
            db.execute(_LAZILY)
            db.execute(_PUBLISHED, (list(numbers),))

        await self._outbox.run("", work)

    async def prune(self, most: int) -> int:
        """Forget the oldest results that were published a week ago, so many at most; returns how many."""
        return await self._outbox.run("", lambda db: db.execute(_PRUNE, (most,)).rowcount)

    async def close(self) -> None:
        """Give up what waits for PostgreSQL, and close the connections."""
        await asyncio.gather(self._steps.close(), self._outbox.close())


_KEPT = "SELECT version, state FROM order_intents_ledger WHERE intent_id = %s"


def _hold(db: Connection, claim: Claim) -> None:
    if db.execute(_HOLD, (claim.account, claim.fence)).fetchone() is None:
        raise FencedError(claim.account)


def _insert(db: Connection, intent: Intent, record: bytes) -> bool:
    row = (
        intent.intent_id, intent.account, intent.kind, intent.symbol,
        intent.position_epoch, intent.exit_epoch, record, "received", Jsonb(state_json.dump(State())),
    )  # fmt: skip
    return db.execute(_TAKE, row).fetchone() is not None


def _attempt_row(claim: Claim, intent: Intent, state: State, order: NewOrder) -> tuple[Any, ...]:
    return (
        claim.account, intent.intent_id, state.attempt, order.client_order_id, intent.kind, order.symbol,
        order.side, order.type, order.quantity, order.notional, order.limit_price, claim.fence,
    )  # fmt: skip


def _one(db: Connection, query: str, parameters: tuple[Any, ...]) -> Any:
    row = db.execute(query.encode(), parameters).fetchone()
    return None if row is None else row[0]
