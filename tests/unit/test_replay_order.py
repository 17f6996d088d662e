"""The total order of a replay, against a plain sort: if it hangs on pieces, backtests differ by the hour."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from processors.exits import app
from replay.inputs import PRICES, RANKED, WHOLE, WINDOWED
from replay.order import EVENT, RECEIVED, Key, Lane, Merge, Times
from schemas.catalogue import EXIT_TRIGGERS

STAMPS = st.tuples(st.integers(0, 9), st.integers(0, 9))
LOGS = st.lists(st.lists(STAMPS, max_size=12), min_size=1, max_size=4)
BY = st.sampled_from([EVENT, RECEIVED])


def lanes_of(logs: list[list[tuple[int, int]]]) -> dict[Lane, list[tuple[int, int]]]:
    """Topics of two partitions each."""
    return {Lane(number // 2, number % 2): stamps for number, stamps in enumerate(logs)}


def naive(logs: dict[Lane, list[tuple[int, int]]], by: str) -> list[Key]:
    """All keys, sorted; the time is the greatest of the partition so far."""
    keys = []
    for (rank, partition), stamps in logs.items():
        for offset in range(len(stamps)):
            before = stamps[: offset + 1]
            times = [received if by == RECEIVED else min(ts, received) for ts, received in before]
            keys.append(Key(max(times), rank, partition, offset))
    return sorted(keys)


def pieces(count: int, cuts: list[int]) -> Iterator[range]:
    begin = 0
    for cut in sorted({c % (count + 1) for c in cuts} | {count}):
        yield range(begin, cut)
        begin = cut


@settings(max_examples=60, deadline=None)
@given(LOGS, BY, st.lists(st.integers(0, 100), max_size=6), st.randoms(use_true_random=False))
def test_the_merge_is_a_sort_whatever_the_pieces(logs, by, cuts, chance) -> None:  # type: ignore[no-untyped-def]
    """Pieces come as Kafka likes to send them: one lane far ahead, another late, an empty one at the end."""
    lanes = lanes_of(logs)
    merge: Merge[int] = Merge(lanes)
    waiting = {lane: list(pieces(len(stamps), cuts)) for lane, stamps in lanes.items()}
    times = {lane: Times(by) for lane in lanes}
    taken: list[Key] = []
    while waiting:
        lane = chance.choice(sorted(waiting))
        piece = waiting[lane].pop(0) if waiting[lane] else range(0)
        stamps = [lanes[lane][offset] for offset in piece]
        entries = [
            (Key(times[lane].see(*s), lane.rank, lane.partition, n), n)
            for n, s in zip(piece, stamps, strict=True)
        ]
        merge.push(lane, entries)
        if not waiting[lane]:
            merge.finish(lane)
            del waiting[lane]
        found = list(merge.take())
        assert all(key.offset == content for key, content in found)
        taken += [key for key, _ in found]
    assert taken == naive(lanes, by)
    assert all(not merge.held(lane) for lane in lanes)


@settings(max_examples=60, deadline=None)
@given(st.lists(STAMPS, max_size=20), BY, st.lists(st.integers(0, 100), max_size=4))
def test_times_in_columns_are_those_one_by_one(stamps, by, cuts) -> None:  # type: ignore[no-untyped-def]
    """Prices are read in columns, everything else record by record: both must stand in one order."""
    single, columns = Times(by), Times(by)
    expected = []
    for stamp in stamps:
        time = single.see(*stamp)
        expected.append((time, single.event))
    found: list[tuple[int, int]] = []
    for piece in pieces(len(stamps), cuts):
        part = np.array([stamps[n] for n in piece], np.int64).reshape(-1, 2)
        times, events = columns.see_all(part[:, 0], part[:, 1])
        found += zip(times.tolist(), events.tolist(), strict=True)
    assert found == expected
    assert columns.now == single.now


def test_nothing_is_taken_while_an_earlier_record_may_come() -> None:
    """Else the order would be that of the network."""
    first, second = Lane(0, 0), Lane(1, 0)
    merge: Merge[str] = Merge([first, second])
    merge.push(second, [(Key(5, 1, 0, 0), "b")])
    assert list(merge.take()) == []
    assert merge.hungry == {first}
    merge.push(first, [(Key(5, 0, 0, 0), "a")])
    assert [content for _, content in merge.take()] == ["a"]
    assert merge.hungry == {first}
    merge.finish(first)
    assert [content for _, content in merge.take()] == ["b"]


def test_a_replay_reads_what_the_service_reads() -> None:
    """A topic that one of them forgets is a gate that only the other one knows."""
    served = {**app.PRICES, **app.EVENTS}
    ranked = {topic: stem for topic, stem in RANKED if topic != EXIT_TRIGGERS and topic not in WHOLE}
    assert ranked == served
    assert set(WHOLE) == set(app.WHOLE)
    assert set(PRICES) == set(app.PRICES)
    assert set(WINDOWED) <= served.keys()
