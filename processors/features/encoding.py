"""Table rows as the values of feature records: natively where that can be done, else in Python."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from processors.columns.matrix import Ints
from processors.features import row, vector
from processors.features.native.library import encode_features
from processors.features.session import day_of
from schemas.codec import Codec

_STEM = "stock_features"
_ROOM = 250
"""Bytes of a record at most, besides its key: see encode.c."""
_FIELDS = (
    "symbol string, ts long, session int, last double?, last_ts long?, bid double?, ask double?, "
    "quote_ts long?, mid double?, spread double?, vwap double?, volume long, trade_count long, high double?, "
    "low double?, staleness_ns long?, trades_folded long, quotes_folded long, received_ts long, source string"
)
"""What encode.c writes; ?: or null."""


class FeatureEncoder:
    """Makes the values of features.stocks, of one version of the schema."""

    def __init__(self, codec: Codec) -> None:
        self._encode = codec.encoder(_STEM)
        self._header = int.from_bytes(codec.header(_STEM), "little")
        self._native = encode_features() if _described(codec.schema(_STEM)) == _FIELDS else None

    def __call__(self, keys: Sequence[bytes], words: Ints) -> list[bytes]:
        """The value of each row, whose key and words these are."""
        if self._native is None or not keys:
            return self._in_python(keys, words)
        count, sizes = len(keys), np.fromiter(map(len, keys), np.int64, len(keys))
        block, ends = np.ascontiguousarray(words), np.empty(count, np.int64)
        records = np.empty(_ROOM * count + int(sizes.sum()), np.uint8)
        session = np.array(day_of(int(block[0, row.QUOTE_TS])), np.int64)
        self._native(
            block.ctypes.data, count, (ctypes.c_char_p * count)(*keys), sizes.ctypes.data, self._header,
            session.ctypes.data, records.ctypes.data, ends.ctypes.data,
        )  # fmt: skip
        made, begin, values = records[: ends[-1]].tobytes(), 0, []
        for number, end in enumerate(ends.tolist()):
            one = slice(number, number + 1)
            values.append(made[begin:end] if end > begin else self._in_python(keys[one], block[one])[0])
            begin = end
        return values

    def _in_python(self, keys: Sequence[bytes], words: Ints) -> list[bytes]:
        return [self._encode(record) for _, record in vector.read_out(keys, words)]


def _described(schema: Mapping[str, Any]) -> str:
    """The fields of a schema as they stand in _FIELDS."""
    described = []
    for field in schema["fields"]:
        kind = field["type"]
        described.append(f"{field['name']} {kind[1] + '?' if isinstance(kind, list) else kind}")
    return ", ".join(described)
