"""Records of one schema version to rows: all of them proved, or none.

One broken record shifts all that follow, and Polars then panics or, worse, returns wrong rows. Therefore
each read is proved: row count, keys equal to the key field, schema ids, zero bytes, the sum of the lengths,
and a sentinel at the end that must come out whole.
"""

from __future__ import annotations

import io
import secrets
from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from tidewire.columns import container, types
from tidewire.columns.reasons import Reasons
from tidewire.errors import SchemaError

_PROOF = ["_len", "_attr", "_off", "_key", "_magic", "_sid", container.HEADERS]


class Reader:
    """Reads records with one schema id. `columns`: those wanted; `key`: the field that the key must equal.

    Raises:
        SchemaError: a field has a type that cannot be read in columns.
    """

    def __init__(self, schema: Mapping[str, Any], schema_id: int, key: str, columns: Sequence[str]) -> None:
        fields = types.fields(schema)
        for field in fields:
            if wrong := types.unreadable(field["type"]):
                raise SchemaError(
                    f"{schema['name']}.{field['name']} cannot be read in columns: it is {wrong}"
                )
        kinds = {field["name"]: field["type"] for field in fields}
        if unknown := [name for name in (key, *columns) if name not in kinds]:
            raise SchemaError(f"{schema['name']} has no field {', '.join(unknown)}")
        if kinds[key] != "string":
            raise SchemaError(f"{schema['name']}.{key} is the key and no string")
        self.id, self.reasons = schema_id, Reasons(schema, key)
        self.names = list(dict.fromkeys([key, *columns]))
        self._key, self._columns = key, [*_PROOF, *self.names]
        self._name, self._head = schema["name"], container.head(fields)
        self._token = secrets.token_hex(8)  # nobody can make a record that looks like the sentinel
        self._sentinel = container.sentinel(schema, schema_id, key, self._token)

    def __call__(self, bodies: Sequence[bytes], count: int) -> pl.DataFrame | None:
        """The wanted columns, and `_off`, of `count` records; None: anything at all is wrong with them."""
        count += 1
        size = sum(map(len, bodies)) + len(self._sentinel)
        data = container.container(self._head, count, size, (*bodies, self._sentinel))
        try:
            frame = pl.read_avro(io.BytesIO(data), columns=self._columns)
            return frame.head(count - 1) if self._proved(frame, count, size) else None
        except (Exception, pl.exceptions.PanicException):  # a panic is a BaseException
            return None

    def empty(self) -> pl.DataFrame:
        """The same without a record.

        Raises:
            SchemaError: Polars cannot read the schema after all.
        """
        frame = self([], 0)
        if frame is None:
            raise SchemaError(f"{self._name} cannot be read in columns")
        return frame

    def _proved(self, frame: pl.DataFrame, count: int, size: int) -> bool:
        """Whether keys, ids, zero bytes, the sum of the lengths and the sentinel all agree."""
        keys = frame.get_column("_key")
        if frame.height != count or keys[-1] != self._token:
            return False
        length = frame.get_column("_len").to_numpy()
        used = int(length.sum()) + count + sum(int((length >= 1 << bits).sum()) for bits in (6, 13, 20))
        return bool(
            used == size
            and (keys == frame.get_column(self._key)).all()
            and (frame.get_column("_sid").to_numpy().view(">u4") == self.id).all()
            and not any(frame.get_column(name).to_numpy().any() for name in ("_hdrs", "_attr", "_magic"))
        )
