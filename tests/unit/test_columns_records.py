"""A partition's records: what goes to the changelog, and what comes back from it.

If these fail, a restarted worker holds states that were deleted, or lacks some that were not.
"""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from processors.columns.records import Records

steps = st.lists(
    st.tuples(st.sampled_from("abcd"), st.none() | st.integers(0, 9)) | st.just(("commit", None))
)


@settings(max_examples=60)
@given(steps)
def test_the_changelog_gives_back_what_was_put_and_not_deleted(steps: list[tuple[str, int | None]]) -> None:
    """Against a plain dict, over puts, deletions, commits and a recovery after each commit."""
    records, changelog, truth = Records(3), dict[bytes, bytes](), dict[bytes, int]()
    for name, value in [*steps, ("commit", None)]:
        key = name.encode()
        if name == "commit":
            for row, state in records.take_changed().items():
                if state is None:
                    changelog.pop(row, None)
                else:
                    changelog[row] = state
            assert records.take_changed() == {}
            records = Records(3, changelog)
        elif value is None:
            records.delete(key)
            truth.pop(key, None)
        else:
            records.put(key, {"value": value})
            truth[key] = value
        assert len(records) == len(truth)
    assert {key: (records.get(key) or {})["value"] for key in records.keys()} == truth  # noqa: SIM118
    assert records.get(b"none") is None
    assert not records.other_version()


def test_rows_come_in_the_order_of_their_last_change_and_deletions_last() -> None:
    """A crash amid the writing must not leave a deletion without what stands in for the deleted."""
    records = Records(1)
    for key in (b"x", b"b", b"a", b"b"):
        records.put(key, {})
    records.delete(b"x")
    records.prepare = lambda: records.put(b"late", {})
    assert list(records.take_changed()) == [b"a", b"b", b"late", b"x"]
    records.prepare = None
    records.put(b"z", {})
    records.delete(b"a")
    records.put(b"c", {})
    assert list(records.take_changed()) == [b"z", b"c", b"a"]


def test_rows_of_another_layout_are_noticed() -> None:
    """They would be folded on as if they meant the same."""
    assert Records(2, {b"a": b'{"v":1}'}).other_version()
    assert Records(2, {b"a": b"{}"}).other_version()
