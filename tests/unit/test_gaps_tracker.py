"""In whatever order connections fall and come back: what was missed lies in a gap, or is never fetched."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from producers.gaps import times
from producers.gaps.tracker import LogEnd, Tracker
from schemas.gaps import (
    CLOSED,
    DISCONNECT,
    OVERFLOW,
    SLOW_CLIENT,
    STALL,
    Board,
    Gap,
)
from tidewire.clock import NS_PER_DAY

FEED = "stocks:iex"
S = 10**9
NOON = 1_763_740_800 * S
CHANNELS = ("trades", "quotes", "bars", "statuses")
SYMBOLS = ("A", "B", "C")


class Line(RuleBasedStateMachine):
    """A venue, a connection that falls and comes back, owners that die: against the gaps of the board."""

    def __init__(self) -> None:
        super().__init__()
        self.now = NOON
        self.board = Board()
        self.log: dict[str, int] = {}
        self.received_ts = 0
        self.missed: list[tuple[str, str, int]] = []
        self.ever: set[tuple[str, str]] = set()
        self.wanted = {"A", "B"}
        self.epoch = 0
        self._own()

    def _own(self) -> None:
        self.epoch += 1
        self.tracker = Tracker(FEED, self.epoch)
        self.newest: dict[str, int] = {}
        self.held: set[tuple[str, str]] = set()
        self.connected = False
        for gap in self.board.open():
            self._write(self.tracker.adopt(gap, self.now))
        end = LogEnd(dict(self.log), self.received_ts) if self.log else None
        wanted = {channel: tuple(sorted(self.wanted)) for channel in CHANNELS}
        self._write(self.tracker.restart(end, wanted, self.now))

    def _write(self, states: list[Gap]) -> None:
        for gap in states:
            assert gap.owner_epoch == self.epoch
            self.board.put(gap)

    def _confirm(self) -> None:
        lists = {c: tuple(s for h, s in sorted(self.held) if h == c) for c in CHANNELS}
        self._write(self.tracker.subscribed(lists, self.now))
        self.ever |= self.held

    @rule(seconds=st.integers(0, 40))
    def time_passes(self, seconds: int) -> None:
        for _ in range(seconds * 2):
            self.now += S // 2
            self._write(self.tracker.tick(self.now))

    @rule(channel=st.sampled_from(CHANNELS), symbol=st.sampled_from(SYMBOLS), late=st.integers(0, 900))
    def an_event_happens(self, channel: str, symbol: str, late: int) -> None:
        self.now += S // 50
        ts = self.now - late * 10**6
        if channel == "bars":
            ts = ts - ts % times.MINUTE_NS - times.MINUTE_NS
        if (channel, symbol) in self.held:
            self.newest[channel] = max(ts, self.newest.get(channel, 0))
            self.log[channel] = max(ts, self.log.get(channel, 0))
            self.received_ts = self.now
            self.tracker.data(self.newest, self.now)
        elif (channel, symbol) in self.ever and symbol in self.wanted:
            self.missed.append((channel, symbol, ts))

    @precondition(lambda self: not self.connected)
    @rule(parts=st.lists(st.sampled_from(SYMBOLS), max_size=3, unique=True))
    def it_connects(self, parts: list[str]) -> None:
        """And subscribes, the symbols of `parts` one after the other, the rest at once."""
        self.connected = True
        rest = self.wanted.difference(parts)
        for group in [*({s} & self.wanted for s in parts), rest]:
            self.now += S // 20
            self.held |= {(channel, s) for s in group for channel in CHANNELS}
            self._confirm()
        self.tracker.settled(self.now)

    @precondition(lambda self: not self.connected)
    @rule(part=st.sampled_from(SYMBOLS))
    def it_falls_while_it_subscribes(self, part: str) -> None:
        if part in self.wanted:
            self.held = {(channel, part) for channel in CHANNELS}
            self._confirm()
        self.it_falls("closed_1006")

    @rule(kind=st.sampled_from(("closed_1006", "mute", "slow_client", "overflow", "connect")))
    def it_falls(self, kind: str) -> None:
        self.connected, self.held = False, set()
        self._write(self.tracker.lost(kind, self.now))

    @precondition(lambda self: self.log)
    @rule(known=st.booleans())
    def the_owner_is_killed(self, known: bool) -> None:
        """Without a word, as by kill -9; or by a clean stop."""
        if known:
            self._write(self.tracker.lost("stopped", self.now))
        self.now += 3 * S
        self._own()

    @rule(symbol=st.sampled_from(SYMBOLS))
    def somebody_wants_or_releases(self, symbol: str) -> None:
        self.wanted ^= {symbol}
        if symbol not in self.wanted:
            self.held -= {(channel, symbol) for channel in CHANNELS}
            self.ever -= {(channel, symbol) for channel in CHANNELS}  # new, should it come back
            self.missed = [m for m in self.missed if m[1] != symbol]
        elif self.connected:
            self.held |= {(channel, symbol) for channel in CHANNELS}
        if self.connected:
            self._confirm()
            self.tracker.settled(self.now)

    @invariant()
    def what_was_missed_lies_in_a_gap(self) -> None:
        for channel, symbol, ts in self.missed:
            assert self.board.covering(FEED, channel, symbol, ts), (channel, symbol, ts)

    @invariant()
    def nobody_lies_in_two_lasting_gaps(self) -> None:
        lasting = [(g.channel, s) for g in self.tracker.lasting for s in g.symbols]
        assert len(lasting) == len(set(lasting))

    def teardown(self) -> None:
        if not self.connected:
            self.it_connects([])
        self.time_passes(6)
        assert self.tracker.lasting == []
        assert [gap for gap in self.board.open() if gap.lasts] == []


Line.TestCase.settings = settings(max_examples=30, stateful_step_count=20, deadline=None)
TestLine = Line.TestCase


def _connected(tracker: Tracker, now: int, **lists: tuple[str, ...]) -> None:
    assert tracker.subscribed(lists, now) == []
    tracker.settled(now)


def test_a_gap_reaches_from_before_the_last_event_to_after_the_first() -> None:
    """The ends decide what is fetched: a second too short is a second lost."""
    tracker = Tracker(FEED, 1)
    _connected(tracker, NOON, trades=("A",), bars=("A",))
    tracker.data({"trades": NOON + 9 * S, "bars": NOON - 60 * S}, NOON + 9 * S)
    gaps = {gap.channel: gap for gap in tracker.lost("closed_1006", NOON + 10 * S)}
    assert (gaps["trades"].from_ts, gaps["bars"].from_ts) == (
        NOON + 9 * S - times.ALLOWANCE_NS,
        NOON - 120 * S,
    )
    assert tracker.tick(NOON + 50 * S) == []
    _connected(tracker, NOON + 60 * S, trades=("A",), bars=("A",))
    tracker.data({"trades": NOON + 61 * S, "bars": NOON - 60 * S}, NOON + 61 * S)
    over = tracker.tick(NOON + 62 * S)
    assert {(gap.channel, gap.until_ts) for gap in over} == {
        (channel, NOON + 62 * S) for channel in ("trades", "bars")
    }


def test_a_recording_goes_by_its_own_time() -> None:
    """Years lie between the tape and the clock: a gap up to today would have the whole tape fetched."""
    old = NOON - 3650 * NS_PER_DAY
    tracker = Tracker(FEED, 1)
    _connected(tracker, NOON, trades=("A",))
    tracker.data({"trades": old}, NOON + S)
    (gap,) = tracker.lost("closed_1006", NOON + 2 * S)
    assert gap.from_ts == old - times.ALLOWANCE_NS
    _connected(tracker, NOON + 3 * S, trades=("A",))
    tracker.data({"trades": old + 2 * S}, NOON + 4 * S)
    (over,) = tracker.tick(NOON + 5 * S)
    assert over.until_ts == old + 3 * S


def test_the_gap_of_a_recording_that_has_ended_can_be_fetched() -> None:
    """Otherwise who is killed at a recording's end has a gap of years, which nobody fetches."""
    then = NOON - 4_000 * 86_400 * S
    tracker = Tracker(FEED, 2)
    tracker.restart(LogEnd({"trades": then, "quotes": then}, NOON - S), {"trades": ("A",)}, NOON)
    tracker.subscribed({"trades": ("A",)}, NOON)
    tracker.settled(NOON)
    (gap,) = tracker.tick(NOON + 6 * S)
    assert gap.until_ts is not None
    assert 86_400 * S < gap.until_ts - gap.from_ts < 7 * 86_400 * S


def test_a_socket_that_was_mute_from_its_first_subscription_has_a_gap_from_there() -> None:
    tracker = Tracker(FEED, 1)
    _connected(tracker, NOON, trades=("A",))
    (gap,) = tracker.lost("mute", NOON + 30 * S)
    assert (gap.reason, gap.from_ts) == (STALL, NOON - times.ALLOWANCE_NS)


def test_each_end_has_its_reason() -> None:
    for kind, reason in (
        ("mute", STALL), ("slow_client", SLOW_CLIENT), ("overflow", OVERFLOW),
        ("closed_1006", DISCONNECT), ("406", DISCONNECT),
    ):  # fmt: skip
        tracker = Tracker(FEED, 1)
        _connected(tracker, NOON, trades=("A",))
        assert [gap.reason for gap in tracker.lost(kind, NOON)] == [reason]
    tracker = Tracker(FEED, 1)
    _connected(tracker, NOON, trades=("A",))
    assert tracker.lost("stopped", NOON) == []  # the next owner finds it in the log


def test_what_is_too_old_is_named_at_once_and_the_rest_is_fetched() -> None:
    """Ten days away with a reach of seven: three are named as lost, seven come back."""
    tracker = Tracker(FEED, 1, reach_ns=7 * NS_PER_DAY)
    then = NOON - 10 * NS_PER_DAY
    states = tracker.restart(LogEnd({"trades": then}, then + S), {"trades": ("A",)}, NOON)
    board = Board()
    for gap in states:
        board.put(gap)
    (lost,) = board.unrecoverable()
    assert (lost.state, lost.from_ts, lost.until_ts) == (
        CLOSED,
        then - times.ALLOWANCE_NS,
        NOON - 7 * NS_PER_DAY,
    )
    assert "TIDEWIRE_BACKFILL_DAYS=7" in str(lost.detail)
    assert [gap.from_ts for gap in tracker.lasting] == [NOON - 7 * NS_PER_DAY]


def test_an_empty_log_and_a_new_subscription_have_no_gap() -> None:
    tracker = Tracker(FEED, 1)
    assert tracker.restart(None, {"trades": ("A",)}, NOON) == []
    _connected(tracker, NOON, trades=("A",))
    _connected(tracker, NOON + S, trades=("A", "B"))
    assert tracker.lasting == []


def test_all_symbols_at_once_are_one_gap() -> None:
    tracker = Tracker("news", 1)
    _connected(tracker, NOON, news=("*",))
    tracker.data({"news": NOON}, NOON)
    (gap,) = tracker.lost("closed_1006", NOON + S)
    assert gap.symbols == ("*",)
    assert gap.from_ts == NOON - times.NEWS_ALLOWANCE_NS
