"""An Avro schema as the small program that decode.c runs over records, and what its columns are in Arrow."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tidewire.columns import types

LONG, INT, FLOAT, DOUBLE, BOOLEAN, STRING, BYTES, ENUM, DECIMAL, ARRAY, RECORD = range(11)
"""The kinds of nodes, in the order of decode.c."""
_PLAIN = {
    "long": (LONG, pa.int64()),
    "int": (INT, pa.int32()),
    "float": (FLOAT, pa.float32()),
    "double": (DOUBLE, pa.float64()),
    "boolean": (BOOLEAN, pa.bool_()),
    "string": (STRING, pa.string_view()),
    "bytes": (BYTES, pa.binary_view()),
}
_BYTES = {LONG: 8, INT: 4, FLOAT: 4, DOUBLE: 8, STRING: 16, BYTES: 16, ENUM: 1, DECIMAL: 16, ARRAY: 8}
_DIGITS = 38
_MOST_SYMBOLS = 256

Nodes = npt.NDArray[np.int32]


class NotCovered(Exception):
    """A type that decode.c does not read; Polars does."""


@dataclass(slots=True)
class Column:
    """Where the values of one node go. `inside`: of lists' items, which may be more than records."""

    kind: int
    nullable: bool
    inside: bool

    def data_bytes(self, capacity: int) -> int:
        """Bytes for so many values."""
        if self.kind == BOOLEAN:
            return (capacity + 7) // 8
        return _BYTES[self.kind] * (capacity + (self.kind == ARRAY))


@dataclass(slots=True)
class Output:
    """A wanted field as an Arrow array: `column` holds its values (a struct has none), `parts` its inside."""

    name: str
    kind: int
    type: pa.DataType
    column: int
    symbols: Sequence[str] = ()
    parts: list[Output] = field(default_factory=list)


@dataclass(slots=True)
class Program:
    """What decode.c runs: `nodes`, the `columns` that it writes, and the `outputs` made of those."""

    nodes: Nodes
    columns: list[Column]
    outputs: list[Output]


def compiled(schema: Mapping[str, Any], key: str, wanted: Collection[str]) -> Program:
    """The program for records of a schema; fields that are not wanted are looked at and not kept.

    Raises:
        NotCovered: decode.c does not read one of the types.
    """
    maker = _Maker()
    maker.nodes.append([RECORD, -1, -1, 0, 0])
    outputs = {}
    for one in types.fields(schema):
        node = len(maker.nodes)
        name = one["name"]
        outputs[name] = maker.add(name, one["type"], name in wanted, False)
        if name == key:
            maker.nodes[node][3] = 1
    maker.nodes[0][4] = len(maker.nodes)
    nodes = np.array([[*node, _step(*node), 0, 0] for node in maker.nodes], np.int32)
    return Program(nodes, maker.columns, [outputs[name] for name in wanted])


class _Maker:
    def __init__(self) -> None:
        self.nodes: list[list[int]] = []
        self.columns: list[Column] = []

    def add(self, name: str, kind: Any, wanted: bool, inside: bool) -> Output:
        """Append the nodes of a type (bare), and columns for them if they are wanted."""
        nullable = types.nullable(kind)
        null_at = kind.index("null") if nullable else -1
        kind = types.without_null(kind)
        number, arrow, symbols = _kind(kind)
        if number == RECORD and nullable:
            raise NotCovered("a record that may be null")
        at, column = len(self.nodes), -1
        if wanted and number != RECORD:
            column = len(self.columns)
            self.columns.append(Column(number, nullable, inside))
        self.nodes.append([number, null_at, column, len(symbols), 0])
        parts: list[Output] = []
        if number == ARRAY:
            parts = [self.add("item", kind["items"], wanted, True)]
            arrow = pa.large_list(parts[0].type)
        elif number == RECORD:
            parts = [self.add(f["name"], f["type"], wanted, inside) for f in kind["fields"]]
            if not parts:
                raise NotCovered("a record without fields")
            arrow = pa.struct([(part.name, part.type) for part in parts])
        self.nodes[at][4] = len(self.nodes)
        return Output(name, number, arrow, column, symbols, parts)


def _step(kind: int, null_at: int, column: int, size: int, behind: int) -> int:
    """PAST or PUT in decode.c: the node's whole work, where it can be no null and holds no others."""
    return 2 * kind + (column >= 0) if null_at < 0 and kind < ARRAY else -1


def _kind(kind: Any) -> tuple[int, pa.DataType | None, Sequence[str]]:
    """Node kind, Arrow type and symbols of a bare type that is no union."""
    if isinstance(kind, str):
        if kind in _PLAIN:
            return *_PLAIN[kind], ()
        raise NotCovered(kind)
    if kind.get("logicalType") == "decimal" and kind["type"] == "bytes":
        if kind["precision"] != _DIGITS:
            raise NotCovered("a decimal of other than 38 digits")
        return DECIMAL, pa.decimal128(_DIGITS, kind.get("scale", 0)), ()
    if "logicalType" in kind:
        raise NotCovered(kind["logicalType"])
    if kind["type"] == "enum" and len(kind["symbols"]) <= _MOST_SYMBOLS:
        return ENUM, pa.dictionary(pa.uint8(), pa.string()), kind["symbols"]
    if kind["type"] == "array":
        return ARRAY, None, ()
    if kind["type"] == "record":
        return RECORD, None, ()
    raise NotCovered(str(kind["type"]))


def all_outputs(outputs: Sequence[Output]) -> Iterator[Output]:
    """Those and all that are inside them."""
    for output in outputs:
        yield output
        yield from all_outputs(output.parts)
