"""The records of a small batch one by one: a dozen records decode faster so than a call into Polars takes.

Only what is ordinary is read here. Anything else (another schema version, headers, a key that is not the
symbol, bytes left over, a batch that does not unpack) is left to the decoder of columns, which alone judges:
so a record's fate does not depend on the size of the batch that it came in.
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

Record = dict[str, Any]


class FewReader:
    """Reads records of one schema; `key` is the field that the Kafka key must equal."""

    def __init__(self, schema: dict[str, Any], schema_id: int, key: str = "symbol") -> None:
        self._schema = fastavro.parse_schema(schema)
        self._header = b"\0" + schema_id.to_bytes(4, "big")
        self._key = key

    def __call__(self, blocks: Sequence[Block]) -> list[tuple[int, Record]] | None:
        """Offset and record of each wanted record; None: too many, or not all ordinary."""
        if sum(block.count for block in blocks) > FEW:
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
        return read
