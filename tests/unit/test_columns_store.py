"""What a standby holds: if it took a record twice or missed one, a takeover would be wrong."""

from __future__ import annotations

import asyncio
from collections import Counter
from types import SimpleNamespace
from typing import Any

from faust.types import TP
from hypothesis import given, settings
from hypothesis import strategies as st
from yarl import URL

from processors.columns.store import NOTHING, StandbyStore
from tidewire.columns import as_blocks

TOPIC = "app-table-changelog"
ZERO, ONE = TP(TOPIC, 0), TP(TOPIC, 1)

CHANGES = st.lists(
    st.tuples(st.sampled_from([b"a", b"b", b"c"]), st.none() | st.binary(max_size=3)), max_size=25
)


def a_store(held: set[TP], counted: Counter[TP]) -> StandbyStore:
    recovery = SimpleNamespace(active_tps=held, standby_tps=set())
    app: Any = SimpleNamespace(tables=SimpleNamespace(recovery=recovery))
    table: Any = SimpleNamespace(name="table", changelog_topic_name=TOPIC)

    def applied(tp: TP, records: int) -> None:
        counted[tp] += records

    return StandbyStore(URL("memory://"), app, table, applied=applied, table_name="table")


def an_event(tp: TP, records: list[tuple[int, bytes, bytes | None]]) -> Any:
    found = [SimpleNamespace(offset=o, timestamp=1, key=k, value=v, headers=()) for o, k, v in records]
    return SimpleNamespace(message=SimpleNamespace(tp=tp), value=as_blocks(found))


def take(store: StandbyStore, *events: Any) -> None:
    store.apply_changelog_batch(events, lambda key: key, lambda value: value)


@settings(max_examples=60)
@given(CHANGES, st.data())
def test_a_changelog_read_in_any_pieces_with_any_repeats_is_held_once(
    changes: list[tuple[bytes, bytes | None]], data: st.DataObject
) -> None:
    """Compaction leaves holes in the offsets, a seek goes back behind what is held: neither matters."""
    log = [(2 * offset, key, value) for offset, (key, value) in enumerate(changes)]
    truth: dict[bytes, bytes] = {}
    for _, key, value in log:
        truth.pop(key, None)
        if value is not None:
            truth[key] = value
    counted: Counter[TP] = Counter()
    store, at = a_store({ZERO}, counted), 0
    while at < len(log):
        start = data.draw(st.integers(0, at))
        at = data.draw(st.integers(at + 1, len(log)))
        take(store, an_event(ZERO, log[start:at]))
    assert store.rows(0) == truth
    assert counted[ZERO] == len(log)
    assert store.persisted_offset(ZERO) == (log[-1][0] if log else NOTHING)


def test_what_this_worker_wrote_itself_is_not_read_again() -> None:
    """A demoted worker follows the changelog from what it holds, its own last writes included."""
    counted: Counter[TP] = Counter()
    store = a_store({ZERO}, counted)
    take(store, an_event(ZERO, [(0, b"a", b"1")]))
    store.put(0, {b"a": b"2", b"b": b"3"})
    store.set_persisted_offset(ZERO, 2)
    take(store, an_event(ZERO, [(1, b"a", b"old"), (2, b"b", b"old"), (3, b"c", b"4")]))
    assert store.rows(0) == {b"a": b"2", b"b": b"3", b"c": b"4"}
    assert counted[ZERO] == 2


def test_a_partition_given_away_is_forgotten_and_late_events_of_it_are_left_out() -> None:
    """It may come back: were a late event kept, its offset would hide all that was not read before it."""
    held, counted = {ZERO, ONE}, Counter[TP]()
    store = a_store(held, counted)
    take(store, an_event(ZERO, [(0, b"a", b"1")]), an_event(ONE, [(0, b"b", b"1")]))
    held.remove(ONE)
    asyncio.run(store.on_recovery_completed({ZERO}, set()))
    take(store, an_event(ONE, [(7, b"b", b"2")]), an_event(TP("other-changelog", 0), [(9, b"x", b"2")]))
    assert store.rows(1) == {}
    assert store.persisted_offset(ONE) == NOTHING
    assert store.rows(0) == {b"a": b"1"}
    assert store.persisted_offset(ZERO) == 0
