"""Prices that are read a batch at a time must reach the rules as those that are read one by one do: else
where a record batch ends would decide whether a stop fires.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from itertools import islice, pairwise
from math import isfinite
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from processors.exits import reading, whole
from processors.exits.app import PRICES
from processors.exits.reading import PriceReader
from schemas import examples
from schemas.catalogue import schema
from schemas.codec import load_codec
from tests.unit.columns_batches import COMPRESSIONS, block, record
from tidewire import config
from tidewire.columns import Block
from tidewire.fence import LogFence

CODEC = load_codec(config.load(_env_file=None))
READERS = {stem: PriceReader(CODEC, stem) for stem in PRICES.values()}
SYMBOLS = ["AAPL", "IBM", "SPY", "AAPL261218C00250000", "BTC/USD"]
TOPIC = "prices"
OWNER = 7


class Calls:
    """Takes down what the fold is told."""

    def __init__(self) -> None:
        self.made: list[Any] = []

    def quote(self, *said: Any) -> str:
        self.made.append(("quote", *(tuple(part) if isinstance(part, list) else part for part in said)))
        return "applied"

    def trade(self, *said: Any) -> str:
        self.made.append(("trade", *(tuple(part) if isinstance(part, list) else part for part in said)))
        return "applied"

    def tick(self, *said: Any) -> None:
        self.made.append(("tick", *said))


def a_desk(watched: set[str], owner: int = OWNER) -> Any:
    fences: defaultdict[str, LogFence] = defaultdict(LogFence)
    fences[TOPIC] = LogFence([(owner, 0)])
    symbols = frozenset(watched)
    return SimpleNamespace(
        exits=Calls(),
        symbols=symbols,
        watched=frozenset(symbol.encode() for symbol in symbols),
        records=SimpleNamespace(fences=fences),
    )


def prices(stem: str, seed: int, symbols: list[str], changes: dict[str, Any] | None = None) -> list[Any]:
    """Values of one record a symbol."""
    found = []
    for symbol, made in zip(symbols, islice(examples.records(schema(stem), seed), len(symbols)), strict=True):
        sound = {"symbol": symbol, "ts": 1_700_000_000_000_000_000 + seed, "owner_epoch": OWNER}
        numbers = {name: _possible(made[name]) for name in made if name.endswith(("price", "size"))}
        found.append((symbol.encode(), CODEC.encode(stem, made | sound | numbers | (changes or {}))))
    return found


def _possible(number: float) -> float:
    return abs(number) % 1000 if isfinite(number) else type(number)(5)


def blocks_of(pairs: list[Any], cuts: list[int], compression: int) -> list[Block]:
    edges = [0, *sorted(set(cuts) - {0, len(pairs)}), len(pairs)]
    return [
        block([record(10 + n, *pairs[n]) for n in range(begin, end)], compression)
        for begin, end in pairwise(edges)
    ]


def one_by_one(stem: str, blocks: list[Block], watched: set[str]) -> tuple[list[Any], Counter[str]]:
    desk, results = a_desk(watched), Counter[str]()
    for each in blocks:
        found = READERS[stem](each, desk.watched)
        results["filtered"] += found.skipped
        results.update(reading.fold(desk, stem, found, TOPIC, 3))
    return desk.exits.made, results


def at_once(stem: str, blocks: list[Block], watched: set[str]) -> tuple[list[Any], Counter[str]] | None:
    desk = a_desk(watched)
    found = READERS[stem].whole(blocks, desk.records.fences[TOPIC])
    if found is None:
        return None
    results = Counter(whole.fold(desk, stem, found, TOPIC, 3))
    results["filtered"] += len(found.rows) - results.total()
    return desk.exits.made, results


@pytest.mark.parametrize("stem", list(READERS))
@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.sampled_from(SYMBOLS), min_size=1, max_size=20),
    st.sets(st.sampled_from(SYMBOLS)),
    st.lists(st.integers(0, 20), max_size=3),
    st.integers(0, 1000),
    st.sampled_from(list(COMPRESSIONS.values())),
)
def test_the_fold_is_told_the_same(
    stem: str, symbols: list[str], watched: set[str], cuts: list[int], seed: int, compression: int
) -> None:
    blocks = blocks_of(prices(stem, seed, symbols), [cut for cut in cuts if cut < len(symbols)], compression)
    found = at_once(stem, blocks, watched)
    assert found is not None, "an ordinary batch"
    made, results = found
    expected, counted = one_by_one(stem, blocks, watched)
    assert made == expected
    assert results == counted


def test_conditions_of_any_length_are_the_record_s() -> None:
    """A condition that is lost lets a print set the last price that must not."""
    said = [[], ["@"], ["@", "T", "I"], ["a text that is longer than twelve bytes", "R"], ["é"]]
    pairs = [prices("stock_trade", n, ["IBM"], {"conditions": one})[0] for n, one in enumerate(said)]
    found = at_once("stock_trade", blocks_of(pairs, [], 0), {"IBM"})
    assert found is not None
    assert [list(call[4]) for call in found[0]] == said


@pytest.mark.parametrize(
    ("stem", "changes"),
    [
        ("stock_quote", {"bid_price": float("nan")}),
        ("stock_quote", {"ask_price": float("inf")}),
        ("stock_quote", {"bid_price": -1.0}),
        ("stock_quote", {"ask_size": -1}),
        ("stock_trade", {"price": 1.1e15}),
        ("crypto_trade", {"size": float("nan")}),
        ("option_trade", {"ts": -1}),
        ("option_quote", {"ts": 2**62}),
        ("stock_quote", {"owner_epoch": OWNER - 1, "source": "ws"}),
        ("stock_quote", {"owner_epoch": OWNER + 1, "source": "ws"}),
    ],
)
def test_what_is_odd_is_left_to_the_judgement_of_each_record(stem: str, changes: dict[str, Any]) -> None:
    """A stale owner's price, or one that is no number, must not reach a rule with its neighbours."""
    odd = prices(stem, 1, ["IBM"], changes)
    pairs = [*prices(stem, 0, ["AAPL", "IBM"]), *odd, *prices(stem, 2, ["SPY"])]
    assert at_once(stem, blocks_of(pairs, [2], 0), {"IBM"}) is None


def test_nothing_is_read_whole_before_an_owner_is_known() -> None:
    """Nor where a fetch begins inside a record batch: the fold has seen the records before it."""
    pairs = prices("stock_quote", 0, ["AAPL", "IBM"])
    read = READERS["stock_quote"].whole
    (sound,) = blocks_of(pairs, [], 0)
    assert read([sound], LogFence()) is None
    assert read([sound], LogFence([(OWNER, sound.base)])) is None
    assert read([sound], LogFence([(OWNER, sound.base - 1)])) is not None
    begun = block([record(10 + n, *pair) for n, pair in enumerate(pairs)], start=11)
    assert read([begun], LogFence([(OWNER, 0)])) is None
