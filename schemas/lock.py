"""The lock file: every version of every schema that was ever written, with its id. Append-only.

Local ids start high (0x40000000), where no registry begins to count, so that a record says by its id alone
whether it was written with or without a registry. The whole former schemas are kept: a reader needs them to
decode old records, and the compatibility check compares with all of them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from tidewire.errors import SchemaError

FIRST_ID = 0x40000000
LAST_ID = 0x7FFFFFFF
PATH = Path(str(files("schemas").joinpath("lock.json")))


@dataclass(frozen=True, slots=True)
class Entry:
    """One version of one schema. `stem` names the .avsc file; `version` counts from 1."""

    stem: str
    version: int
    id: int
    fingerprint: str
    schema: dict[str, Any]


def is_local(schema_id: int) -> bool:
    """True for ids that the lock file gives out."""
    return FIRST_ID <= schema_id <= LAST_ID


def fingerprint(schema: Mapping[str, Any]) -> str:
    """SHA-256 of what decides the bytes and their meaning: everything but the docs, in a fixed order.

    Avro's own canonical form also drops defaults and logical types, which decide what a reader gets.
    """
    text = json.dumps(_without_docs(schema), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def read(path: Path = PATH) -> tuple[Entry, ...]:
    """The entries of the lock file in the order of their ids.

    Raises:
        SchemaError: the file is missing, is no JSON, or was edited so that an id or fingerprint is wrong.
    """
    try:
        entries = tuple(Entry(**line) for line in json.loads(path.read_text("utf-8"))["schemas"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SchemaError(f"{path.name} cannot be read: {error}; restore it from version control") from error
    _check(entries, path.name)
    return entries


def write(entries: Iterable[Entry], path: Path = PATH) -> None:
    """Replace the lock file."""
    about = "written by `tidewire topics lock`; append-only: never change or remove a line"
    lines = ",\n".join(json.dumps(asdict(entry), ensure_ascii=False) for entry in entries)
    path.write_text(f'{{"about": {json.dumps(about)}, "schemas": [\n{lines}\n]}}\n', "utf-8")


def newest(entries: Iterable[Entry]) -> dict[str, Entry]:
    """The newest version of each stem."""
    return {entry.stem: entry for entry in sorted(entries, key=lambda e: e.version)}


def changed(entries: Iterable[Entry], current: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Stems whose .avsc differs from its newest entry, or that have none."""
    locked = newest(entries)
    return [
        stem
        for stem, schema in current.items()
        if stem not in locked or locked[stem].fingerprint != fingerprint(schema)
    ]


def extend(entries: tuple[Entry, ...], current: Mapping[str, dict[str, Any]]) -> tuple[Entry, ...]:
    """The entries with a new version for each changed schema; ids go on counting."""
    versions = {stem: entry.version for stem, entry in newest(entries).items()}
    added = [
        Entry(stem, versions.get(stem, 0) + 1, FIRST_ID + number, fingerprint(current[stem]), current[stem])
        for number, stem in enumerate(changed(entries, current), len(entries))
    ]
    return (*entries, *added)


def _check(entries: tuple[Entry, ...], name: str) -> None:
    versions: dict[str, int] = {}
    for number, entry in enumerate(entries):
        versions[entry.stem] = versions.get(entry.stem, 0) + 1
        if (
            entry.id != FIRST_ID + number
            or entry.version != versions[entry.stem]
            or entry.fingerprint != fingerprint(entry.schema)
        ):
            raise SchemaError(
                f"{name}: the entry of {entry.stem} version {entry.version} (id {entry.id}) was changed; "
                "the file is append-only: restore it, change the .avsc and run `tidewire topics lock`"
            )


def _without_docs(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {k: _without_docs(v) for k, v in value.items() if k != "doc"}
    if isinstance(value, list | tuple):
        return [_without_docs(v) for v in value]
    return value
