"""The `features` table of stocks, folded anew: its components, and its rows as feature records."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from types import ModuleType
from typing import Any

from processors.columns.matrix import FENCES
from processors.features import quotes, row, trades, vector
from processors.features.native.folding import NativeFold, native_quotes, native_trades
from replay.fold import Component, Table
from schemas.catalogue import STOCK_QUOTES, STOCK_TRADES, Catalogue
from schemas.codec import Codec
from tidewire.columns import Decoder

WIDTH = row.WIDTH
NEXT_WORDS = {STOCK_TRADES: row.TRADES_NEXT, STOCK_QUOTES: row.QUOTES_NEXT}
"""By catalogue topic, the word of a row that holds the offset up to which it is folded."""
_INPUTS: tuple[tuple[str, str, ModuleType, Callable[[], NativeFold | None]], ...] = (
    (STOCK_TRADES, "stock_trade", trades, native_trades),
    (STOCK_QUOTES, "stock_quote", quotes, native_quotes),
)


def components(catalogue: Catalogue, codec: Codec) -> dict[str, Component]:
    """The components of the table by the real names of their topics."""
    found = {}
    for topic, stem, module, natively in _INPUTS:
        decode = Decoder(codec.versions(stem), columns=module.COLUMNS)
        name = catalogue.name(topic)
        found[name] = Component(name, decode, module.refusals, module.fold, natively())
    return found


def features(table: Table, symbols: Collection[str] = ()) -> Iterator[dict[str, Any]]:
    """A stock_features record of each folded symbol, in the order of their names; all unless some are named.

    Takes what `table.changed()` would give.
    """
    found: dict[bytes, dict[str, Any]] = {}
    for partition, rows in table.changed().items():
        keys = [
            key for key in rows if not key.startswith(FENCES) and (not symbols or key.decode() in symbols)
        ]
        matrix = table.parts[partition]
        if keys:
            found |= dict(vector.records(matrix, matrix.rows_of(keys)))
    for key in sorted(found):
        yield found[key]
