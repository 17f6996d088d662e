"""What became of an intent -> records of orders.results, and their way out: the ledger's outbox to Kafka.

A result is written in the transaction of the change that it tells of. It is marked once Kafka has
acknowledged it; a crash in between publishes it twice, with the same event id.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from schemas.event_id import plain_quantity, result_event_id
from schemas.order_ids import client_order_id
from sinks.executor.intents import Intent
from sinks.executor.ledger import Ledger
from sinks.executor.moves import Result, State
from tidewire import log
from tidewire.config import Settings
from tidewire.kafka import client_arguments, start
from tidewire.metrics import EXECUTOR_OUTBOX_WAITING, EXECUTOR_RESULTS

EVERY = 1.0
"""Seconds between looks at the outbox when nobody calls."""
PAUSE = 1.0
BATCH = 200
PRUNE_EVERY = 3_600.0
"""Seconds between looks for published results that are old enough to be forgotten."""
PRUNE_MOST = 1_000
"""Results that are forgotten in one transaction: what is to be published does not wait for long."""

_log = log.get("executor-results")


def record(intent: Intent, state: State, attempt: int, result: Result, now: int) -> dict[str, Any]:
    """The `order_result` of one result. `attempt`: the one that it tells of; `now`: wall clock, ns."""
    filled = state.all_filled
    return {
        "account": intent.account,
        "ts": now,
        "intent_id": intent.intent_id,
        "client_order_id": client_order_id(intent.intent_id, attempt),
        "order_id": state.order_id,
        "outcome": result.outcome,
        "reason": result.reason,
        "attempt": attempt,
        "filled_quantity": filled,
        "average_price": _rounded(state),
        "trigger_id": intent.trigger_id,
        "symbol": intent.symbol,
        "final": result.final,
        "position_epoch": intent.position_epoch,
        "remaining": state.remaining if result.final else None,
        "received_ts": now,
        "source": "rest",
        "event_id": result_event_id(
            intent.account, intent.intent_id, attempt, result.outcome, plain_quantity(filled)
        ),
    }


def _rounded(state: State) -> Any:
    average = state.all_average
    return None if average is None else round(average, 18)


class Relay:
    """Publishes the outbox of the accounts that are ours; the rest is the next owner's to publish."""

    def __init__(
        self, settings: Settings, topic: str, ledger: Ledger, accounts: Callable[[], list[str]]
    ) -> None:
        self._settings, self._topic, self._ledger, self._accounts = settings, topic, ledger, accounts
        self._wake = asyncio.Event()
        self._prune_at = 0.0
        self.trouble: str | None = None
        """Why results wait at the moment; None: they do not."""

    def poke(self) -> None:
        """There is something new."""
        self._wake.set()

    async def run(self) -> None:
        """Publish until cancelled; Kafka's absence is waited out."""
        while True:
            producer = AIOKafkaProducer(
                **client_arguments(self._settings), acks="all", enable_idempotence=True, linger_ms=0
            )
            try:
                await start(producer)
                await self._publish(producer)
            except (KafkaError, OSError) as error:
                self.trouble = f"results wait, Kafka: {error!r}"
                _log.warning("results wait", reason=repr(error))
            finally:
                with suppress(KafkaError, TimeoutError):
                    await asyncio.wait_for(producer.stop(), 5)
            await asyncio.sleep(PAUSE)

    async def flush(self) -> None:
        """Wait until nothing waits in the outbox."""
        while await self._ledger.waiting(self._accounts(), 1):
            self.poke()
            await asyncio.sleep(0.02)

    async def _publish(self, producer: AIOKafkaProducer) -> None:
        while True:
            self._wake.clear()
            accounts = self._accounts()
            rows = await self._ledger.waiting(accounts, BATCH) if accounts else []
            EXECUTOR_OUTBOX_WAITING.set(len(rows))
            sent = [
                await producer.send(self._topic, key=account.encode(), value=value)
                for _, account, value in rows
            ]
            for future in sent:
                await future
            if rows:
                await self._ledger.published([number for number, _, _ in rows])
                EXECUTOR_RESULTS.inc(len(rows))
            self.trouble = None
            await self._prune()
            if len(rows) < BATCH:
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._wake.wait(), EVERY)

    async def _prune(self) -> None:
        now = asyncio.get_running_loop().time()
        if now >= self._prune_at and await self._ledger.prune(PRUNE_MOST) < PRUNE_MOST:
            self._prune_at = now + PRUNE_EVERY


__all__ = ["Relay", "record"]
