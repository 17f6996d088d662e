"""Without these the demo's market would not be a market: silent, one-sided, or another one at each start."""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgpack
import pytest

from simulator.synthetic import WELL_KNOWN, SyntheticMarket
from simulator.wire import Message, Streams

START = 1_763_733_600_000_000_000  # 2025-11-21 09:00 in New York, before the opening


def messages(seed: int = 1, count: int = 30_000) -> list[Message]:
    market = SyntheticMarket(list(WELL_KNOWN), seed, START, 500.0, count)
    return [message for block in market.read(Streams()) for message in block]


@pytest.fixture(scope="module")
def day() -> list[tuple[int, dict[str, Any]]]:
    return [(m[0], msgpack.unpackb(m[3])) for m in messages()]


def test_the_same_seed_is_the_same_market() -> None:
    first, second, other = messages(count=500), messages(count=500), messages(seed=2, count=500)
    assert [m[3] for m in first] == [m[3] for m in second]
    assert [m[3] for m in first] != [m[3] for m in other]


def test_it_ends_at_its_limit_and_has_about_the_rate_asked_for(day: list[tuple[int, dict[str, Any]]]) -> None:
    assert len(day) == 30_000
    seconds = (day[-1][0] - START) / 1e9
    assert 350 < len(day) / seconds < 700


def test_arrivals_never_go_back_and_come_in_bursts(day: list[tuple[int, dict[str, Any]]]) -> None:
    arrivals = [at for at, _ in day]
    assert arrivals == sorted(arrivals)
    per_tick = Counter((at - START) // 50_000_000 for at in arrivals)
    counts = [per_tick[i] for i in range(max(per_tick))]
    mean = sum(counts) / len(counts)
    variance = sum((c - mean) ** 2 for c in counts) / len(counts)
    assert variance > 1.5 * mean  # a Poisson stream would have equal ones


def test_quotes_are_two_sided_and_trades_are_mixed(day: list[tuple[int, dict[str, Any]]]) -> None:
    quotes = [m for _, m in day if m["T"] == "q"]
    trades = [m for _, m in day if m["T"] == "t"]
    assert all(0 < m["bp"] < m["ap"] and m["bs"] and m["as"] for m in quotes)
    assert {m["S"] for m in trades} == {m["S"] for m in quotes} == set(WELL_KNOWN)
    odd = sum("I" in m["c"] for m in trades) / len(trades)
    assert 0.3 < odd < 0.7
    assert all(("I" in m["c"]) == (m["s"] < 100) for m in trades)
    assert len({m["x"] for m in trades}) > 5
    assert {m["z"] for m in trades} == {"A", "B", "C"}
    assert all("T" in m["c"] for m in trades)  # nine o'clock is before the opening
    late = [m for at, m in day if m["t"].to_unix_nano() < at - 500_000_000]
    assert late
    assert all("Z" in m["c"] and m["x"] == "D" for m in late)
    ids = [(m["S"], m["i"]) for m in trades]
    assert len(set(ids)) == len(ids)


HOUR = 3_600_000_000_000
OPENING = START + HOUR // 2
Noticed = list[tuple[int, dict[str, Any]]]


@pytest.fixture(scope="module")
def hour() -> Noticed:
    """Two quiet hours around the opening, with far more halts and corrections than usual."""
    market = SyntheticMarket(
        ["AAPL", "IBM", "SPY"], 5, START, 3.0, 25_000, halts_per_hour=12.0, corrections_per_hour=60.0
    )
    return [(m[0], msgpack.unpackb(m[3])) for block in market.read(Streams()) for m in block]


def of(hour: Noticed, kind: str) -> list[tuple[int, dict[str, Any]]]:
    return [(at, m) for at, m in hour if m["T"] == kind]


def test_a_halted_symbol_is_quoted_and_does_not_trade(hour: Noticed) -> None:
    """A watchdog that takes a halt for a mute socket would never meet one."""
    halts = [(at, m["S"]) for at, m in of(hour, "s") if m["sc"] in ("2", "P")]
    assert len(halts) > 5
    ends = [(at, m["S"]) for at, m in of(hour, "s") if m["sc"] in ("3", "T")]
    for begin, symbol in halts:
        end = next((at for at, name in ends if name == symbol and at > begin), hour[-1][0])
        assert (end - begin) / 1e9 <= 301 + 10
        inside = [m["T"] for at, m in hour if begin < at < end and m["S"] == symbol]
        assert "t" not in inside
        assert "q" in inside
    assert {m["sc"] for _, m in of(hour, "s")} == {"2", "3", "P", "Q", "T"}


def test_bands_go_around_the_price_and_widen_at_the_opening(hour: Noticed) -> None:
    """Bands that a price leaves are nonsense to whoever shows them."""
    quotes: dict[str, float] = {}
    shares: dict[bool, set[float]] = {True: set(), False: set()}
    for at, message in hour:
        if message["T"] == "q":
            quotes[message["S"]] = message["bp"]
        elif message["T"] == "l" and message["S"] in quotes:
            assert message["d"] < quotes[message["S"]] < message["u"]
            middle = (message["u"] + message["d"]) / 2
            wide = OPENING <= at < OPENING + HOUR // 4
            shares[wide].add(round((message["u"] - middle) / middle, 3))
    assert shares == {True: {0.1}, False: {0.05}}


def test_imbalances_are_frequent_before_the_auction_only(hour: Noticed) -> None:
    """A silent channel for hours, then a rush, is what a channel's own rhythm must cope with."""
    ats = [at for at, _ in of(hour, "i")]
    before = sum(OPENING - HOUR // 6 <= at < OPENING for at in ats)
    after = sum(OPENING <= at < OPENING + HOUR // 6 for at in ats)
    assert before > 80
    assert 5 <= after <= 15


def test_corrections_and_cancels_name_a_trade_that_was(hour: Noticed) -> None:
    """A correction of nothing cannot be matched with the trade that it undoes."""
    trades: dict[tuple[str, int], dict[str, Any]] = {}
    seen = Counter(m["T"] for _, m in hour)
    assert seen["c"] > 5
    assert seen["x"] > 5
    for _, message in hour:
        if message["T"] == "t":
            assert (message["S"], message["i"]) not in trades
            trades[message["S"], message["i"]] = message
        elif message["T"] == "c":
            old = trades[message["S"], message["oi"]]
            assert (message["op"], message["os"], message["oc"]) == (old["p"], old["s"], old["c"])
            assert (message["S"], message["ci"]) not in trades
            trades[message["S"], message["ci"]] = message
        elif message["T"] == "x":
            assert (message["S"], message["i"]) in trades


def test_without_rates_there_are_neither_halts_nor_corrections() -> None:
    """A test of trades alone would be disturbed by pauses that it did not ask for."""
    kinds = {msgpack.unpackb(m[3])["T"] for m in messages(count=3_000)}
    assert kinds <= {"t", "q", "l", "i"}
