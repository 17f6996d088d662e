"""The processor's table of features beside a fold of the log: which symbols differ, and in what.

It may be asked while the processor runs. Each row of the changelog says up to which offset of each topic it
is folded; the log is folded up to just there, symbol by symbol. What the row then lacks of what the processor
has committed is missing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import polars as pl
from aiokafka import TopicPartition

from processors.columns.matrix import FENCES, Ints
from processors.features import row
from replay import log, stocks
from replay.fold import Table, fold
from replay.log import Span
from schemas.catalogue import Catalogue
from schemas.codec import Codec
from tidewire.config import Settings
from tidewire.errors import SchemaError

APP = "tidewire-processor"
"""The processor's consumer group, without the prefix of the topics."""
_TABLE = "features"
_WORDS = {
    getattr(row, name): name.lower()
    for name in (
        "TRADES_FOLDED", "SESSION", "TRADE_COUNT", "VOLUME", "NOTIONAL_HIGH", "NOTIONAL_LOW", "HIGH", "LOW",
        "LAST", "LAST_TS", "LAST_ID", "TRADE_RECEIVED", "TRADE_SOURCE", "QUOTES_FOLDED", "BID", "ASK",
        "QUOTE_TS", "QUOTE_RECEIVED", "QUOTE_SOURCE", "TRADES_NEXT", "QUOTES_NEXT", "VERSION",
    )
}  # fmt: skip


@dataclass(slots=True)
class Comparison:
    """What was found. `equal`: symbols whose rows are the same to the byte.

    `differing`: by symbol, the words of its row that are not what the log gives. `missing`: by symbol, how
    many records were committed but are in no row. `shortened`: partitions whose oldest records Kafka has
    deleted; sums over them cannot be folded again.
    """

    table: Table
    equal: int = 0
    differing: dict[str, list[str]] = field(default_factory=dict)
    missing: Counter[str] = field(default_factory=Counter)
    shortened: list[str] = field(default_factory=list)

    @property
    def same(self) -> bool:
        """Whether the table is what the log gives."""
        return not self.differing and not self.missing


class Limits:
    """Up to where each symbol's row is folded, as a `fold.Keep`; counts what is committed but in no row."""

    def __init__(
        self, rows: Mapping[bytes, Ints], committed: Mapping[TopicPartition, int], words: Mapping[str, int]
    ) -> None:
        self._rows, self._committed = rows, committed
        self._by_topic = {
            topic: {key.decode(): int(values[word]) for key, values in rows.items()}
            for topic, word in words.items()
        }
        self.missing: Counter[str] = Counter()

    def __call__(
        self, topic: str, partition: int, frame: pl.DataFrame, offsets: Ints
    ) -> npt.NDArray[np.bool_]:
        """Which records their rows say that they hold."""
        symbols = frame["symbol"].cast(pl.String)
        known = self._by_topic[topic]
        limits = symbols.replace_strict(known, default=0, return_dtype=pl.Int64).to_numpy()
        within: npt.NDArray[np.bool_] = offsets < limits
        committed = offsets < self._committed.get(TopicPartition(topic, partition), 0)
        if (lost := committed & ~within).any():
            self.missing.update(symbols.filter(pl.Series(lost)).to_list())
        return within


async def compare(
    settings: Settings,
    catalogue: Catalogue,
    codec: Codec,
    symbols: Collection[str] = (),
    begun: Callable[[int], object] = lambda records: None,
    told: Callable[[int], object] = lambda records: None,
) -> Comparison:
    """Fold the log beside the table; all symbols unless some are named.

    `begun` is told how many records will be read, `told` how many have been.

    Raises:
        SchemaError: there is no table, or it has another layout.
        UnreachableError: Kafka does not answer.
    """
    components = stocks.components(catalogue, codec)
    # In this order: the changelog holds all that was committed, and the log all that the changelog holds.
    committed = await _committed(settings, catalogue, await log.spans(settings, components))
    rows = await _rows(settings, catalogue)
    everything = await log.spans(settings, components)
    words = {catalogue.name(topic): word for topic, word in stocks.NEXT_WORDS.items()}
    limits = Limits(rows, committed, words)
    wanted = _needed(everything, rows, committed, words)
    begun(sum(span.records for span in wanted.values()))
    table = await fold(log.read(settings, wanted), components, stocks.WIDTH, limits, told)
    found = Comparison(table)
    found.shortened = [f"{at.topic} {at.partition}" for at, span in everything.items() if span.begin]
    _judge(found, rows, limits.missing, symbols)
    return found


def _judge(
    found: Comparison, rows: Mapping[bytes, Ints], missing: Counter[str], symbols: Collection[str]
) -> None:
    folded = {key: value for part in found.table.changed().values() for key, value in part.items()}
    folded = {key: value for key, value in folded.items() if not key.startswith(FENCES)}
    for key in sorted(rows.keys() | folded.keys()):
        symbol = key.decode()
        if symbols and symbol not in symbols:
            continue
        if count := missing[symbol]:
            found.missing[symbol] = count
        if differing := _differing(rows.get(key), folded.get(key)):
            found.differing[symbol] = differing
        elif not count:
            found.equal += 1
    for symbol in missing.keys() - {key.decode() for key in rows.keys() | folded.keys()}:
        if not symbols or symbol in symbols:
            found.missing[symbol] = missing[symbol]


def _differing(held: Ints | None, folded: bytes | None) -> list[str]:
    if held is None or folded is None:
        return [] if held is None else ["no record of it in the log"]
    words = np.frombuffer(folded, "<i8")
    return [_WORDS[word] for word in np.flatnonzero(words != held).tolist()]


def _needed(
    everything: Mapping[TopicPartition, Span],
    rows: Mapping[bytes, Ints],
    committed: Mapping[TopicPartition, int],
    words: Mapping[str, int],
) -> dict[TopicPartition, Span]:
    """The spans up to what any row holds or was committed; what came later is the processor's lag."""
    held = {topic: max((int(r[word]) for r in rows.values()), default=0) for topic, word in words.items()}
    return {
        at: Span(span.begin, min(span.end, max(held[at.topic], committed.get(at, 0))))
        for at, span in everything.items()
    }


async def _committed(
    settings: Settings, catalogue: Catalogue, places: Collection[TopicPartition]
) -> dict[TopicPartition, int]:
    async with log.consumer(settings, catalogue.prefix + APP) as client:
        return {at: await client.committed(at) or 0 for at in places}


async def _rows(settings: Settings, catalogue: Catalogue) -> dict[bytes, Ints]:
    """The newest row of each symbol in the changelog."""
    topic = f"{catalogue.prefix}{APP}-{_TABLE}-changelog"
    newest: dict[bytes, bytes | None] = {}
    wanted = await log.spans(settings, [topic])
    async for record in log.records(settings, wanted):
        if not record.key.startswith(FENCES):
            newest[record.key] = record.value
    rows = {key: np.frombuffer(value, "<i8") for key, value in newest.items() if value is not None}
    if any(len(words) != stocks.WIDTH or words[row.VERSION] != row.CURRENT for words in rows.values()):
        raise SchemaError(f"{topic} was written by another version of tidewire: there is nothing to compare")
    return rows
