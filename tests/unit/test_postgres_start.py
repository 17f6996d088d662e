"""Where the sink goes on, and what it finds at its start: a mistake here passes over records in silence."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sinks.postgres import connection, migrate
from sinks.postgres.offsets import Log, Stored, decide
from tidewire.errors import ConfigError, SchemaError, UnreachableError
from tidewire.slots import Slot


@given(
    st.none() | st.builds(Stored, st.integers(0, 50), st.sampled_from(["", "a", "b"])),
    st.sampled_from(["", "a", "b"]),
    st.integers(0, 50),
    st.integers(0, 50),
)
def test_no_record_that_may_be_unread_is_passed_over(
    stored: Stored | None, topic_id: str, beginning: int, length: int
) -> None:
    log = Log(topic_id, beginning, beginning + length)
    place = decide(stored, log)
    same = stored is not None and (not topic_id or not stored.topic_id or topic_id == stored.topic_id)
    assert beginning <= place.offset <= log.end
    if stored is not None and same and beginning <= stored.next_offset <= log.end:
        assert (place.offset, place.note) == (stored.next_offset, None)
    else:
        assert place.offset == beginning
        assert (place.note is None) == (stored is None)
    lost = same and stored is not None and stored.next_offset < beginning
    assert place.expired == (beginning - stored.next_offset if lost and stored is not None else 0)
    assert place.topic_id == (topic_id or (stored.topic_id if stored is not None else ""))


def test_a_changed_a_missing_and_a_newer_migration_are_told_apart() -> None:
    known = migrate.packaged()
    rows = [(m.version, m.name, m.checksum) for m in known]
    assert migrate.pending(known, []) == known
    assert migrate.pending(known, rows) == []
    assert migrate.pending(known, rows[:1]) == known[1:]
    changed = [replace(known[0], text=known[0].text + "\nDROP TABLE trades;"), *known[1:]]
    with pytest.raises(SchemaError, match=known[0].name):
        migrate.pending(changed, rows)
    with pytest.raises(SchemaError, match="newer version"):
        migrate.pending(known, [*rows, (len(known) + 1, "9999_future.sql", "x")])


def test_a_migration_that_arrives_after_one_with_a_greater_number_is_applied_too() -> None:
    """Lost otherwise: the tables of whoever's work was merged second."""
    known = migrate.packaged()
    rows = [(m.version, m.name, m.checksum) for m in known]
    for late in range(len(known)):
        assert migrate.pending(known, rows[:late] + rows[late + 1 :]) == [known[late]]


def test_a_checkout_with_other_line_ends_is_no_change() -> None:
    one = migrate.packaged()[0]
    assert replace(one, text=one.text.replace("\n", "\r\n")).checksum == one.checksum


def test_an_unreachable_server_is_named_without_its_password() -> None:
    url = "postgresql://ann:hunter2@127.0.0.1:1/ticks"
    with pytest.raises(UnreachableError) as caught:
        connection.connect(url)
    text = str(caught.value)
    assert "127.0.0.1:1" in text
    assert "ticks" in text
    assert "DATABASE_URL" in text
    assert "hunter2" not in text


@pytest.mark.parametrize("url", ["postgresql://ann:hunter2@[::1/x", "nonsense hunter2"])
def test_a_url_that_is_none_is_said_to_be_none_without_repeating_it(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        connection.connect(url)
    assert "DATABASE_URL" in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_a_killed_sink_finds_its_name_again_and_two_sinks_never_share_one(tmp_path: Path) -> None:
    first, second = Slot(tmp_path, "sink"), Slot(tmp_path, "sink")
    assert first.instance != second.instance
    name = first.instance
    first.release()  # as the kernel does for a process that was killed
    third = Slot(tmp_path, "sink")
    assert third.instance == name
    for slot in (second, third):
        slot.release()
