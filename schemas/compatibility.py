"""FULL_TRANSITIVE compatibility: every version reads the records of every other, in both directions.

So producers and consumers may be upgraded in any order, and the whole log stays readable. The rules are
those of Avro's schema resolution, and three of our own where Avro would accept what readers of columns or
of money could not use: no promotion between types, logical types must be the same, defaults of a field that
both have must be the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from schemas.lock import Entry

_NAMED = ("record", "enum", "fixed")


def problems(entries: Iterable[Entry], current: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """What keeps each current schema from being fully compatible with each former version of it."""
    return [
        f"{entry.stem}.avsc against version {entry.version}: {problem}"
        for entry in entries
        if entry.stem in current
        for problem in differences(entry.schema, current[entry.stem])
    ]


def differences(former: Mapping[str, Any], current: Mapping[str, Any]) -> list[str]:
    """Why two versions of a schema cannot read each other's records; empty: they can."""
    found = [f"{problem} (the new version reading old records)" for problem in unreadable(former, current)]
    found += [f"{problem} (the old version reading new records)" for problem in unreadable(current, former)]
    return found


def unreadable(writer: Any, reader: Any, path: str = "") -> list[str]:
    """Why `reader` cannot read what `writer` wrote, one line a reason, with the path of the field."""
    return _Resolution(_names(writer), _names(reader)).compare(writer, reader, path)


class _Resolution:
    def __init__(self, writer_names: Mapping[str, Any], reader_names: Mapping[str, Any]) -> None:
        self._writer_names = writer_names
        self._reader_names = reader_names

    def compare(self, writer: Any, reader: Any, path: str) -> list[str]:
        writer = self._writer_names.get(writer, writer) if isinstance(writer, str) else writer
        reader = self._reader_names.get(reader, reader) if isinstance(reader, str) else reader
        if isinstance(writer, list) or isinstance(reader, list):
            return self._unions(_branches(writer), _branches(reader), path)
        kind, wanted = _kind(writer), _kind(reader)
        if kind != wanted:
            return [f"{path or 'record'}: type {_shown(writer)} became {_shown(reader)}"]
        if kind in _NAMED and _full_name(writer) != _full_name(reader):
            return [f"{path or 'record'}: name {_full_name(writer)} became {_full_name(reader)}"]
        if _logical(writer) != _logical(reader):
            return [f"{path or 'record'}: logical type {_logical(writer)} became {_logical(reader)}"]
        return self._inside(kind, writer, reader, path)

    def _inside(self, kind: str, writer: Any, reader: Any, path: str) -> list[str]:
        if kind == "record":
            return self._fields(writer, reader, path)
        if kind == "enum":
            return _symbols(writer, reader, path)
        if kind == "array":
            return self.compare(writer["items"], reader["items"], path + "[]")
        if kind == "map":
            return self.compare(writer["values"], reader["values"], path + "{}")
        if kind == "fixed" and writer["size"] != reader["size"]:
            return [f"{path}: size {writer['size']} became {reader['size']}"]
        return []

    def _fields(self, writer: Any, reader: Any, path: str) -> list[str]:
        written = {field["name"]: field for field in writer["fields"]}
        found = []
        for field in reader["fields"]:
            name = f"{path}.{field['name']}" if path else field["name"]
            source = written.get(field["name"])
            if source is None:
                if "default" not in field:
                    found.append(f"{name}: missing in the record and without a default")
                continue
            found += self.compare(source["type"], field["type"], name)
            if source.get("default", _NOTHING) != field.get("default", _NOTHING):
                found.append(f"{name}: the default changed")
        return found

    def _unions(self, writer: list[Any], reader: list[Any], path: str) -> list[str]:
        return [
            f"{path}: {_shown(branch)} is not among {', '.join(_shown(r) for r in reader)}"
            for branch in writer
            if all(self.compare(branch, wanted, path) for wanted in reader)
        ]


_NOTHING = object()


def _symbols(writer: Any, reader: Any, path: str) -> list[str]:
    lost = [symbol for symbol in writer["symbols"] if symbol not in reader["symbols"]]
    if lost and "default" not in reader:
        return [f"{path}: the enum lacks {', '.join(lost)} and has no default"]
    return []


def _branches(schema: Any) -> list[Any]:
    return schema if isinstance(schema, list) else [schema]


def _kind(schema: Any) -> str:
    kind = schema["type"] if isinstance(schema, Mapping) else schema
    return _kind(kind) if isinstance(kind, Mapping) else str(kind)


def _full_name(schema: Any) -> str:
    return f"{schema.get('namespace', '')}.{schema['name']}".lstrip(".")


def _logical(schema: Any) -> str | None:
    if not isinstance(schema, Mapping) or "logicalType" not in schema:
        return None
    scale = f"({schema.get('precision')}, {schema.get('scale', 0)})" if "precision" in schema else ""
    return f"{schema['logicalType']}{scale}"


def _shown(schema: Any) -> str:
    return "a union" if isinstance(schema, list) else (_logical(schema) or _kind(schema))


def _names(schema: Any) -> dict[str, Any]:
    """Every named type inside a schema, so that a later mention by name can be looked up."""
    if isinstance(schema, list):
        return {name: found for branch in schema for name, found in _names(branch).items()}
    if not isinstance(schema, Mapping):
        return {}
    inner = [schema.get("items"), schema.get("values"), *(f["type"] for f in schema.get("fields", ()))]
    names = {name: found for part in inner for name, found in _names(part).items()}
    if schema.get("type") in _NAMED:
        names[schema["name"]] = names[_full_name(schema)] = schema
    return names
