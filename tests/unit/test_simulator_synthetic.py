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
