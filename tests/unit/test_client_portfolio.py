"""What the gateway's messages add up to at a client.

If these fail, a terminal or screen shows positions that were closed while it was cut off.
"""

from __future__ import annotations

from typing import Any

from console.client.portfolio import Portfolio


def a_position(symbol: str, quantity: str) -> dict[str, Any]:
    return {"symbol": symbol, "quantity": quantity}


def a_snapshot(*positions: dict[str, Any], orders: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    return {"type": "batch", "data": {"positions": list(positions), "orders": orders or []}}


def symbols(portfolio: Portfolio) -> list[str]:
    return [str(position["symbol"]) for position in portfolio.open_positions()]


def test_what_was_closed_while_cut_off_is_gone_after_the_next_snapshot() -> None:
    portfolio = Portfolio()
    order = {"brokerOrderId": "1", "status": "new", "submittedAt": "2026-03-02T10:00:00.000Z"}
    for message in (
        {"type": "connected"},
        a_snapshot(a_position("AAPL", "5"), a_position("IBM", "-2"), orders=[order]),
        {"type": "disconnected", "reason": "killed", "seconds": 1.0},
    ):
        portfolio.apply(message)
    assert symbols(portfolio) == ["AAPL", "IBM"], "what was known last stays on the screen"
    portfolio.apply({"type": "connected"})
    portfolio.apply(a_snapshot(a_position("IBM", "-2")))
    assert symbols(portfolio) == ["IBM"]
    assert portfolio.newest_orders() == []


def test_batches_between_snapshots_change_only_what_they_name() -> None:
    portfolio = Portfolio()
    for message in (
        {"type": "connected"},
        a_snapshot(a_position("AAPL", "5"), a_position("IBM", "-2")),
        a_snapshot(a_position("AAPL", "0")),
    ):
        portfolio.apply(message)
    assert symbols(portfolio) == ["IBM"]
