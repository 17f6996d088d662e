"""If these fail, a lost fill or an order that a client still believes open passes as complete."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest

from schemas.gaps import Gap
from verify.orders import Event, Found, Holding, Pushed, Sent, Standing, compare

D = Decimal
NEW = Event("o1", "new", D(0), None, None)
PART = Event("o1", "partial_fill", D(4), D(4), D("10.5"))
FILL = Event("o1", "fill", D(10), D(6), D("10.6"))
GONE = Event("o2", "canceled", D(0), None, None)
SENT = Sent(
    (NEW, PART, FILL, GONE),
    ("new", "partially_filled", "filled", "canceled"),
    {"o1": Standing("filled", D(10)), "o2": Standing("canceled", D(0))},
    {"e1": PART, "e2": FILL},
    {"o1": 1, "o2": 1},
    {(1, "AAPL"): D(10)},
)
PUSHED = Pushed(frozenset({"e1", "e2"}), frozenset({("o1", "new"), ("o2", "canceled")}), dict(SENT.standings))
FOUND = Found(
    SENT.events,
    {"o1": "demo-1", "o2": "demo-1"},
    SENT.standings,
    {("demo-1", "AAPL"): D(10)},
    SENT.events,
    SENT.standings,
    {("demo-1", "AAPL"): D(10)},
    PUSHED,
    frozenset({"demo-1"}),
)


def test_a_whole_run_is_complete() -> None:
    outcome = compare(SENT, FOUND)
    assert (outcome.sent, outcome.topic, outcome.folded, outcome.postgres, outcome.pushed) == (4, 4, 4, 4, 4)
    assert (outcome.missing, outcome.extra, outcome.problems) == (0, 0, [])


@pytest.mark.parametrize("lost", SENT.events)
def test_an_event_that_is_lost_on_the_way_is_missing(lost: Event) -> None:
    rest = tuple(event for event in SENT.events if event != lost)
    on_the_way = compare(SENT, replace(FOUND, topic=rest, rows=rest))
    unwritten = compare(SENT, replace(FOUND, rows=rest))
    assert on_the_way.missing == unwritten.missing == 1
    assert lost.order_id in on_the_way.problems[0]
    assert "not in PostgreSQL" in unwritten.problems[0]


def test_passing_states_in_a_gap_that_nobody_can_fill_are_named_and_nothing_else_is_excused() -> None:
    """A loss would pass as complete, or a kill -9 would be blamed for what no broker tells afterwards."""
    sent = replace(SENT, times=(10, 20, 30, 40))
    gap = Gap(
        "g", "trading:demo-1", "orders", ("*",), "restart", 50, 5, 45, "closed", unrecoverable=("orders",)
    )
    found = replace(FOUND, topic=(GONE,), rows=(GONE,), gaps=(gap,))
    outcome = compare(sent, found)
    assert (outcome.unrecoverable, outcome.missing) == (1, 2)  # the fills are not excused
    assert outcome.notes == ["new of order o1 passed in a gap of the stream, and no history has it"]
    for other in (replace(gap, feed="trading:demo-2"), replace(gap, from_ts=11)):
        assert compare(sent, replace(found, gaps=(other,))).missing == 3


def test_an_event_that_is_there_twice_is_extra() -> None:
    """A fill counted twice is a position that nobody holds."""
    assert compare(SENT, replace(FOUND, topic=(*SENT.events, FILL))).extra == 1
    assert compare(SENT, replace(FOUND, rows=(*SENT.events, FILL))).extra == 1


def test_another_price_is_another_fill() -> None:
    other = (NEW, PART, FILL._replace(price=D("10.7")), GONE)
    outcome = compare(SENT, replace(FOUND, topic=other, rows=other))
    assert (outcome.missing, outcome.extra) == (1, 1)


def test_an_order_that_the_table_believes_open_is_named() -> None:
    folded = {**SENT.standings, "o2": Standing("new", D(0))}
    outcome = compare(SENT, replace(FOUND, folded=folded))
    assert outcome.folded == 3
    assert "o2 is canceled with 0 filled, the table has new" in outcome.problems[0]


def test_a_position_that_is_not_the_brokers_is_named() -> None:
    outcome = compare(SENT, replace(FOUND, positions={("demo-1", "AAPL"): D(4)}))
    assert outcome.problems == ["AAPL of account demo-1: the broker has 10, the table 4"]
    assert compare(SENT, replace(FOUND, stored_positions={})).problems != []


def test_what_a_snapshot_made_good_is_counted_apart_and_what_nothing_did_is_missing() -> None:
    """After a gateway's death the client gets the state, not each event; without the state it is wrong."""
    less = replace(PUSHED, executions=frozenset({"e1"}))
    covered = compare(SENT, replace(FOUND, pushed=less))
    assert (covered.pushed, covered.by_snapshot, covered.missing) == (3, 1, 0)
    stale = replace(less, orders={**SENT.standings, "o1": Standing("partially_filled", D(4))})
    assert compare(SENT, replace(FOUND, pushed=stale)).missing == 1


def test_other_peoples_orders_need_not_be_pushed() -> None:
    outcome = compare(SENT, replace(FOUND, visible=frozenset({"demo-2"}), pushed=Pushed()))
    assert (outcome.pushed, outcome.missing) == (0, 0)


def test_without_a_broker_that_can_be_asked_topic_and_database_are_compared() -> None:
    """Against Alpaca itself nobody knows what was sent."""
    outcome = compare(None, FOUND)
    assert (outcome.sent, outcome.missing, outcome.extra, outcome.pushed) == (None, 0, 0, None)
    assert compare(None, replace(FOUND, rows=FOUND.rows[1:])).missing == 1


def test_a_state_that_only_rest_told_is_no_invention_but_a_fill_is() -> None:
    """Alpaca's stream says nothing of a bracket's held leg; a fill that the broker never sent is money."""
    held = Event("leg", "new", D(0), None, None)
    more = (*SENT.events, held)
    outcome = compare(SENT, replace(FOUND, topic=more, rows=more, looked_up=frozenset({held})))
    assert (outcome.extra, outcome.looked_up, outcome.problems) == (0, 1, [])
    invented = replace(
        FOUND, topic=(*SENT.events, FILL), rows=(*SENT.events, FILL), looked_up=frozenset({FILL})
    )
    assert compare(SENT, invented).extra == 1


def test_our_average_stands_beside_the_brokers() -> None:
    """A user holds the two against the broker's page; with one alone a wrong cost looks like a right one."""
    held = Holding("demo-1", "AAPL", D(10), D("10.56"), D(10), None)
    outcome = compare(SENT, replace(FOUND, holdings=(held,)))
    assert [h.as_json() for h in outcome.holdings] == [
        {
            "account": "demo-1", "symbol": "AAPL", "quantity": "10", "average_price": "10.56",
            "broker_quantity": "10", "broker_average_price": None, "rule_average_price": None,
        }
    ]  # fmt: skip
