"""Which Avro types Polars reads as fastavro does, and their definitions without what only people need.

Polars refuses some defaults, and parses the definition of a container at each read: the shorter the better.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

NUMBERS = ("int", "long", "float", "double")
"""Each may be promoted to those behind it."""
_PLAIN = (*NUMBERS, "string", "bytes", "boolean")
_ONLY_FOR_PEOPLE = ("doc", "default", "aliases", "order", "namespace")
_DIGITS = 38


def fields(schema: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The fields of a record schema with their names and bare types only."""
    return [{"name": field["name"], "type": bare(field["type"])} for field in schema["fields"]]


def bare(kind: Any) -> Any:
    """A type without docs, defaults, aliases and namespaces."""
    if isinstance(kind, list):
        return [bare(branch) for branch in kind]
    if not isinstance(kind, Mapping):
        return kind
    if "fields" in kind:
        return {"type": "record", "name": kind["name"], "fields": fields(kind)}
    kept = {key: value for key, value in kind.items() if key not in _ONLY_FOR_PEOPLE}
    for inner in ("type", "items", "values"):
        if inner in kept:
            kept[inner] = bare(kept[inner])
    return kept["type"] if list(kept) == ["type"] else kept


def unreadable(kind: Any, top: bool = True) -> str | None:
    """What in a bare type Polars does not read, or reads otherwise; None: it reads all of it.

    `top`: the type stands for itself, in no union, array or record.
    """
    if isinstance(kind, list):
        if len(kind) != 2 or kind.count("null") != 1:
            return f"a union of {len(kind)} types that is not null and one other"
        return unreadable(without_null(kind), False)
    if not isinstance(kind, Mapping):
        return None if kind in _PLAIN else f"the type {kind}"
    if "logicalType" in kind:
        sound = (kind["type"], kind["logicalType"]) == ("bytes", "decimal") and kind["precision"] <= _DIGITS
        return None if sound else f"the logical type {kind['logicalType']} of {kind['type']}"
    if kind["type"] == "enum":
        return None if top else "an enum in a union, an array or a record"
    if kind["type"] == "array":
        return unreadable(kind["items"], False)
    if kind["type"] == "record":
        return next(filter(None, (unreadable(f["type"], False) for f in kind["fields"])), None)
    return f"the type {kind['type']}"


def nullable(kind: Any) -> bool:
    """Whether a readable type is a union with null."""
    return isinstance(kind, list)


def without_null(kind: Any) -> Any:
    """The other branch of a union with null; any other type as it is."""
    return next(branch for branch in kind if branch != "null") if isinstance(kind, list) else kind
