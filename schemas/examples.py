"""Records made up from a schema, for tests of whoever reads the topics: any value that the type can hold."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal
from random import Random
from typing import Any

_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ abcxyz0189@,|\"'\\é€漢🙂"
_EDGES = {
    "long": (0, -1, 2**63 - 1, -(2**63)),
    "int": (0, -1, 2**31 - 1, -(2**31)),
    "double": (0.0, -0.0, 0.1, 1e-300, 1.7976931348623157e308, float("inf")),
}


def records(schema: Mapping[str, Any], seed: int = 1) -> Iterator[dict[str, Any]]:
    """Endless different records of this schema; the same for the same seed."""
    random = Random(seed)
    while True:
        yield _record(schema, random)


def _record(schema: Mapping[str, Any], random: Random) -> dict[str, Any]:
    return {field["name"]: _value(field["type"], random) for field in schema["fields"]}


def _value(schema: Any, random: Random) -> Any:
    if isinstance(schema, list):
        return _value(random.choice(schema), random)
    if not isinstance(schema, Mapping):
        return _primitive(schema, random)
    if schema["type"] == "record":
        return _record(schema, random)
    if schema["type"] == "enum":
        return random.choice(schema["symbols"])
    if schema["type"] == "array":
        return [_value(schema["items"], random) for _ in range(random.randrange(4))]
    if schema.get("logicalType") == "decimal":
        digits = tuple(random.randrange(10) for _ in range(random.randrange(1, schema["precision"] + 1)))
        sign = random.randrange(2) if any(digits) else 0  # a negative zero is no amount of money
        return Decimal((sign, digits, -schema["scale"]))  # scaleb() would round to 28 digits
    return _primitive(schema["type"], random)


def _primitive(kind: str, random: Random) -> Any:
    if kind in _EDGES and random.random() < 0.2:
        return random.choice(_EDGES[kind])
    if kind == "double":
        return round(random.uniform(0, 1000), random.randrange(5))
    if kind in _EDGES:
        return random.getrandbits(40 if kind == "long" else 24)
    if kind == "string":
        return "".join(random.choices(_LETTERS, k=random.randrange(12)))
    if kind == "bytes":
        return random.randbytes(8)
    if kind == "boolean":
        return random.random() < 0.5
    if kind == "null":
        return None
    raise TypeError(f"no example for the Avro type {kind!r}")
