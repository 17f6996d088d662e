"""The native folds for the tests of features: records go through the bytes of a real batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from processors.columns.matrix import Matrix
from processors.features import quotes, trades
from processors.features.folded import Folded
from processors.features.native.folding import NativeFold, native_quotes, native_trades
from schemas.catalogue import schema
from schemas.codec import Version
from tests.unit.columns_batches import block, encode, record
from tidewire.columns import Decoder
from tidewire.fence import LogFence

OWNER = 5
_ID = 7
_REST = {
    "exchange": "V", "bid_exchange": "V", "ask_exchange": "V", "bid_size": 1, "ask_size": 1, "conditions": [],
    "tape": "C", "extra": None, "event_id": b"", "owner_epoch": OWNER, "id": 0,
}  # fmt: skip

Records = Sequence[tuple[int, Mapping[str, Any]]]


class Fold(Protocol):
    """Folds records; `fence`: of an owner with the epoch OWNER unless given."""

    def __call__(self, matrix: Matrix, records: Records, fence: LogFence | None = None) -> Folded | None:
        """None: nothing was folded."""
        ...


def _fold(stem: str, columns: Sequence[str], native: NativeFold | None) -> Fold:
    assert native is not None, "make setup builds the library"
    decoder = Decoder([Version(_ID, stem, schema(stem))], columns=columns)
    names = [field["name"] for field in schema(stem)["fields"]]

    def fold(matrix: Matrix, records: Records, fence: LogFence | None = None) -> Folded | None:
        made = [
            record(offset, fields["symbol"].encode(), encode(schema(stem), _whole(fields, names), _ID))
            for offset, fields in records
        ]
        bare = decoder.bare([block(made)])
        assert bare is not None
        return native(matrix, bare, LogFence([(OWNER, -1)]) if fence is None else fence)

    return fold


def _whole(fields: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    return {name: fields[name] if name in fields else _REST[name] for name in names}


TRADES: Fold = _fold("stock_trade", trades.COLUMNS, native_trades())
QUOTES: Fold = _fold("stock_quote", quotes.COLUMNS, native_quotes())
