"""An account's limits made into the machine's rules. Pure."""

from __future__ import annotations

from sinks.executor import risk, shaping
from sinks.executor.broker_types import NewOrder
from sinks.executor.facts import Facts
from sinks.executor.intents import Intent
from sinks.executor.moves import Rules
from sinks.executor.risk import Breach, Proposal
from sinks.executor.sizing import Size
from tidewire.risk_limits import RiskLimits


def rules_of(limits: RiskLimits) -> Rules:
    """The rules of one account."""

    def shape(intent: Intent, size: Size | None, facts: Facts, client_order_id: str) -> NewOrder | Breach:
        return shaping.shape(intent, size, facts, client_order_id, limits)

    def check(intent: Intent, order: NewOrder, facts: Facts) -> Breach | None:
        # Of an exit only the hours are checked, and those by its shape: see risk.py.
        return None if intent.exit else risk.for_order(Proposal(intent, order, facts, limits))

    return Rules(int(limits.max_age_seconds * 1_000_000_000), shape, check)
