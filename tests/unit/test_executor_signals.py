"""After a signal nothing is opened in its symbol, if the account says so; what closes goes through.

If these fail, a strategy buys into a crash that everybody else is told of, or cannot get out of one.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from sinks.executor import risk, signals
from sinks.executor.broker_types import NewOrder
from sinks.executor.risk import Proposal
from sinks.executor.signals import UNKNOWN, Signals
from tests.unit.executor_model import NOW, SECOND, facts, order_intent, position
from tidewire import risk_limits
from tidewire.risk_limits import RiskLimits

LIMITS = RiskLimits(block_entries_on=("flash_crash",), block_entries_seconds=Decimal(60))


def a_signal(symbol: str = "AAPL", kind: str = "flash_crash", received: int = NOW) -> dict[str, Any]:
    return {"symbol": symbol, "kind": kind, "received_ts": received}


@pytest.mark.parametrize(("age", "blocks"), [(0, True), (60 * SECOND, True), (60 * SECOND + 1, False)])
def test_a_signal_counts_for_as_long_as_the_account_says(age: int, blocks: bool) -> None:
    """By when it was received: the time of the market is another clock."""
    known = Signals()
    known.take(a_signal())
    known.take(a_signal(received=NOW - SECOND))  # told again by a restarted processor
    assert bool(known.recent("AAPL", LIMITS, NOW + age)) is blocks
    assert known.recent("MSFT", LIMITS, NOW + age) is None
    assert known.recent("AAPL", RiskLimits(), NOW + age) is None


def test_other_kinds_do_not_count_and_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kinds of users' own are no reason, and ten thousand symbols are enough."""
    monkeypatch.setattr(signals, "MOST", 3)
    known = Signals()
    assert not known.take(a_signal(kind="mine"))
    known.take(a_signal(kind="news_spike"))
    assert known.recent("AAPL", LIMITS, NOW) is None
    for symbol in ("A", "B", "C", "D"):
        known.take(a_signal(symbol))
    assert [bool(known.recent(s, LIMITS, NOW)) for s in "ABCD"] == [False, True, True, True]


async def test_what_cannot_be_known_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a start amid a crash would let the first orders through."""
    monkeypatch.setattr(signals, "PATIENCE", 0.01)
    known = Signals()
    assert await known.told("AAPL", LIMITS, NOW) == UNKNOWN
    known.known.set()
    assert await known.told("AAPL", LIMITS, NOW) is None


@pytest.mark.parametrize(
    ("held", "side", "refused"), [(0, "buy", True), (5, "buy", True), (10, "sell", False)]
)
def test_entries_are_refused_and_what_closes_is_not(held: int, side: str, refused: bool) -> None:
    """The risk check itself; exits never come there."""
    order = NewOrder("c", "AAPL", side, "market", "day", quantity=Decimal(10))  # type: ignore[arg-type]
    look = facts(position=position(held), signal="a flash_crash signal 1.0 s ago")
    breach = risk.for_order(Proposal(order_intent(side=side), order, look, LIMITS))
    assert (breach.check if breach else None) == ("signal" if refused else None)


def test_the_table_of_the_account_says_it() -> None:
    """A typo must not mean that nothing blocks."""
    problems: list[str] = []
    table = {"block_entries_on": ["flash_crash", "news_spike"], "block_entries_seconds": 90}
    read = risk_limits.read("x", table, problems)
    assert (read.block_entries_on, read.block_entries_seconds) == (("flash_crash", "news_spike"), Decimal(90))
    assert problems == []
    risk_limits.read("x", {"block_entries_on": ["crash"], "limit_order_seconds": 0}, problems)
    assert len(problems) == 2
