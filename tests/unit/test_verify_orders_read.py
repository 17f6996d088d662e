"""If these fail, the report misreads what the broker sent or what a client was told."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tidewire.errors import TidewireError
from verify.orders import Event, Standing
from verify.orders_read import read_journal, read_pushed

D = Decimal


def said(event: str, status: str, filled: str, **more: Any) -> str:
    order = {"id": "o1", "symbol": "AAPL", "status": status, "filled_qty": filled}
    data = {"event": event, "order": order, **more}
    return json.dumps({"account": 1, "ts": 5, "message": {"stream": "trade_updates", "data": data}}) + "\n"


FILL = said("fill", "filled", "10", qty="6", price="10.6", execution_id="e2", position_qty="-10")


def test_the_journal_gives_events_standings_and_holdings(tmp_path: Path) -> None:
    path = tmp_path / "updates.jsonl"
    path.write_text(said("new", "new", "0") + FILL)
    sent = read_journal(path)
    fill = Event("o1", "fill", D(10), D(6), D("10.6"))
    assert sent.events == (Event("o1", "new", D(0), None, None), fill)
    assert sent.statuses == ("new", "filled")
    assert sent.standings == {"o1": Standing("filled", D(10))}
    assert sent.execution_ids == {"e2": fill}
    assert sent.positions == {(1, "AAPL"): D(-10)}


def test_a_cut_off_last_line_was_never_sent_and_a_broken_one_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "updates.jsonl"
    path.write_text(FILL + FILL[:40])
    assert len(read_journal(path).events) == 1
    path.write_text("nonsense\n" + FILL)
    with pytest.raises(TidewireError, match=r"broken in line 1"):
        read_journal(path)


def test_legs_leave_a_holding_each(tmp_path: Path) -> None:
    path = tmp_path / "updates.jsonl"
    path.write_text(said("fill", "filled", "1", position_qtys={"A": "1", "B": "-1"}))
    assert read_journal(path).positions == {(1, "A"): D(1), (1, "B"): D(-1)}


def test_what_a_client_was_told_alone_and_in_batches(tmp_path: Path) -> None:
    """The last state counts as what the client believes; every status counts as pushed."""
    path = tmp_path / "pushed.jsonl"
    order = {"brokerOrderId": "o1", "status": "new", "filledQty": "0"}
    messages = [
        {"type": "connected"},
        {"type": "order_update", "data": order},
        {"type": "trade_executed", "data": {"executionId": "e2"}},
        {"type": "batch", "data": {"orders": [order | {"status": "filled", "filledQty": "10"}]}},
    ]
    lines = [json.dumps({"accounts": ["demo-1"]}), *(json.dumps({"at": 1, "message": m}) for m in messages)]
    path.write_text("\n".join(lines) + '\n{"at": 1, "mess')
    pushed, visible = read_pushed(path)
    assert pushed is not None
    assert visible == {"demo-1"}
    assert pushed.executions == {"e2"}
    assert pushed.statuses == {("o1", "new"), ("o1", "filled")}
    assert pushed.orders == {"o1": Standing("filled", D(10))}


def test_without_a_client_nothing_is_claimed(tmp_path: Path) -> None:
    assert read_pushed(tmp_path / "none") == (None, frozenset())
