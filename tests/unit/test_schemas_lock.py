"""The lock file: a changed id or a lost version makes a whole log unreadable."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from schemas import catalogue, compatibility, lock
from tidewire.errors import SchemaError

CURRENT = {stem: catalogue.schema(stem) for stem in catalogue.stems()}


def test_every_schema_is_locked() -> None:
    """A schema changed and not locked stops every service at start: find out here instead."""
    changed = lock.changed(lock.read(), CURRENT)
    assert not changed, f"{changed} changed: run `tidewire topics lock` and commit schemas/lock.json"


def test_every_version_can_read_every_other() -> None:
    """Producers and consumers are upgraded in any order, and last year's log is still read."""
    assert compatibility.problems(lock.read(), CURRENT) == []


def test_no_schema_file_is_left_out() -> None:
    """An .avsc that no topic uses is dead weight, or a topic is missing."""
    there = {path.stem for path in lock.PATH.parent.glob("*.avsc")}
    assert there == set(catalogue.stems())


def test_the_first_ids_are_for_ever() -> None:
    """These stand in records: the test fails when somebody renumbers the file."""
    ids = {(entry.stem, entry.version): entry.id for entry in lock.read()}
    assert ids["stock_trade", 1] == 0x40000000
    assert ids["stock_quote", 1] == 0x40000001
    assert ids["stock_bar", 1] == 0x40000002
    assert ids["stock_features", 1] == 0x40000003


def test_a_change_gets_the_next_id_and_keeps_the_old_one() -> None:
    """Records of the former version stay readable only if its id and text stay."""
    before = lock.read()
    trade = CURRENT["stock_trade"]
    new = {"name": "note", "type": ["null", "string"], "default": None}
    after = lock.extend(before, {**CURRENT, "stock_trade": {**trade, "fields": [*trade["fields"], new]}})
    assert after[: len(before)] == before
    assert [(e.stem, e.version, e.id) for e in after[len(before) :]] == [
        ("stock_trade", 2, before[-1].id + 1)
    ]
    assert lock.extend(before, CURRENT) == before


def test_a_new_doc_is_no_new_version() -> None:
    """A better comment must not cost an id; a new default or logical type must."""
    trade = CURRENT["stock_trade"]
    assert lock.fingerprint({**trade, "doc": "other"}) == lock.fingerprint(trade)
    decimal = {"type": "bytes", "logicalType": "decimal", "precision": 38, "scale": 18}
    plain: dict[str, Any] = {"type": "record", "name": "T", "fields": [{"name": "a", "type": "bytes"}]}
    money = {**plain, "fields": [{"name": "a", "type": decimal}]}
    default = {**plain, "fields": [{"name": "a", "type": "bytes", "default": ""}]}
    assert len({lock.fingerprint(schema) for schema in (plain, money, default)}) == 3


def test_it_survives_being_written(tmp_path: Path) -> None:
    """What `tidewire topics lock` writes must be what the next start reads, and be diffable by line."""
    path = tmp_path / "lock.json"
    lock.write(lock.read(), path)
    assert lock.read(path) == lock.read()
    assert path.read_text("utf-8") == lock.PATH.read_text("utf-8")
    assert len(path.read_text("utf-8").splitlines()) == len(lock.read()) + 2


@pytest.mark.parametrize("damage", ["drop", "renumber", "edit", "swap"])
def test_an_edited_file_is_refused(tmp_path: Path, damage: str) -> None:
    """Append-only: a hand that tidies up would give old records another meaning."""
    document = json.loads(lock.PATH.read_text("utf-8"))
    lines = document["schemas"]
    if damage == "drop":
        del lines[0]
    elif damage == "renumber":
        lines[1]["id"] = 7
    elif damage == "edit":
        lines[1]["schema"]["fields"].pop()
    else:
        lines[0], lines[1] = lines[1], lines[0]
    path = tmp_path / "lock.json"
    path.write_text(json.dumps(document), "utf-8")
    with pytest.raises(SchemaError, match="append-only"):
        lock.read(path)


def test_a_missing_or_broken_file_says_what_to_do(tmp_path: Path) -> None:
    """No traceback for a merge conflict left in the file."""
    with pytest.raises(SchemaError, match=r"lock\.json cannot be read"):
        lock.read(tmp_path / "lock.json")
    (tmp_path / "lock.json").write_text("<<<<<<< HEAD")
    with pytest.raises(SchemaError, match="restore it from version control"):
        lock.read(tmp_path / "lock.json")
