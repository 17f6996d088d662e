"""What a user may say in an exit rule, on the command line and in accounts.toml. Pure.

If these fail, a rule does something else than its author meant, or mistakes come to light one by one.
"""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from console.commands import exit_options
from schemas.exit_rules import parameters, parse, read_parameters, rule_key, rule_record, watch_key
from tidewire import accounts, config
from tidewire.errors import ConfigError

AMOUNTS = st.decimals("0.000000001", "99", places=9).filter(bool).map(str)
RULES = st.one_of(
    st.fixed_dictionaries({"kind": st.sampled_from(["stop_loss", "take_profit"]), "percent": AMOUNTS}),
    st.fixed_dictionaries({"kind": st.just("trailing_stop"), "trail_percent": AMOUNTS}),
    st.fixed_dictionaries({"kind": st.just("time_stop"), "after_seconds": st.integers(1, 10_000)}),
)
MORE = st.fixed_dictionaries(
    {},
    optional={
        "reference": st.sampled_from(["last", "bid", "ask", "mid", "side"]),
        "order": st.fixed_dictionaries({"type": st.just("limit"), "limit_offset_percent": AMOUNTS}),
        "foreign_orders": st.sampled_from(["cancel", "respect", "adopt"]),
        "max_quote_age_seconds": AMOUNTS,
        "max_hold_seconds": st.integers(1, 600),
        "on_signal": st.fixed_dictionaries(
            {"kind": st.just("flash_crash"), "action": st.just("tighten"), "percent": AMOUNTS}
        ),
    },
)


def problems(spec: Any) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse(spec)
    return caught.value.problems


@settings(max_examples=50)
@given(RULES, MORE)
def test_a_rule_is_the_same_after_its_canonical_text(rule: dict[str, Any], more: dict[str, Any]) -> None:
    """A rule would change by being written to the log, or one watch be written again and again."""
    spec = parse({**rule, **more})
    assert parse(spec.canonical()) == spec
    assert parse(json.loads(spec.canonical())).canonical() == spec.canonical()
    read = read_parameters(parameters(spec, 5, 6, "cli:anna", 7))
    assert (read.order, read.on_signal, read.reference) == (spec.order, spec.on_signal, spec.reference)
    assert (read.percent, read.after_seconds) == (spec.percent, spec.after_seconds)
    assert (read.opened_ts, read.rule_ts, read.set_by, read.pause_seconds) == (5, 6, "cli:anna", 7)


def test_all_mistakes_of_a_rule_come_in_one_message() -> None:
    """One would be told of the second mistake only once the first is gone."""
    found = problems(
        {
            "kind": "stop_loss",
            "percent": 120,
            "price": "x",
            "reference": "open",
            "extended_hours": True,
            "after_seconds": 5,
            "typo": 1,
            "order": {"type": "market", "limit_offset_percent": 1},
        }
    )
    assert len(found) == 8
    for part in (
        "percent must be below 100",
        "price must be a number",
        "reference must be",
        "unknown key typo",
    ):
        assert any(part in problem for problem in found), (part, found)
    assert any("extended_hours takes limit orders only" in problem for problem in found)
    assert any("not both" in problem for problem in found)


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("no json", "no JSON"),
        ("[]", "must be an object"),
        ({}, "kind is missing: one of stop_loss"),
        ({"kind": "bracket"}, "kind must be"),
        ({"kind": "trailing_stop", "percent": 3}, "a trailing_stop needs trail_price or trail_percent"),
        ({"kind": "time_stop", "at": "15:30"}, "needs a date and a zone"),
        ({"kind": "time_stop", "at": "2026-11-22T15:30:00"}, "needs a date and a zone"),
        ({"kind": "end_of_day", "before_close_seconds": 0}, "at least 1"),
        ({"kind": "stop_loss", "price": -1}, "greater than 0"),
        ({"kind": "stop_loss", "price": "NaN"}, "greater than 0"),
        ({"kind": "stop_loss", "price": True}, "must be a number"),
        ({"kind": "stop_loss", "price": "0.0000000001"}, "more than 9 digits"),
        ({"kind": "stop_loss", "percent": 5, "reference_symbol": "SPY"}, "give price"),
        ({"kind": "stop_loss", "price": 5, "reference_symbol": "spy"}, "symbol in capitals"),
        ({"kind": "stop_loss", "price": 5, "order": {"type": "limit"}}, "needs limit_offset_percent"),
        (
            {"kind": "stop_loss", "price": 5, "on_signal": {"kind": "flash_crash", "action": "tighten"}},
            "percent",
        ),
    ],
)
def test_each_mistake_is_named(spec: Any, said: str) -> None:
    """A rule that can never fire, or fires at once, would be taken."""
    assert any(said in problem for problem in problems(spec)), problems(spec)


def test_keys_name_the_parts_that_decide_the_partition() -> None:
    """Records of one rule would stand in two partitions, or two rules have one key."""
    spec = parse({"kind": "stop_loss", "price": 5})
    assert rule_key("one", "BTC/USD", "a") == b"one:BTC/USD:a"
    watch = {"symbol": "AAPL", "account": "one", "position_symbol": "AAPL261218C00200000", "rule": "a"}
    assert watch_key(watch) == b"AAPL:one:AAPL261218C00200000:a"
    with pytest.raises(ConfigError) as caught:
        rule_record("one", "A:B", "A", spec, "cli:x", 1)
    assert len(caught.value.problems) == 2


def specs(line: dict[str, str], bracket: str | None = None, rule: str | None = None, **more: Any) -> Any:
    return exit_options.specs(line, bracket, rule, more)


def test_options_become_rules_named_after_their_kind() -> None:
    """The command would set other rules than it says."""
    found = dict(specs({"trailing_stop": "1.50", "end_of_day": "5m"}, "5%/195.50"))
    assert found["stop_loss"].percent == Decimal(5)
    assert found["take_profit"].price == Decimal("195.50")
    assert found["trailing_stop"].trail_price == Decimal("1.50")
    assert found["end_of_day"].before_close_seconds == 300
    assert [name for name, _ in specs({"time_stop": "1h30m"}, rule="late")] == ["late"]
    assert specs({"time_stop": "1h30m"})[0][1].after_seconds == 5_400
    assert [name for name, _ in specs({}, "180/210", "b")] == ["b-stop_loss", "b-take_profit"]
    shared = exit_options.shared("spy", "mid", "0.5%", True, "adopt", 2.5, 30)
    spec = specs({"stop_loss": "180"}, **shared)[0][1]
    assert (spec.reference_symbol, spec.reference, spec.extended_hours) == ("SPY", "mid", True)
    assert (spec.order.limit_offset_percent, spec.max_quote_age_seconds) == (Decimal("0.5"), Decimal("2.5"))


def test_mistakes_of_a_line_come_at_once_with_their_options() -> None:
    """One would try the options one by one."""
    with pytest.raises(ConfigError) as caught:
        specs({"stop_loss": "x%", "time_stop": "soon", "trailing_stop": "200%"}, "5%", "Bad Name")
    text = str(caught.value)
    for part in (
        "--stop-loss x%",
        "--time-stop: 'soon' is no duration",
        "--trailing 200%",
        "--bracket 5%",
        "--rule",
    ):
        assert part in text
    with pytest.raises(ConfigError, match="no rule: give one or more of --stop-loss"):
        specs({})


def test_default_exits_of_accounts_toml_are_checked_with_everything_else(tmp_path: Path) -> None:
    """A typing error in a default would leave every position of an account without its exits."""
    path = tmp_path / "accounts.toml"
    mine = config.load(_env_file=None, tidewire_accounts_file=path)
    path.write_text(
        """
[accounts.one]
[[accounts.one.exits.us_equity]]
kind = "stop_loss"
percent = 5
[[accounts.one.exits.us_equity]]
name = "lock-in"
kind = "trailing_stop"
trail_percent = 2.5
[[accounts.one.exits.crypto]]
kind = "time_stop"
after_seconds = 60
"""
    )
    (one,) = accounts.load(mine)
    assert [(c, n) for c, n, _ in one.exits] == [
        ("us_equity", "stop_loss"), ("us_equity", "lock-in"), ("crypto", "time_stop"),
    ]  # fmt: skip
    assert one.exits[1][2].trail_percent == Decimal("2.5")
    path.write_text(
        """
[accounts.one]
mode = "papper"
[accounts.one.exits.us_stocks]
[accounts.one.exits]
crypto = 5
[[accounts.one.exits.us_equity]]
kind = "stop_loss"
price = 180
[[accounts.one.exits.us_equity]]
kind = "take_profit"
percent = 5
[[accounts.one.exits.us_equity]]
kind = "take_profit"
percent = 6
[[accounts.one.exits.us_equity]]
kind = "trailing"
""".replace("[accounts.one.exits.us_stocks]\n", "")
    )
    with pytest.raises(ConfigError) as caught:
        accounts.load(mine)
    text = str(caught.value)
    for part in (
        "mode must be paper or live",
        "exits.crypto must be a list of rules",
        "rule 1: price belongs to one symbol",
        "rule 3: there is a rule take_profit already",
        "rule 4: kind must be",
    ):
        assert part in text, text
