"""Why a record was refused, in words for its dead letter. The verdict is the decoder's; this explains it."""

from __future__ import annotations

import io
import re
from typing import Any

import fastavro


class Reasons:
    """Explains refusals of records of one schema."""

    def __init__(self, schema: dict[str, Any], schema_id: int, key: str) -> None:
        self._schema = fastavro.parse_schema(schema)
        self._id, self._key = schema_id, key
        self._name = re.sub(r"(?<!^)(?=[A-Z])", "_", schema["name"]).lower()

    def of_envelope(self, key: bytes | None, value: bytes | None) -> str | None:
        """What is wrong before the value is even looked into; None: nothing."""
        if value is None:
            return "no value"
        if len(value) < 5 or value[0] != 0:
            return "not Confluent wire format"
        if (found := int.from_bytes(value[1:5], "big")) != self._id:
            return f"unknown schema id {found}"
        if key is None:
            return "no key"
        try:
            key.decode()
        except UnicodeDecodeError:
            return "key is not UTF-8"
        return None

    def of_value(self, key: bytes, value: bytes) -> str:
        """What is wrong with a value that the decoder refused although its envelope is sound."""
        body = io.BytesIO(value[5:])
        try:
            record: Any = fastavro.schemaless_reader(body, self._schema, None)
        except Exception:  # fastavro raises whatever its parts raise
            return f"value does not decode as {self._name}"
        if rest := len(value) - 5 - body.tell():
            return f"value has {rest} bytes after the {self._name}"
        if record[self._key].encode() != key:
            return f"key differs from {self._key}"
        return f"value does not decode as {self._name}"
