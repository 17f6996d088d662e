"""Clients ask for symbols while the producer runs: too few subscribed and a client sees nothing, too many and
the plan's room is gone.
"""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from producers.interest import PRIORITIES, Entry, Interest, urgent, wanted
from producers.subscriptions import Subscriptions

SYMBOLS = [f"S{n}" for n in range(6)]
CHANNELS = ("trades", "quotes", "bars")

entries = st.builds(
    Entry,
    feed=st.sampled_from(["stocks", "crypto"]),
    channel=st.sampled_from(CHANNELS),
    symbol=st.sampled_from(SYMBOLS),
    holder=st.sampled_from(["a", "b", "c"]),
    priority=st.sampled_from(PRIORITIES),
    expires_ts=st.none() | st.integers(0, 20),
)


def _key(entry: Entry) -> bytes:
    return f"{entry.feed}:{entry.channel}:{entry.symbol}:{entry.holder}".encode()


@given(st.lists(entries, max_size=25), st.integers(0, 20), st.sampled_from(["stocks", "crypto", "news"]))
def test_a_symbol_is_wanted_exactly_while_a_holder_is_left(held: list[Entry], now: int, feed: str) -> None:
    """Otherwise the first client that leaves takes the tape from the others."""
    found = wanted(held, feed, now)
    for channel in CHANNELS:
        for symbol in SYMBOLS:
            holders = 0
            for entry in held:
                if (entry.feed, entry.channel, entry.symbol) == (feed, channel, symbol) and (
                    entry.expires_ts is None or now < entry.expires_ts
                ):
                    holders += 1
            assert found.get(channel, ()).count(symbol) == (1 if holders else 0)


def test_positions_come_before_watchlists_and_watchlists_before_clients() -> None:
    """When the plan has too little room, what money is in must be what stays."""
    held = [
        Entry("stocks", "trades", "B", "x", "client", None),
        Entry("stocks", "trades", "A", "x", "client", None),
        Entry("stocks", "trades", "C", "x", "watchlist", None),
        Entry("stocks", "trades", "D", "x", "position", None),
        Entry("stocks", "trades", "B", "y", "position", None),
    ]
    assert wanted(held, "stocks", 0) == {"trades": ("B", "D", "C", "A")}


@given(st.lists(entries, max_size=25), st.integers(0, 20), st.sampled_from(["stocks", "crypto"]))
def test_what_money_is_in_is_urgent_and_comes_first(held: list[Entry], now: int, feed: str) -> None:
    """What is urgent takes the place of configured symbols: a client's wish among it would push them out."""
    first, found = urgent(held, feed, now), wanted(held, feed, now)
    for channel in CHANNELS:
        positions = {
            e.symbol
            for e in held
            if (e.feed, e.channel, e.priority) == (feed, channel, "position")
            and (e.expires_ts is None or now < e.expires_ts)
        }
        assert first.get(channel, frozenset()) == positions
        assert set(found.get(channel, ())[: len(positions)]) == positions


steps = st.lists(st.tuples(entries, st.booleans()) | st.integers(0, 4), max_size=40)


@given(steps)
def test_the_newest_record_of_a_key_counts_until_it_is_released_or_expires(
    history: list[tuple[Entry, bool] | int],
) -> None:
    """A renewal must not be undone by a sweep, nor a tombstone by an older record."""
    interest, naive, now = Interest(), dict[bytes, Entry](), 0
    for step in history:
        if isinstance(step, int):
            now += step
            interest.sweep(now)
        else:
            entry, released = step
            interest.put(_key(entry), None if released else entry)
            naive.pop(_key(entry), None)
            if not released:
                naive[_key(entry)] = entry
        for feed in ("stocks", "crypto"):
            assert interest.wanted(feed, now) == wanted(naive.values(), feed, now)
    interest.sweep(now)
    assert len(interest) == sum(entry.live(now) for entry in naive.values())


class Alpaca:
    """The other side: takes or refuses whole messages, and answers with all that is held."""

    def __init__(self, unknown: set[str]) -> None:
        self.unknown = unknown
        self.held: dict[str, set[str]] = {}

    def answer(self, subscriptions: Subscriptions, message: dict[str, Any]) -> None:
        action = message.pop("action")
        if action == "unsubscribe":
            for channel, symbols in message.items():
                self.held[channel] -= set(symbols)  # KeyError: it was never subscribed
        elif any(self.unknown & set(symbols) for symbols in message.values()):
            subscriptions.rejected()
            return
        else:
            for channel, symbols in message.items():
                assert not self.held.get(channel, set()) & set(symbols), "asked for twice"
                self.held.setdefault(channel, set()).update(symbols)
        lists = {channel: sorted(symbols) for channel, symbols in self.held.items()}
        subscriptions.acknowledged({"T": "subscription", **lists})


wishes = st.dictionaries(
    st.sampled_from([*CHANNELS, "news"]), st.lists(st.sampled_from(SYMBOLS), unique=True).map(tuple)
)


@given(
    st.lists(st.sampled_from(SYMBOLS), min_size=1, max_size=3, unique=True),
    st.sets(st.sampled_from(SYMBOLS), max_size=2),
    st.lists(wishes | st.sampled_from(["answer", "answer", "reconnect"]), max_size=30),
)
def test_alpaca_holds_what_is_configured_and_wanted_whatever_happens_when(
    configured: list[str], unknown: set[str], events: list[Any]
) -> None:
    """Wishes change while an answer is due, and connections fall: the outcome must be the same."""
    alpaca, subscriptions = Alpaca(unknown), Subscriptions(configured, CHANNELS, ())
    subscriptions.restart()
    last: dict[str, tuple[str, ...]] = {}
    for event in events:
        if event == "reconnect":
            alpaca.held = {}
            subscriptions.forget()
            subscriptions.restart()
        elif event == "answer":
            if (piece := subscriptions.next()) is not None:
                alpaca.answer(subscriptions, piece.message())
        else:
            last = event
            subscriptions.want(event)
    while (piece := subscriptions.next()) is not None:
        alpaca.answer(subscriptions, piece.message())
    assert subscriptions.settled
    for channel in CHANNELS:
        everything = {*configured, *last.get(channel, ())}
        assert alpaca.held.get(channel, set()) == everything - unknown
        assert set(subscriptions.confirmed.get(channel, ())) == everything - unknown
        assert set(subscriptions.refused.get(channel, ())) == everything & unknown


def test_beside_a_star_nothing_is_added() -> None:
    """Names beside a star only cost room in the plan; and one that goes must not end the star."""
    subscriptions = Subscriptions(("*",), CHANNELS, ())
    subscriptions.restart()
    piece = subscriptions.next()
    assert piece is not None
    subscriptions.acknowledged({"trades": ["*"]})
    subscriptions.want({"trades": ("A",)})
    subscriptions.want({})
    assert subscriptions.next() is None
