"""What is subscribed for open positions: too little and money is watched by nobody, too much and the plan's
room is gone.
"""

from __future__ import annotations

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from producers.interest import Entry, wanted
from producers.subscriber.entries import MOVERS, POSITIONS, Holder, changes, record, slots
from producers.subscriber.standing import Book

SECOND = 10**9
GRACE = 300 * SECOND
SYMBOLS = {"AAPL": "us_equity", "BTC/USD": "crypto", "AAPL240315C00172500": "us_option", "MSFT": ""}
ACCOUNTS = ("a", "b", "c")
accounts, symbols = st.sampled_from(ACCOUNTS), st.sampled_from(list(SYMBOLS))


def position(account: str, symbol: str, quantity: int, at: int) -> dict[str, Any]:
    return {"account": account, "symbol": symbol, "asset_class": SYMBOLS[symbol], "quantity": quantity,
            "received_ts": at}  # fmt: skip


class Subscribing(RuleBasedStateMachine):
    """The book and the topic, against a list of what each account did and when."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 10**18
        self.book = Book(GRACE)
        self.topic: dict[bytes, Entry] = {}
        self.open: dict[str, set[str]] = {s: set() for s in SYMBOLS}
        self.last_closed: dict[str, int] = {}
        self.alive_at = self.now

    @rule(account=accounts, symbol=symbols, quantity=st.sampled_from([-2, 0, 1, 5]))
    def fills(self, account: str, symbol: str, quantity: int) -> None:
        key = f"{account}:{symbol}".encode()
        first = (account, symbol) not in self._told
        self._told.add((account, symbol))
        self.book.position(key, position(account, symbol, quantity, self.now), self.now)
        if quantity:
            self.open[symbol].add(account)
        else:
            if account in self.open[symbol] or first:
                self.last_closed[symbol] = self.now
            self.open[symbol].discard(account)

    @rule(seconds=st.sampled_from([1, 60, 299, 300, 1000, 4000]))
    def time_passes(self, seconds: int) -> None:
        self.now += seconds * SECOND

    @rule(symbol=symbols, channel=st.sampled_from(["trades", "quotes"]))
    def somebody_deletes(self, symbol: str, channel: str) -> None:
        for key in [k for k in self.topic if f":{channel}:{symbol}:".encode() in k]:
            self._hear(key, None)

    @rule(symbol=symbols, holder=st.sampled_from(["positions", "gateway:1"]))
    def somebody_writes(self, symbol: str, holder: str) -> None:
        """An orphan of ours, or an entry of another holder."""
        (slot, *_) = slots(symbol, SYMBOLS[symbol])
        whose = Holder(holder, "position" if holder == "positions" else "client", 60 * SECOND, SECOND)
        self._hear(whose.key(slot), Entry.of(record(whose, slot, self.now)))

    @rule()
    def the_subscriber_restarts(self) -> None:
        """It reads both topics whole; what was closed is told with the time of its closing."""
        self.book = Book(GRACE)
        for symbol, holders in self.open.items():
            for account in sorted(a for a, s in self._told if s == symbol):
                quantity = int(account in holders)
                at = self.now if quantity else self.last_closed.get(symbol, 0)
                told = position(account, symbol, quantity, at)
                self.book.position(f"{account}:{symbol}".encode(), told, self.now)
        for key, entry in self.topic.items():
            self.book.entry(key, entry)

    @rule()
    def the_subscriber_works(self) -> None:
        others = {k: e for k, e in self.topic.items() if e.holder != "positions"}
        for change in self.book.changes(self.now, positions=True, rising=()):
            self._hear(change.key, None if change.record is None else Entry.of(change.record))
        self.alive_at = self.now
        assert {k: e for k, e in self.topic.items() if e.holder != "positions"} == others
        mine = [e for e in self.topic.values() if e.holder == "positions"]
        found: dict[str, set[str]] = {}
        for entry in mine:
            assert entry.live(self.now)
            found.setdefault(entry.symbol, set()).add(entry.channel)
        assert set(found) == self._should_be_held()
        for symbol, channels in found.items():
            option = SYMBOLS[symbol] == "us_option"
            assert channels == ({"trades", "quotes"} if option else {"trades", "quotes", "bars"})
        assert not self.book.changes(self.now, positions=True, rising=()), "a second look finds nothing"

    @invariant()
    def a_dead_subscriber_holds_nothing_for_ever(self) -> None:
        if self.now > self.alive_at + POSITIONS.lasts_ns:
            assert not any(e.live(self.now) for e in self.topic.values() if e.expires_ts and self._old(e))

    def _old(self, entry: Entry) -> bool:
        return entry.holder == "positions" and (entry.expires_ts or 0) <= self.alive_at + POSITIONS.lasts_ns

    def _should_be_held(self) -> set[str]:
        return {
            symbol
            for symbol, holders in self.open.items()
            if holders or self.now - self.last_closed.get(symbol, -GRACE) < GRACE
        }

    def _hear(self, key: bytes, entry: Entry | None) -> None:
        self.topic.pop(key, None)
        if entry is not None:
            self.topic[key] = entry
        self.book.entry(key, entry)

    @property
    def _told(self) -> set[tuple[str, str]]:
        told: set[tuple[str, str]] = self.__dict__.setdefault("_told_of", set())
        return told


Subscribing.TestCase.settings = settings(max_examples=15, stateful_step_count=25, deadline=None)
TestSubscribing = Subscribing.TestCase


def test_an_entry_is_renewed_long_before_it_ends() -> None:
    """Else a held symbol falls silent for as long as the renewal is on its way."""
    (slot, *_) = slots("AAPL", "us_equity")
    entries = {POSITIONS.key(slot): Entry.of(record(POSITIONS, slot, 0))}
    assert changes(POSITIONS, [slot], entries, POSITIONS.renew_ns - 1) == []
    assert [c.what for c in changes(POSITIONS, [slot], entries, POSITIONS.renew_ns)] == ["renewed"]


def test_positions_come_before_everything_else_when_room_is_short() -> None:
    """When the plan has room for one symbol, it must be the one that money is in."""
    (held, *_), (moving, *_) = slots("ZZZ", "us_equity"), slots("AAA", "us_equity")
    entries = [Entry.of(record(POSITIONS, held, 0)), Entry.of(record(MOVERS, moving, 0))]
    assert wanted(entries, "stocks", 1)["trades"] == ("ZZZ", "AAA")


def test_a_mover_that_calms_down_keeps_its_subscription_until_it_ends() -> None:
    """A stock around the bound would be subscribed and dropped every minute, and its tape full of gaps."""
    book = Book(GRACE)
    for change in book.changes(0, positions=True, rising=["GME"]):
        book.entry(change.key, Entry.of(change.record or {}))
    assert book.changes(MOVERS.lasts_ns - 1, positions=True, rising=()) == []
    ended = book.changes(MOVERS.lasts_ns, positions=True, rising=())
    assert {change.what for change in ended} == {"released"}


def test_without_the_setting_nothing_is_held_for_positions() -> None:
    """A user who turned it off wants the plan's room for something else."""
    book = Book(GRACE)
    book.position(b"a:AAPL", position("a", "AAPL", 1, 0), 0)
    assert book.changes(0, positions=False, rising=()) == []


def test_only_what_nobody_asked_for_counts_as_a_repair() -> None:
    """A metric that counts every fill as a repair would hide a subscriber that loses entries."""
    book = Book(GRACE)
    assert book.changes(0, positions=True, rising=()) == []
    book.position(b"a:AAPL", position("a", "AAPL", 1, 0), 0)
    opened = book.changes(1, positions=True, rising=())
    assert opened
    assert not any(map(book.is_repair, opened))
    again = book.changes(2, positions=True, rising=())  # none of them arrived
    assert all(map(book.is_repair, again))


def test_a_symbol_of_no_feed_is_left_alone() -> None:
    """Index or bond positions must not end the service that watches the others."""
    assert slots("X", "treasury") == ()
