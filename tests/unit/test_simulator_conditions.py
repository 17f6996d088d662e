"""Without these a bar would count trades that Alpaca leaves out, or the other way round."""

from __future__ import annotations

import pytest

from simulator.conditions import (
    ALWAYS,
    IF_FIRST,
    NEVER,
    Update,
    quote_letters,
    tape_of,
    trade_letters,
    update_rule,
)


@pytest.mark.parametrize(
    ("flags", "tape", "letters"),
    [
        (0x0, "A", ()),
        (0x1, "A", (" ",)),
        (0x1, "C", ("@",)),
        (0x20000020, "A", ("F",)),
        (0x20002020, "B", ("F", "T")),
        (0x80000001, "C", ("@", "I")),
        (0x4800, "A", ("Z",)),
        (0x6004, "A", ("U", "N")),
        (0x100000, "A", ("B",)),
        (0x100000, "C", ("W",)),
        (0x20000, "A", ()),
        (0x4000000, "A", ("Q",)),
        (0x40000000, "A", ()),
    ],
)
def test_flags_become_letters(flags: int, tape: str, letters: tuple[str, ...]) -> None:
    assert trade_letters(flags, tape) == letters


def test_quote_flags_become_letters() -> None:
    assert quote_letters(0x1) == ("R",)
    assert quote_letters(0x801) == ("R", "O")


@pytest.mark.parametrize(
    ("letters", "tape", "minute", "day"),
    [
        ((), "A", Update(ALWAYS, True, True), Update(ALWAYS, True, True)),
        (("@", "I"), "C", Update(NEVER, False, True), Update(NEVER, False, True)),
        (("@", "T"), "C", Update(ALWAYS, True, True), Update(NEVER, False, True)),
        ((" ", "B"), "A", Update(NEVER, False, True), Update(NEVER, False, True)),
        (("@", "B"), "C", Update(ALWAYS, True, True), Update(ALWAYS, True, True)),
        (("@", "4"), "C", Update(NEVER, False, True), Update(IF_FIRST, True, True)),
        (("@", "4", "I"), "C", Update(NEVER, False, True), Update(NEVER, False, True)),
        (("M",), "A", Update(NEVER, False, False), Update(NEVER, False, False)),
        (("9",), "A", Update(NEVER, False, False), Update(ALWAYS, True, False)),
        (("?",), "A", Update(ALWAYS, True, True), Update(ALWAYS, True, True)),
    ],
)
def test_the_strictest_condition_decides(
    letters: tuple[str, ...], tape: str, minute: Update, day: Update
) -> None:
    assert update_rule(letters, tape) == (minute, day)


def test_the_listing_decides_the_tape() -> None:
    assert [tape_of(s) for s in ("BAC", "IBM", "AIG", "SPY", "AAPL", "NEVER")] == [
        "A",
        "A",
        "A",
        "B",
        "C",
        "C",
    ]
