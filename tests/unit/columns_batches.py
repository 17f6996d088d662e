"""Record batches as a broker stores them, for the tests of columns."""

from __future__ import annotations

import io
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import fastavro
from aiokafka.record.default_records import DefaultRecordBatchBuilder

from tidewire.columns import Block

COMPRESSIONS = {"none": 0, "gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}


def encode(schema: Mapping[str, Any], record: Mapping[str, Any], schema_id: int) -> bytes:
    """A value in Confluent's wire format, by fastavro."""
    out = io.BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(dict(schema)), dict(record))
    return b"\0" + schema_id.to_bytes(4, "big") + out.getvalue()


def record(offset: int, key: bytes | None, value: bytes | None, headers: Any = ()) -> Any:
    """A record as a consumer sees it."""
    return SimpleNamespace(offset=offset, timestamp=1_700_000_000_000, key=key, value=value, headers=headers)


def block(records: list[Any], compression: int = 0, start: int | None = None) -> Block:
    """A record batch of these records."""
    base = records[0].offset
    builder = DefaultRecordBatchBuilder(2, compression, 0, -1, -1, -1, 1 << 30)
    for r in records:
        builder.append(r.offset - base, r.timestamp, r.key, r.value, list(r.headers))
    raw = memoryview(base.to_bytes(8, "big") + bytes(builder.build())[8:])
    return Block(base, base if start is None else start, records[-1].offset, len(records), 1, raw)
