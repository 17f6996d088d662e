"""Why a record was refused, in words for its dead letter. The verdict is the decoder's; this explains it."""

from __future__ import annotations

import io
import re
from collections.abc import Container, Mapping
from typing import Any

import fastavro


def of_envelope(
    key: bytes | None, value: bytes | None, known: Container[int], closed: Mapping[int, str]
) -> str | None:
    """What is wrong before the value is even looked into; None: nothing.

    `known`: the schema ids that can be read; `closed`: why others, which are known too, cannot.
    """
    if value is None:
        return "no value"
    if len(value) < 5 or value[0] != 0:
        return "not Confluent wire format"
    if (found := int.from_bytes(value[1:5], "big")) not in known:
        return closed.get(found, f"unknown schema id {found}")
    if key is None:
        return "no key"
    try:
        key.decode()
    except UnicodeDecodeError:
        return "key is not UTF-8"
    return None


class Reasons:
    """Explains refusals of records of one schema version."""

    def __init__(self, schema: Mapping[str, Any], key: str) -> None:
        self._schema = fastavro.parse_schema(dict(schema))
        self._key = key
        self._name = re.sub(r"(?<!^)(?=[A-Z])", "_", schema["name"]).lower()

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
