"""How often brokers are asked: too seldom and prices are stale, too often and nothing else gets done."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processors.columns.pacing import Fetch, Pacer

FETCH = Fetch(least_ms=5, most_ms=30, share=0.15)


def rounds(cost: float, wait: float, count: int = 60, fetch: Fetch = FETCH) -> tuple[float, float]:
    """The last pause, and the share of a core used in the end, of rounds that cost so much CPU time (s) and
    wait so long for other things than their pause."""
    pacer, at, used, pause = Pacer(0.0, 0.0), 0.0, 0.0, 0.0
    for _ in range(count):
        at, used = at + pause + cost + wait, used + cost
        pause = pacer.pause(fetch, at, used)
    return pause, cost / (pause + cost + wait)


@given(st.floats(0.002, 0.006), st.floats(0, 0.003))
def test_between_its_bounds_the_pause_keeps_the_process_at_its_share_of_a_core(
    cost: float, wait: float
) -> None:
    pause, share = rounds(cost, wait)
    if 0.005 < pause < 0.03:
        assert share == pytest.approx(0.15, rel=0.01)
    else:
        assert pause == 0.005 or share > 0.15


def test_where_answers_cost_little_a_price_waits_no_longer_than_the_least_pause() -> None:
    assert rounds(cost=0.0005, wait=0.001)[0] == 0.005


def test_on_a_slow_machine_the_pause_stays_within_its_bound() -> None:
    """A price may wait that long and no longer, however busy the machine is."""
    assert rounds(cost=0.050, wait=0.010)[0] == 0.03


def test_a_round_that_waited_for_news_does_not_make_the_next_ones_wait() -> None:
    assert rounds(cost=0.010, wait=0.3)[0] == 0.005


def test_a_single_costly_round_is_no_reason_to_be_late_for_long() -> None:
    """A collection of garbage, a rebalance: half a second later prices come as before."""
    pacer, at, used = Pacer(0.0, 0.0), 0.0, 0.0
    pauses = []
    for n in range(40):
        cost = 0.2 if n == 10 else 0.0005
        at, used = at + 0.005 + cost, used + cost
        pauses.append(pacer.pause(FETCH, at, used))
    assert pauses[9] == 0.005
    assert pauses[-1] == 0.005


def test_a_pause_may_be_fixed() -> None:
    """Exits ask after 3 ms whatever it costs: a stop must not wait for a share of a core."""
    assert rounds(cost=0.05, wait=0.0, fetch=Fetch(3, 3))[0] == 0.003
