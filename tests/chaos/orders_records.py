"""What a run of orders leaves behind, as plain values: what the verdict compares."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

ZERO = Decimal(0)


@dataclass(frozen=True, slots=True)
class Happened:
    """One line of the simulator's journal. `quantity` is the order's, `filled` what this line executed."""

    account: str
    event: str
    status: str
    order_id: str
    client_order_id: str
    symbol: str
    side: str
    quantity: Decimal
    filled: Decimal = ZERO


@dataclass(frozen=True, slots=True)
class Kept:
    """One intent in the ledger; times in ns of the wall clock."""

    intent_id: str
    phase: str
    outcome: str | None
    taken: int


@dataclass(frozen=True, slots=True)
class Attempt:
    """One order in the ledger."""

    intent_id: str
    attempt: int
    client_order_id: str
    order_id: str | None
    filled: Decimal
    sent: int


@dataclass
class Evidence:
    """All that a run left behind.

    `accepted`: client_order_id -> when the simulator took it, wall clock, ns. `intents` and `results` are the
    distinct records of the topics; `published` and `outbox` are (event id, value) as they stand, repeats too.
    `switched`: lines of the journal between the switch's confirmation and its end. `old`: intents that were
    too old when they were published. `max_age`: by account, ns.
    """

    journal: Sequence[Happened] = ()
    accepted: dict[str, int] = field(default_factory=dict)
    intents: dict[str, dict[str, Any]] = field(default_factory=dict)
    kept: Sequence[Kept] = ()
    attempts: Sequence[Attempt] = ()
    outbox: Sequence[tuple[bytes, bytes]] = ()
    waiting: int = 0
    published: Sequence[tuple[bytes, bytes]] = ()
    results: Sequence[dict[str, Any]] = ()
    switched: Sequence[tuple[int, int]] = ()
    old: frozenset[str] = frozenset()
    max_age: dict[str, int] = field(default_factory=dict)
