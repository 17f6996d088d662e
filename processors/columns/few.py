"""The records of a small batch one by one: a dozen records decode faster so than a call into Polars takes.

Only what is ordinary is read here. Anything else (another schema version, headers, a key that is not the
symbol, bytes left over, a batch that does not unpack) is left to the decoder of columns, which alone judges:
so a record's fate does not depend on the size of the batch that it came in. fastavro takes a few encodings
that no writer makes and that Polars refuses; they are found here and left to columns as well.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import fastavro
from aiokafka.record.default_records import DefaultRecordBatch

from tidewire.columns import Block

FEW = 24
"""Records; from about so many on columns are as fast."""

_BRANCHES = 66
"""So many branches are given to every union: indices from -1 down to -64 then lead to no type."""
_KINDS = bytes([0] + [1] * 127 + [128] * 128)
"""A table that tells apart only zero, the last byte of an integer and the others of it."""

Record = dict[str, Any]


class FewReader:
    """Reads records of one version of a schema; `key` is the field that the Kafka key must equal."""

    def __init__(self, schema: dict[str, Any], schema_id: int, key: str = "symbol") -> None:
        self._schema = _strict(fastavro.parse_schema(schema))
        self._plain = fastavro.parse_schema(schema)
        self._readable = not any(_has_boolean(field["type"]) for field in schema["fields"])
        self._header = b"\0" + schema_id.to_bytes(4, "big")
        self._key = key

    def __call__(self, blocks: Sequence[Block]) -> list[tuple[int, Record]] | None:
        """Offset and record of each wanted record; None: too many, or not all ordinary."""
        if not self._readable or sum(block.count for block in blocks) > FEW:
            return None
        try:
            return [
                (record.offset, self._read(record))
                for block in blocks
                for record in DefaultRecordBatch(bytes(block.raw))
                if record.offset >= block.start
            ]
        except Exception:  # whatever its parts raise: columns name the record
            return None

    def _read(self, record: Any) -> Record:
        value = record.value
        if value[:5] != self._header or record.headers:
            raise ValueError
        body = io.BytesIO(value[5:])
        read: Record = fastavro.schemaless_reader(body, self._schema, None)
        if body.read(1) or read[self._key].encode() != record.key:
            raise ValueError
        if _suspicious(value) and self._encoded(read) != value[5:]:
            raise ValueError
        return read

    def _encoded(self, record: Record) -> bytes:
        body = io.BytesIO()
        fastavro.schemaless_writer(body, self._plain, record)
        return body.getvalue()


def _suspicious(value: bytes) -> bool:
    """Whether there may be an integer longer than need be, or too large, or an index of -65 or -66.

    True of a few in a hundred sound records as well.
    """
    kinds = value.translate(_KINDS)
    if b"\x80\0" in kinds or b"\x80" * 9 in kinds:
        return True
    return b"\x81\x01" in value or b"\x83\x01" in value


def _strict(parsed: Any) -> Any:
    """A parsed schema that takes no negative index, which fastavro would count from the end of a list."""
    if isinstance(parsed, list):
        branches = [_strict(branch) for branch in parsed]
        return branches + ["no type"] * (_BRANCHES - len(branches))
    if not isinstance(parsed, dict):
        return parsed
    strict = {name: _strict(part) if name in ("type", "items") else part for name, part in parsed.items()}
    if "fields" in parsed:
        strict["fields"] = [_strict(field) for field in parsed["fields"]]
    if "symbols" in parsed:
        strict["symbols"] = dict(enumerate(parsed["symbols"]))
    return strict


def _has_boolean(kind: Any) -> bool:
    """Whether fastavro could take a byte for true that Polars takes for false."""
    return "boolean" in str(kind)
