"""The life of a watch: repeats, edits, adds, flips, later exit epochs, and what a trigger says of itself.

If these fail, a position is closed twice, a stop forgets its best price, or a trigger cannot be explained.
"""

from __future__ import annotations

import io
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import fastavro
import pytest

from processors.exits.explain import explain
from tests.exits_market import NOON, SECOND, Market, a_watch

_SCHEMAS = Path(__file__).parents[2] / "schemas"


def trailing(**more: Any) -> dict[str, Any]:
    """A trailing stop of 5 USD."""
    return a_watch("trailing_stop", **{"trail_price": "5", **more})


def test_a_trigger_fires_once_for_each_position_and_exit_epoch() -> None:
    """Invariant 2: below the stop for ever, sold once; again only when the account side says so."""
    market = Market()
    market.watch(a_watch())
    for _ in range(5):
        market.quote(90.0, 90.1)
    assert market.fired() == ["a:AAPL:1:0"]
    market.watch(a_watch(exit_epoch=1, result="stale"))
    market.watch(a_watch(exit_epoch=0))
    for _ in range(5):
        market.quote(90.0, 90.1)
    assert market.fired() == ["a:AAPL:1:0", "a:AAPL:1:1"]


def test_a_new_attempt_pauses_after_one_in_vain() -> None:
    """A refused exit must not spin: thirty seconds of event time after its trigger, not one tick earlier."""
    market = Market()
    market.watch(a_watch())
    market.quote(94.0, 94.1, NOON)
    market.watch(a_watch(exit_epoch=1, pause_seconds=30))
    market.quote(94.0, 94.1, NOON + 30 * SECOND - 1)
    assert ([g for g, _ in market.told("held")], len(market.fired())) == (["pause"], 1)
    market.commit()
    market.crash()
    market.quote(94.0, 94.1, NOON + 30 * SECOND)
    assert market.fired() == ["a:AAPL:1:0", "a:AAPL:1:1"]
    assert explain(market.triggers[1]).fires


def test_prices_received_before_a_watch_are_none_of_its_business() -> None:
    """A partition that is read from further back holds prices from before the position was opened."""
    market = Market()
    market.watch(a_watch(received_ts=NOON + SECOND + 7))
    market.quote(94.0, 94.1, NOON + SECOND - 1)
    assert market.fired() == []
    market.quote(94.0, 94.1, NOON + SECOND)
    assert market.fired() == ["a:AAPL:1:0"]


def test_of_a_bracket_only_the_first_rule_fires() -> None:
    """Stop and target guard one position: two orders would turn it round."""
    market = Market()
    market.watch(a_watch(rule="stop"))
    market.watch(a_watch("take_profit", rule="target"))
    market.quote(94.0, 94.1)
    market.quote(111.0, 111.1)
    assert market.fired() == ["a:AAPL:1:0"]
    assert market.told("disarmed") == [("", "rule stop fired for this position")]


def test_a_rule_set_after_its_position_has_fired_waits_for_the_next_exit_epoch() -> None:
    """The order is under way already."""
    market = Market()
    market.watch(a_watch())
    market.quote(94.0, 94.1)
    market.watch(a_watch(rule="new"))
    market.quote(93.0, 93.1)
    assert market.fired() == ["a:AAPL:1:0"]


def test_a_watch_that_comes_while_the_price_is_beyond_the_stop_fires_on_the_next_good_price() -> None:
    """The quote of before is not what it was set upon."""
    market = Market()
    market.watch(a_watch(account="b", stop_price="1"))
    market.quote(90.0, 90.1)
    market.watch(a_watch())
    market.trade(90.0)
    assert market.fired() == []
    market.quote(90.0, 90.1)
    assert market.fired() == ["a:AAPL:1:0"]


KEPT = [
    ({"quantity": "150", "entry_price": "104"}, True),
    ({"exit_epoch": 1}, True),
    ({"max_hold_seconds": 5}, True),
    ({"trail_price": "4"}, False),
    ({"trail_price": None, "trail_percent": "5"}, False),
    ({"reference": "mid"}, False),
    ({"position_epoch": 2}, False),
    ({"quantity": "-100", "position_epoch": 2}, False),
]


@pytest.mark.parametrize(("change", "kept"), KEPT)
def test_the_high_water_mark_survives_what_does_not_change_the_trail(
    change: dict[str, Any], kept: bool
) -> None:
    """Adds, edits and a new attempt keep it; another trail, another price or a flip begins anew."""
    market = Market()
    market.watch(trailing())
    market.quote(120.0, 120.1)
    market.watch(trailing(**change))
    market.quote(114.0, 114.1)
    assert bool(market.fired()) is kept


def test_a_flip_guards_the_other_side() -> None:
    """Long 100 became short 100: its stop lies above, and the old one is forgotten."""
    market = Market()
    market.watch(a_watch())
    market.watch(a_watch(quantity=-100, position_epoch=2, stop_price="105"))
    market.quote(94.0, 94.1)
    assert market.fired() == []
    market.quote(104.9, 105.0)
    assert market.fired() == ["a:AAPL:2:0"]


def test_repeats_of_a_watch_tell_nothing_and_change_nothing() -> None:
    """The account side writes all watches again after a restart: a thousand rules must not arm anew."""
    market = Market()
    market.watch(trailing())
    market.quote(120.0, 120.1)
    told = len(market.events)
    market.watch(trailing(ts=NOON, received_ts=NOON))
    assert market._fold(*market.log[0]) == "duplicate"
    assert len(market.events) == told
    market.quote(114.0, 114.1)
    assert market.fired() == ["a:AAPL:1:0"]


def test_a_released_watch_stays_released_whatever_is_repeated() -> None:
    """A closed position's stop that came back with a replay would open another one."""
    market = Market()
    market.watch(a_watch())
    market.watch(a_watch(active=False))
    key = b"AAPL:a:AAPL:r"
    market.put("watch", None, market.at("exits.watch"), key)
    for _ in range(2):
        market.quote(90.0, 90.1)
        market.crash()
    assert (market.fired(), market.exits.watched()) == ([], set())
    for _ in range(3):
        market.commit()
    assert [row for row in market.rows if row.startswith((b"watch", b"symbol"))] == []
    market.crash()
    market.watch(a_watch())
    market.quote(90.0, 90.1)
    assert market.fired() == ["a:AAPL:1:0"]


def test_pending_triggers_survive_a_crash_and_sent_ones_are_not_pending() -> None:
    """Recovery publishes every pending trigger again; what is sent is done."""
    market = Market()
    market.watch(a_watch())
    market.quote(94.0, 94.1)
    first = market.exits.pending()
    market.crash()
    assert market.exits.pending() == first
    assert market.fired() == ["a:AAPL:1:0"]
    market.put("result_published", "a:AAPL:1:0")
    market.put("result_published", "a:AAPL:1:0")
    assert [t["state"] for t in market.triggers] == ["pending", "sent"]
    assert len(market.told("published")) == 1
    for _ in range(3):
        market.commit()
    market.crash()
    assert market.exits.pending() == []
    market.quote(94.0, 94.1)
    assert market.fired() == ["a:AAPL:1:0"]
    assert not any(row.startswith(b"trigger") for row in market.rows)


def a_trigger() -> dict[str, Any]:
    """A trailing stop that fired."""
    market = Market()
    market.watch(trailing())
    market.quote(100.0, 100.1)
    market.quote(94.0, 94.1)
    (trigger,) = market.triggers
    return trigger


WRONG = [
    ("threshold", Decimal(94)),
    ("high_water", Decimal(99)),
    ("trigger_id", "a:AAPL:1:7"),
    ("inputs", []),
    ("evidence", "{}"),
    ("watch", "no JSON"),
]


@pytest.mark.parametrize(("name", "value"), WRONG)
def test_a_trigger_that_disagrees_with_its_evidence_is_found_out(name: str, value: Any) -> None:
    """An explanation that says yes to everything explains nothing."""
    trigger = a_trigger()
    assert explain(trigger).fires
    assert not explain({**trigger, name: value}).fires


def test_evidence_of_a_price_that_was_not_reached_does_not_fire() -> None:
    """Judged again with another bid the stop is not reached."""
    trigger = a_trigger()
    evidence = json.loads(trigger["evidence"])
    evidence["facts"]["quote"][0] = 95.01
    assert not explain({**trigger, "evidence": json.dumps(evidence)}).fires


def test_triggers_and_events_fit_their_schemas_and_explain_themselves_from_the_topic() -> None:
    """What the topic gives back must be enough."""
    market = Market()
    market.watch(trailing(trail_price=None, trail_percent="3.333333333"))
    market.quote(100.01, 100.1)
    market.quote(94.0, 94.1)
    for stem, records in (("exit_trigger", market.triggers), ("exit_event", market.events)):
        schema = fastavro.parse_schema(json.loads((_SCHEMAS / f"{stem}.avsc").read_text()))
        for record in records:
            buffer = io.BytesIO()
            fastavro.schemaless_writer(buffer, schema, record, strict=True)
            buffer.seek(0)
            found: Any = fastavro.schemaless_reader(buffer, schema, None)
            assert stem == "exit_event" or explain(found).fires


def test_the_newest_input_dates_a_trigger() -> None:
    """The executor refuses what is too old by the receive time of the newest input."""
    trigger = a_trigger()
    assert trigger["received_ts"] == max(i["ts"] for i in trigger["inputs"]) + 7
    assert trigger["received_ts"] < NOON + SECOND
