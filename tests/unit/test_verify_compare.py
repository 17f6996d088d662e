"""If these fail, `tidewire verify` calls a run complete that lost, doubled or changed an event."""

from __future__ import annotations

from collections import Counter
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from verify.compare import COPIES, Evidence, Outcome, compare, copies, difference, late, take_away
from verify.content import BARS, QUOTES, TRADES, Channel

Row = tuple[Any, ...]
T0 = 1_381_152_600_000_000_000  # 2013-10-07 09:30 New York


def trade(n: int, price: float = 10.0, symbol: str = "BAC", ts: int | None = None) -> Row:
    return (symbol, T0 + n if ts is None else ts, n, "P", price, 100, "@\x1fF", "A", None)


def quote(n: int, bid: float = 10.0, symbol: str = "BAC") -> Row:
    return (symbol, T0 + n, "P", bid, 3, "Q", bid + 0.01, 4, "R", "A", None)


def frame(channel: Channel, rows: list[Row]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=channel.shape, orient="row")


def placed(channel: Channel, rows: list[Row]) -> pl.DataFrame:
    return frame(channel, rows).with_columns(
        k_part=pl.lit(0, pl.Int64),
        k_offset=pl.int_range(pl.len(), dtype=pl.Int64),
        event_id=pl.int_range(pl.len()).cast(pl.String).cast(pl.Binary),
    )


def outcome(
    channel: Channel, sent: list[Row] | None, topic: list[Row], stored: list[Row], **more: Any
) -> Outcome:
    evidence = Evidence(
        channel=channel,
        sent=None if sent is None else frame(channel, sent),
        topic=placed(channel, topic),
        unreadable=more.pop("unreadable", frozenset()),
        postgres=placed(channel, stored),
        folded=more.pop("folded", None if channel is BARS else len(topic)),
        **more,
    )
    return compare(evidence, limit=50)


def complete(o: Outcome) -> bool:
    return not o.missing and not o.extra and not o.problems


_rows = st.lists(
    st.builds(quote, st.integers(0, 5), st.sampled_from([10.0, 10.01, 0.1 + 0.2]), st.sampled_from("AB")),
    max_size=30,
)


@given(_rows, _rows)
@settings(max_examples=60, deadline=None)
def test_the_difference_is_that_of_counters(expected: list[Row], actual: list[Row]) -> None:
    missing, extra = difference(frame(QUOTES, expected), frame(QUOTES, actual), QUOTES.columns)
    assert _counter(missing) == Counter(expected) - Counter(actual)
    assert _counter(extra) == Counter(actual) - Counter(expected)


@given(_rows, _rows, _rows)
@settings(max_examples=60, deadline=None)
def test_taking_away_is_that_of_counters(expected: list[Row], actual: list[Row], less: list[Row]) -> None:
    missing, _ = difference(frame(QUOTES, expected), frame(QUOTES, actual), QUOTES.columns)
    rest = take_away(missing, frame(QUOTES, less), QUOTES.columns)
    assert _counter(rest) == (Counter(expected) - Counter(actual)) - Counter(less)


def _counter(counted: pl.DataFrame) -> Counter[Row]:
    return Counter({row[:-1]: row[-1] for row in counted.select(*QUOTES.columns, COPIES).iter_rows()})


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_whatever_is_lost_is_counted_and_named(data: st.DataObject) -> None:
    sent = data.draw(_rows.filter(bool))
    kept = data.draw(st.lists(st.booleans(), min_size=len(sent), max_size=len(sent)))
    stored = data.draw(st.lists(st.booleans(), min_size=len(sent), max_size=len(sent)))
    topic = [row for row, keep in zip(sent, kept, strict=True) if keep]
    rows = [row for row, keep, store in zip(sent, kept, stored, strict=True) if keep and store]
    o = outcome(QUOTES, sent, topic, rows)
    assert o.missing == len(sent) - len(rows)
    assert complete(o) == (len(rows) == len(sent))
    named: Counter[tuple[int, float]] = Counter()
    for m in o.missing_events:
        named[(m.ts, m.event["bid_price"])] += m.copies
    lost = Counter(sent) - Counter(rows)
    assert named == _by_name(lost)


def _by_name(rows: Counter[Row]) -> Counter[tuple[int, float]]:
    found: Counter[tuple[int, float]] = Counter()
    for row, n in rows.items():
        found[(row[1], row[3])] += n
    return found


def test_history_may_say_more_of_an_event_than_the_stream_and_nothing_else() -> None:
    """Otherwise every article that was fetched over REST, with its images, is called missing and extra."""
    sent, fuller = [trade(1), trade(2)], [trade(1), (*trade(2)[:-1], '{"images":[]}')]

    def seen(by_rest: bool, rows: list[Row] = fuller) -> Outcome:
        topic = placed(TRADES, rows).with_columns(by_rest=pl.lit(by_rest))
        return compare(Evidence(TRADES, frame(TRADES, sent), topic, frozenset(), placed(TRADES, rows)), 5)

    assert complete(seen(by_rest=True))
    assert (seen(by_rest=False).missing, seen(by_rest=False).extra) == (1, 1)
    other = seen(by_rest=True, rows=[trade(1), (*trade(2, price=9.0)[:-1], '{"images":[]}')])
    assert (other.missing, other.extra) == (1, 1)


def test_true_repeats_stay_repeats() -> None:
    sent = [quote(1), quote(1), quote(1), quote(2)]
    assert complete(outcome(QUOTES, sent, sent, sent))
    o = outcome(QUOTES, sent, sent[1:], sent[1:])
    assert (o.missing, o.missing_events[0].copies) == (1, 1)


def test_a_doubled_event_is_extra_and_a_duplicate() -> None:
    sent = [trade(1), trade(2)]
    o = outcome(TRADES, sent, [*sent, trade(2)], [*sent, trade(2)])
    assert (o.duplicates, o.extra, o.missing, complete(o)) == (1, 1, 0, False)
    assert o.doubled == 1


def test_a_row_that_was_never_in_the_topic_is_extra() -> None:
    sent = [trade(1)]
    o = outcome(TRADES, sent, sent, [*sent, trade(9)])
    assert (o.extra, o.duplicates, o.doubled, complete(o)) == (1, 0, 0, False)


@pytest.mark.parametrize(
    "changed",
    [
        ("BAC", T0 + 1, 1, "P", 10.000000000000002, 100, "@\x1fF", "A", None),
        ("BAC", T0 + 2, 1, "P", 10.0, 100, "@\x1fF", "A", None),
        ("BAC", T0 + 1, 1, "P", 10.0, 101, "@\x1fF", "A", None),
        ("BAC", T0 + 1, 1, "P", 10.0, 100, "F\x1f@", "A", None),
        ("BAC", T0 + 1, 1, "P", 10.0, 100, "@\x1fF", "A", "{}"),
        ("IBM", T0 + 1, 1, "P", 10.0, 100, "@\x1fF", "A", None),
    ],
)
def test_an_altered_event_is_missing_and_extra_in_either_place(changed: Row) -> None:
    """One bit of a price, one ns, the order of conditions: all are content."""
    sent = [trade(1), trade(2)]
    in_topic = outcome(TRADES, sent, [changed, trade(2)], [changed, trade(2)])
    assert (in_topic.missing, in_topic.extra) == (1, 1)
    assert in_topic.missing_events[0].where == "topic"
    assert in_topic.missing_events[0].event["price"] == 10.0
    in_rows = outcome(TRADES, sent, sent, [changed, trade(2)])
    assert (in_rows.missing, in_rows.extra) == (1, 1)
    assert in_rows.missing_events[0].where == "postgres"


def test_swapped_prices_are_found() -> None:
    sent = [trade(1, 10.0), trade(2, 11.0)]
    swapped = [trade(1, 11.0), trade(2, 10.0)]
    o = outcome(TRADES, sent, swapped, swapped)
    assert (o.missing, o.extra) == (2, 2)


def test_a_trade_sent_again_under_its_id_is_a_duplicate_and_not_missing() -> None:
    """The producer drops it at the entrance; called missing, it would fail a sound run."""
    o = outcome(TRADES, [trade(1), trade(1), trade(2)], [trade(1), trade(2)], [trade(1), trade(2)])
    assert (o.duplicates, o.missing, complete(o)) == (1, 0, True)


def test_a_repeat_does_not_excuse_an_altered_trade() -> None:
    altered = trade(1, 99.0)
    o = outcome(TRADES, [trade(1), trade(1)], [altered], [altered])
    assert (o.missing, o.extra, o.duplicates) == (1, 1, 1)


def test_a_bar_said_again_is_dropped_and_one_said_anew_is_not() -> None:
    a = ("BAC", T0, "minute", 1.0, 2.0, 0.5, 1.5, 100, 3, 1.2, None)
    b = ("BAC", T0, "minute", 1.0, 2.0, 0.5, 1.6, 110, 4, 1.3, None)
    assert complete(outcome(BARS, [a, a, b, a], [a, b, a], [a, b, a]))
    assert outcome(BARS, [a, a, b, a], [a, b], [a, b]).missing == 1
    assert outcome(BARS, [a, a], [], []).missing == 1


def test_an_event_that_stands_twice_in_the_topic_is_a_problem_even_if_it_was_sent_twice() -> None:
    """The table counted it twice, though PostgreSQL's key kept one row."""
    twice = placed(TRADES, [trade(1), trade(1)]).with_columns(event_id=pl.lit(b"same"))
    o = compare(
        Evidence(TRADES, frame(TRADES, [trade(1), trade(1)]), twice, frozenset(), twice.head(1), folded=2), 10
    )
    assert (o.missing, o.extra) == (0, 0)
    assert any("repeat an event" in p for p in o.problems)


def test_the_first_missing_event_is_the_earliest() -> None:
    sent = [trade(n) for n in range(5)]
    o = outcome(TRADES, sent, [sent[0], sent[2], sent[4]], [sent[0], sent[4]])
    assert [m.event["id"] for m in o.missing_events] == [1, 2, 3]
    assert [m.where for m in o.missing_events] == ["topic", "postgres", "topic"]
    assert o.missing_events[0].event["conditions"] == ["@", "F"]


def test_the_list_is_cut_but_the_count_is_not() -> None:
    sent = [trade(n) for n in range(60)]
    o = outcome(TRADES, sent, [], [])
    assert (o.missing, len(o.missing_events)) == (60, 50)


def test_dead_letters_account_for_what_they_hold() -> None:
    sent = [trade(1), trade(2), trade(3)]
    o = outcome(
        TRADES, sent, [trade(1), trade(2)], [trade(1)], folded=1,
        given_up_by_sink=frozenset({(0, 1)}), given_up_by_table=frozenset({(0, 1)}),
        given_up_by_producer=frame(TRADES, [trade(3)]), other_letters=1,
    )  # fmt: skip
    assert (o.missing, o.extra, o.dead_lettered, o.problems) == (0, 0, 2, [])


def test_an_unreadable_record_without_a_dead_letter_is_a_problem() -> None:
    o = outcome(TRADES, [trade(1)], [trade(1)], [trade(1)], unreadable=frozenset({(0, 7)}), folded=2)
    assert o.topic == 2
    assert any("no dead letter" in p for p in o.problems)


def test_a_table_that_folded_less_or_more_is_a_problem() -> None:
    sent = [trade(1), trade(2)]
    for folded in (1, 3):
        o = outcome(TRADES, sent, sent, sent, folded=folded)
        assert any("folded" in p for p in o.problems), folded


def test_a_table_may_have_folded_what_arrived_meanwhile() -> None:
    sent = [trade(1), trade(2)]
    assert complete(outcome(TRADES, sent, sent, sent, folded=4, arrived_meanwhile=2))
    assert not complete(outcome(TRADES, sent, sent, sent, folded=5, arrived_meanwhile=2))


def test_broken_messages_need_a_dead_letter() -> None:
    sent = [trade(1)]
    o = outcome(TRADES, sent, sent, sent, odd_sent=2, odd_given_up=1, other_letters=1)
    assert (o.sent, o.missing, complete(o)) == (3, 1, False)
    assert complete(outcome(TRADES, sent, sent, sent, odd_sent=2, odd_given_up=2, other_letters=2))


def test_without_a_ledger_topic_and_rows_are_compared() -> None:
    topic = [trade(1), trade(2)]
    o = outcome(TRADES, None, topic, [trade(1)])
    assert (o.sent, o.missing, o.missing_events[0].where) == (None, 1, "postgres")


def test_late_trades_are_those_of_an_older_new_york_day() -> None:
    day = 86_400_000_000_000
    rows = [trade(1), trade(2, ts=T0 + day), trade(3), trade(4, symbol="IBM"), trade(5, ts=T0 + day)]
    assert late(placed(TRADES, rows)) == 1


def test_copies_of_nothing_are_none() -> None:
    missing, extra = difference(BARS.empty(), BARS.empty(), BARS.columns)
    assert (copies(missing), copies(extra)) == (0, 0)


def test_what_the_sink_no_longer_keeps_is_expired_and_only_that() -> None:
    """Otherwise retention makes every report incomplete, or hides what was lost since."""
    rows = [trade(n) for n in range(6)]
    o = outcome(TRADES, rows, rows, [rows[1], rows[4]], kept_from=T0 + 3)
    assert (o.expired, o.missing, o.extra) == (2, 2, 0)
    assert [m.ts for m in o.missing_events] == [T0 + 3, T0 + 5]
