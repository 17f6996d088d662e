"""The fence: if it failed, a producer that woke up late would write a user's trades and fills a second time,
or its successor's would be left out.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from tidewire.fence import Fence, Fences, LogFence

Records = list[tuple[int, str]]
RECORDS: st.SearchStrategy[Records] = st.lists(
    st.tuples(st.integers(1, 4), st.sampled_from(["ws", "ws", "rest", "rss"])), max_size=30
)


def _naive(records: Records, before: Sequence[tuple[int, str]] = ()) -> list[bool]:
    """A record from the socket is stale when any record from the socket before it has a greater epoch."""
    seen = [*before]
    result = []
    for epoch, source in records:
        result.append(source == "ws" and any(e > epoch for e, s in seen if s == "ws"))
        seen.append((epoch, source))
    return result


@given(st.lists(RECORDS, max_size=4), st.booleans())
@settings(max_examples=60)
def test_columns_and_single_records_say_what_a_naive_reading_says_in_any_batches(
    batches: list[Records], restart: bool
) -> None:
    """However the log is cut into batches, and with a restart between them, the same records are stale."""
    whole = [record for batch in batches for record in batch]
    columns, single = Fence(), Fence()
    by_column: list[bool] = []
    by_record: list[bool] = []
    for batch in batches:
        epochs = np.array([epoch for epoch, _ in batch], np.int64)
        sources = pl.Series([source for _, source in batch], dtype=pl.Enum(["ws", "rest", "rss"]))
        mask = columns.stale_rows(epochs, sources)
        by_column += [False] * len(batch) if mask is None else mask.tolist()
        by_record += [single.stale({"owner_epoch": epoch, "source": source}) for epoch, source in batch]
        if restart:
            columns, single = Fence(columns.greatest), Fence(single.greatest)
    assert by_column == by_record == _naive(whole)
    assert columns.greatest == single.greatest == max((e for e, s in whole if s == "ws"), default=0)


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(1, 4)), max_size=20), st.integers(0, 20))
@settings(max_examples=30)
def test_accounts_do_not_fence_each_other(records: list[tuple[str, int]], cut: int) -> None:
    """A takeover of one account's feed must not cost the events of another in the same partition."""
    fences = Fences()
    found = []
    for number, (key, epoch) in enumerate(records):
        if number == cut:
            fences = Fences({k: fences.greatest(k) for k in "ab"})
        found.append((key, fences.stale(key, {"owner_epoch": epoch, "source": "ws"})))
    for account in "ab":
        mine = [(epoch, "ws") for key, epoch in records if key == account]
        assert [stale for key, stale in found if key == account] == _naive(mine)


@given(RECORDS, st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), max_size=5), st.booleans())
@settings(max_examples=60)
def test_a_log_that_is_read_again_is_judged_as_the_first_time(
    records: Records, spans: list[tuple[int, int]], restart: bool
) -> None:
    """After a crash a reader reads the last records again; none that was good may then be left out."""
    expected, fence, reached = _naive(records), LogFence(), 0
    for start, length in [(0, 5), *spans, (0, 30)]:
        begin = min(start, reached)  # never ahead of what was read
        part = records[begin : begin + length]
        reached = max(reached, begin + len(part))
        if length % 2:
            found = [
                fence.stale({"owner_epoch": epoch, "source": source}, begin + n)
                for n, (epoch, source) in enumerate(part)
            ]
        else:
            mask = fence.stale_rows(
                np.array([epoch for epoch, _ in part], np.int64),
                pl.Series([source for _, source in part], dtype=pl.String),
                np.arange(begin, begin + len(part)),
            )
            found = [False] * len(part) if mask is None else mask.tolist()
        assert found == expected[begin : begin + len(part)]
        if restart:
            fence = LogFence([list(rise) for rise in fence.rises])
