"""The exits panel: if it counts wrongly, a user believes a position guarded that a gate holds."""

from __future__ import annotations

import io
from decimal import Decimal
from typing import Any

import pytest
from rich.console import Console

from console.screen import exits_panel, layout
from console.screen.exits_side import Tracker
from console.screen.exits_state import Exit, Exits
from console.screen.state import Process
from tests.unit.test_screen_layout import VIEW, drawn, observed

MS, S = 1_000_000, 1_000_000_000


def a_watch(rule: str, symbol: str = "AAPL", held: str | None = None, active: bool = True) -> Any:
    return {"account": "one", "position_symbol": symbol, "rule": rule, "active": active, "held": held}


def an_event(rule: str, event: str, gate: str = "", reason: str = "") -> Any:
    place = {"account": "one", "symbol": "AAPL", "rule": rule}
    return place | {"event": event, "gate": gate, "reason": reason}


def a_trigger(ts: int = 5 * S, symbol: str = "AAPL", state: str = "sent", epoch: int = 0) -> Any:
    return {
        "trigger_id": f"one:{symbol}:1:{epoch}", "account": "one", "symbol": symbol, "rule": "stop", "ts": ts,
        "received_ts": 70 * S, "threshold": Decimal("100.1234567"), "state": state,
        "inputs": [{"ts": 1, "value": 99.0}, {"ts": 2, "value": 100.12}],
    }  # fmt: skip


def a_result(outcome: str, final: bool, remaining: str | None = None, **more: Any) -> Any:
    left = None if remaining is None else Decimal(remaining)
    told = {"trigger_id": "one:AAPL:1:0", "order_id": "o1", "ts": 70 * S + 45 * MS, "reason": ""}
    return told | {"outcome": outcome, "final": final, "remaining": left} | more


def test_rules_are_armed_held_by_a_gate_or_gone() -> None:
    """A restated rule stays held; a good price, a new exit epoch and the end of its watch let it go."""
    tracker = Tracker()
    for rule in ("stop", "target", "trail"):
        tracker.watch(a_watch(rule))
    tracker.watch(a_watch("stop", "IBM", held="unreconciled"))
    tracker.event(an_event("stop", "held", "halt"))
    tracker.event(an_event("stop", "armed", reason="restated"))
    tracker.event(an_event("target", "held", "gap"))
    tracker.event(an_event("target", "held", "feed"))
    seen = tracker.show()
    assert (seen.armed, seen.held) == (1, {"halt": 1, "feed": 1, "unreconciled": 1})
    tracker.event(an_event("stop", "released", "halt"))
    tracker.event(an_event("target", "armed", reason="exit epoch 1 of position epoch 1"))
    tracker.watch(a_watch("trail", active=False))
    tracker.watch(a_watch("stop", "IBM"))
    seen = tracker.show()
    assert (seen.armed, seen.held) == (3, {})


def test_an_exit_is_followed_from_its_trigger_to_what_is_left() -> None:
    """The latency is that of the broker's first answer; what is said twice counts once."""
    tracker = Tracker()
    tracker.watch(a_watch("stop"))
    tracker.trigger(a_trigger(state="pending"))
    tracker.trigger(a_trigger())
    seen = tracker.show()
    assert (seen.armed, seen.triggered, seen.ordered, seen.newest[0].state) == (0, 1, 0, "sent")
    tracker.result(a_result("accepted", final=False))
    assert tracker.show().newest[0].state == "ordered"
    for _ in range(2):
        tracker.result(a_result("filled", final=True, remaining="0", ts=99 * S))
    tracker.result(a_result("duplicate", final=True))
    tracker.result(a_result("filled", final=True, trigger_id=None))
    seen = tracker.show("by hand")
    assert (seen.triggered, seen.ordered, seen.closed, seen.killed) == (1, 1, 1, "by hand")
    assert seen.newest == (
        Exit(5 * S, "one:AAPL:1:0", "stop", 100.12, Decimal("100.1234567"), "filled", 45 * MS),
    )
    tracker.trigger(a_trigger(6 * S, epoch=1))
    refused = {"trigger_id": "one:AAPL:1:1", "order_id": None}
    tracker.result(a_result("refused", final=True, remaining="10", **refused))
    newest = tracker.show().newest[0]
    assert (newest.state, newest.latency_ns) == ("refused, 10 left", None)


EXITS = Exits(
    4, {"halt": 1, "gap": 2}, 30, 29, 28,
    tuple(
        Exit(n * S, f"demo-1:AAPL:{n}:0", "trailing_stop", 187.25, Decimal("187.253399"), "filled", 38 * MS)
        for n in range(20)
    ),
)  # fmt: skip


@pytest.mark.parametrize(("width", "height"), [(80, 24), (100, 30), (120, 40), (200, 60)])
@pytest.mark.parametrize("exits", [Exits(), EXITS])
def test_the_screen_fits_with_exits(width: int, height: int, exits: Exits) -> None:
    """One line too many and the terminal scrolls four times a second."""
    console = Console(file=io.StringIO(), width=width, height=height, record=True, force_terminal=True)
    console.print(layout.screen(VIEW, observed(exits=exits), height, width))
    lines = console.export_text().splitlines()
    assert len(lines) <= height
    assert all(len(line) <= width for line in lines)
    shown = [line for line in lines if "armed" in line]
    assert len(shown) == bool(exits.armed)
    if exits.armed:
        assert "4 armed, 3 held (gap 2, halt 1); 30 triggered, 29 ordered, 28 closed" in shown[0]
    if exits.armed and height >= 40:
        assert any("demo-1:AAPL:0:0" in line and "187.25" in line and "38 ms" in line for line in lines)


def test_a_kill_switch_is_not_to_be_overlooked() -> None:
    """Exits that are refused look like exits that do not fire."""
    assert "KILL SWITCH ON" in exits_panel.counts(Exits(killed="by hand")).plain
    assert exits_panel.lines(Exits(killed="by hand"), 10) == 1


def test_rules_that_nobody_watches_are_not_called_armed_alone() -> None:
    """While the exits service starts, or is away, a rule is in force and does nothing."""
    for ready in (True, False):
        seen = observed(exits=EXITS, processes=(Process("exits", "running", ready=ready),))
        text = "\n".join(drawn(seen))
        assert "4 armed" in text
        assert ("NOT WATCHED YET" in text) != ready
