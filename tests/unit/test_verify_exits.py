"""The check of what is watched. Lost otherwise: a report that calls an unguarded position guarded."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from schemas.exit_rules import parse, rule_record
from tidewire.accounts import Account
from verify.exit_watches import differences

STOP = parse({"kind": "stop_loss", "percent": 5})
ONE = Account("one", exits=(("us_equity", "default", STOP),))


def a_position(symbol: str, quantity: int, epoch: int = 1) -> dict[str, Any]:
    amount = Decimal(quantity)
    return {
        "account": "one",
        "symbol": symbol,
        "quantity": amount,
        "epoch": epoch,
        "asset_class": "us_equity",
    }


def a_watch(symbol: str, rule: str, quantity: int, epoch: int = 1, active: bool = True) -> dict[str, Any]:
    return {
        "account": "one", "position_symbol": symbol, "symbol": symbol, "rule": rule, "active": active,
        "position_epoch": epoch, "quantity": Decimal(quantity),
    }  # fmt: skip


def test_every_rule_of_an_open_position_must_be_watched_and_nothing_else() -> None:
    """Missing, stale, doubled and left-over watches are each named; a log in order says nothing."""
    rules = [
        rule_record("one", "AAPL", "mine", STOP, "cli:x", 1),
        rule_record("one", "AAPL", "default", STOP, "cli:x", 1, active=False),
        rule_record("one", "IBM", "gone", STOP, "cli:x", 1, active=False),
    ]
    positions = [a_position("AAPL", 10), a_position("IBM", -5, 3), a_position("TSLA", 0, 2)]
    right = [
        a_watch("AAPL", "mine", 10),
        a_watch("IBM", "default", -5, 3),
        a_watch("TSLA", "default", 7, 2, False),
    ]
    assert differences(positions, rules, right, [ONE]) == []
    wrong = [
        a_watch("AAPL", "default", 10),
        a_watch("IBM", "default", -5, 2),
        a_watch("TSLA", "default", 7, 2),
    ]
    assert differences(positions, rules, wrong, [ONE]) == [
        "one: rule mine of AAPL is not watched",
        "one: rule default of IBM should watch IBM for -5 in epoch 3, but watches IBM for -5 in epoch 2",
        "one: rule default of AAPL is watched, but no such rule is in force",
        "one: rule default of TSLA is watched, but the position is closed",
    ]
