"""The versions of a schema: rows that were written with a former one become rows of the current one.

The rules are those of Avro's schema resolution: a field that the former version lacks has its default, one
that the current lacks is dropped, numbers are promoted, symbols that an enum lost become its default.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Protocol

import polars as pl

from tidewire.columns import types
from tidewire.columns.reader import Reader
from tidewire.errors import SchemaError


class Version(Protocol):
    """One schema that may stand in front of a record."""

    @property
    def id(self) -> int:
        """The id in the records' headers."""
        ...

    @property
    def schema(self) -> Mapping[str, Any]:
        """The definition."""
        ...


class Former:
    """How records of a former version are read, and made rows of the current one.

    `empty` is a frame of the current version without rows.

    Raises:
        SchemaError: the two cannot be reconciled, or the former one cannot be read in columns.
    """

    def __init__(self, former: Version, current: Version, key: str, empty: pl.DataFrame) -> None:
        written = {f["name"]: f["type"] for f in types.fields(former.schema)}
        wanted = {f["name"]: f for f in current.schema["fields"]}
        # The key comes first: a frame without columns would have no rows.
        held = [name for name in empty.columns if name in written]
        self.read = Reader(former.schema, former.id, key, held)
        self._shape = [
            _member(name, pl.col(name), written, wanted[name], dtype) for name, dtype in empty.schema.items()
        ]
        self.shape(self.read.empty())  # a default that does not fit its column is known now

    def shape(self, frame: pl.DataFrame) -> pl.DataFrame:
        """What `read` gave, as rows of the current version."""
        return frame.select(self._shape)


def _member(
    name: str, values: pl.Expr, written: Mapping[str, Any], field: Mapping[str, Any], dtype: pl.DataType
) -> pl.Expr:
    """One field of the current version; `written` are the bare types of the former one's fields."""
    try:
        if name in written:
            return _resolved(values, written[name], field["type"], dtype).alias(name)
        if "default" not in field:
            raise SchemaError("it is not in the record and has no default")
        return pl.repeat(_default(field["type"], field["default"]), pl.len(), dtype=dtype).alias(name)
    except SchemaError as error:
        raise SchemaError(f"{name}: {error}") from None


def _resolved(values: pl.Expr, written: Any, wanted: Any, dtype: pl.DataType) -> pl.Expr:
    """Values of a former type (bare) as the current type has them."""
    if types.nullable(written) and not types.nullable(wanted):
        raise SchemaError("null was allowed and is not any more")
    maybe_null = types.nullable(written)
    written, wanted = types.without_null(written), types.without_null(wanted)
    bare = types.bare(wanted)
    if written == bare:
        return values
    if isinstance(written, str) or isinstance(bare, str):
        if written in types.NUMBERS and bare in types.NUMBERS[types.NUMBERS.index(written) :]:
            return values.cast(dtype)
    elif written["type"] == bare["type"] == "enum":
        return _symbols(values, written, wanted).cast(dtype)
    elif written["type"] == bare["type"] == "array" and isinstance(dtype, pl.List):
        inner: Any = dtype.inner
        return values.list.eval(_resolved(pl.element(), written["items"], wanted["items"], inner))
    elif written["type"] == bare["type"] == "record" and isinstance(dtype, pl.Struct) and not maybe_null:
        return _record(values, written, wanted, dtype)
    raise SchemaError(f"{_shown(written)} became {_shown(bare)}")


def _symbols(values: pl.Expr, written: Mapping[str, Any], wanted: Mapping[str, Any]) -> pl.Expr:
    texts = values.cast(pl.String)
    lost = [symbol for symbol in written["symbols"] if symbol not in wanted["symbols"]]
    if not lost:
        return texts
    if "default" not in wanted:
        raise SchemaError(f"the enum lacks {', '.join(lost)} and has no default")
    return pl.when(texts.is_in(lost)).then(pl.lit(wanted["default"])).otherwise(texts)


def _record(
    values: pl.Expr, written: Mapping[str, Any], wanted: Mapping[str, Any], dtype: pl.Struct
) -> pl.Expr:
    held = {f["name"]: f["type"] for f in written["fields"]}
    fields = {f["name"]: f for f in wanted["fields"]}
    members = [
        _member(part.name, values.struct.field(part.name), held, fields[part.name], part.dtype)  # type: ignore[arg-type]
        for part in dtype.fields
    ]
    return pl.struct(members)


def _default(kind: Any, value: Any) -> Any:
    """The value of a default in a schema, where bytes are text."""
    kind = types.without_null(kind)
    if value is None or not isinstance(kind, Mapping):
        return value.encode("latin-1") if kind == "bytes" and value is not None else value
    if kind.get("logicalType") == "decimal":
        unscaled = int.from_bytes(value.encode("latin-1"), "big", signed=True)
        return Decimal(unscaled).scaleb(-kind.get("scale", 0))
    if kind["type"] == "array":
        return [_default(kind["items"], item) for item in value]
    if kind["type"] == "record":
        return {
            f["name"]: _default(f["type"], value.get(f["name"], f.get("default"))) for f in kind["fields"]
        }
    return _default(kind["type"], value) if isinstance(kind["type"], str) else value


def _shown(kind: Any) -> str:
    return str(kind.get("logicalType", kind["type"]) if isinstance(kind, Mapping) else kind)
