"""Without these a client that folds order books rightly would end with another book than REST shows."""

from __future__ import annotations

from typing import Any

import msgpack
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.crypto.books import Books
from simulator.crypto.synthetic import SyntheticCrypto
from simulator.wire import Message, Streams, pack, timestamp

START = 1_723_179_600_000_000_000
LEVELS = st.lists(st.tuples(st.integers(1, 8), st.sampled_from([0.0, 0.5, 1.5])), max_size=4)
CHANGES = st.lists(
    st.tuples(st.sampled_from(["BTC/USD", "ETH/USD"]), LEVELS, LEVELS, st.sampled_from([False, False, True])),
    max_size=30,
)


def message(at: int, pair: str, bids: Any, asks: Any, whole: bool, streams: Streams) -> Message:
    sides = {
        name: [{"p": float(p), "s": s} for p, s in side if s or not whole]
        for name, side in (("b", bids), ("a", asks))
    }
    fields = {"T": "o", "S": pair, "t": timestamp(at), **sides} | ({"r": True} if whole else {})
    return at, at, streams.get("orderbooks", pair), pack(fields), None


class Client:
    """The plainest reading of Alpaca's rule: r begins anew, a size of 0 takes a level away."""

    def __init__(self) -> None:
        self.sides: dict[str, tuple[dict[float, float], dict[float, float]]] = {}

    def get(self, messages: list[Message]) -> None:
        for fields in (msgpack.unpackb(m[3]) for m in messages):
            if fields.get("r"):
                self.sides[fields["S"]] = ({}, {})
            elif fields["S"] not in self.sides:
                continue
            for side, name in zip(self.sides[fields["S"]], "ba", strict=True):
                for level in fields[name]:
                    side[level["p"]] = level["s"]

    def shown(self, pair: str) -> Any:
        if pair not in self.sides:
            return None
        bids, asks = ([(p, s) for p, s in sorted(side.items()) if s] for side in self.sides[pair])
        return bids[::-1], asks


def rest(books: Books, pair: str) -> Any:
    shown = books.shown(pair)
    if shown is None:
        return None
    return tuple([(level["p"], level["s"]) for level in shown[name]] for name in "ba")


@settings(max_examples=50)
@given(CHANGES, st.integers(0, 30))
def test_rest_shows_the_fold_of_what_was_sent_whenever_a_client_joined(changes: Any, joined: int) -> None:
    """A client that joins a running market would never find back to the book."""
    books, streams, first, late = Books(), Streams(), Client(), Client()
    for at, (pair, bids, asks, whole) in enumerate(changes):
        if at == joined:
            late.get(books.whole(books.symbols(), at, streams))
        sent = [message(START + at, pair, bids, asks, whole, streams)]
        books.observe(sent)
        first.get(sent)
        if at >= joined:
            late.get(sent)
    for pair in ("BTC/USD", "ETH/USD"):
        assert rest(books, pair) == first.shown(pair)
        if joined < len(changes):
            assert late.shown(pair) == first.shown(pair)


def test_the_synthetic_books_are_whole_first_and_never_crossed() -> None:
    """A crossed book is what a lost delta looks like."""
    client, seen = Client(), set()
    for block in SyntheticCrypto(["BTC/USD", "DOGE/USD"], 3, START, 50.0, 3_000).read(Streams()):
        for each in block:
            if each[2].channel != "orderbooks":
                continue
            fields = msgpack.unpackb(each[3])
            assert fields["S"] in seen or fields["r"]
            seen.add(fields["S"])
            client.get([each])
            bids, asks = client.shown(fields["S"])
            assert bids[0][0] < asks[0][0]
            assert len(bids) == len(asks) == 10
    assert len(seen) == 2
