"""A mute socket loses the market without a word; a watchdog that cries wolf loses it by reconnecting."""

from __future__ import annotations

import random
from bisect import bisect_right
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

from hypothesis import given
from hypothesis import strategies as st

from producers.history.market_days import TradingDay
from producers.watchdog.market_hours import MarketHours, always, weekdays
from producers.watchdog.rhythm import LONGEST_NS, SHORTEST_NS, Rhythm
from producers.watchdog.watchdog import Verdict, Watchdog

S = 10**9
NY = ZoneInfo("America/New_York")
MONDAY = date(2026, 11, 23)  # Thanksgiving's week: Thursday closed, Friday half a day


def _at(day: int, hour: int, minute: int = 0) -> int:
    moment = datetime.combine(MONDAY + timedelta(days=day), datetime.min.time(), NY)
    return int(moment.replace(hour=hour, minute=minute).timestamp()) * S


def _day(day: int, close: int = 16, last: int = 20) -> TradingDay:
    return TradingDay(
        MONDAY + timedelta(days=day), _at(day, 9, 30), _at(day, close), _at(day, 4), _at(day, last)
    )


WEEK = [_day(0), _day(1), _day(2), _day(4, 13, 17), _day(7)]


class Market:
    """Events by time; a socket that brings them (or falls mute), and a REST that has them all."""

    def __init__(self, times: list[int]) -> None:
        self.times = times
        self.newest: dict[str, int] = {}
        self.mute_from: int | None = None
        self.looks = 0

    def rest(self, now: int) -> int | None:
        """REST's newest event."""
        index = bisect_right(self.times, now)
        return self.times[index - 1] if index else None

    def socket(self, now: int) -> None:
        """What has come by now, a tenth of a second late."""
        seen = self.rest(min(now - S // 10, self.mute_from or now))
        if seen is not None:
            self.newest["trades"] = seen


def _run(market: Market, dog: Watchdog, start: int, end: int, step: int) -> int | None:
    """When the socket was found mute; None: never until the end."""
    now = start
    while now < end:
        market.socket(now)
        dog.data(market.newest)
        channel = dog.due(now)
        if channel is not None:
            market.looks += 1
            rest = market.rest(now)
            now += 2 * S
            market.socket(now)
            if dog.verdict(channel, rest, now) is Verdict.MUTE:
                return now
        now += step if dog.expected(now) else max(step, 20 * S)
    return None


def _week(draw: random.Random) -> list[int]:
    """Sessions with their rhythm: slow before and after hours, busy between, halted at times."""
    times: list[int] = []
    for day in WEEK[:4]:
        now = float(day.first)
        halts = [(h := draw.uniform(day.opens, day.closes), h + 1800 * S) for _ in range(2)]
        while now < day.last:
            busy = day.opens <= now < day.closes
            now += draw.expovariate(1 / (4.0 if busy else 90.0)) * S
            if not any(a < now < b for a, b in halts):
                times.append(int(now))
    return [ts for ts in times if ts < _at(6, 23)]


def test_a_week_with_a_holiday_and_a_half_day_causes_no_reconnect() -> None:
    """Nights, halts, Thanksgiving and the half day after it are silent, and nothing is wrong."""
    draw = random.Random(7)
    market = Market(_week(draw))
    dog = Watchdog(("trades",), MarketHours("stocks", WEEK).expected)
    dog.subscribed(("trades",), _at(0, 0))
    assert _run(market, dog, _at(0, 0), _at(6, 23), 5 * S) is None
    minutes = sum(day.last - day.first for day in WEEK[:4]) // (60 * S)
    assert market.looks < 5 * minutes  # and REST is not asked all the time


def test_a_hundred_mute_sockets_are_found_within_30_seconds_of_newer_data() -> None:
    draw = random.Random(11)
    times = _week(draw)
    hours = MarketHours("stocks", WEEK).expected
    for _ in range(100):
        market, dog = Market(times), Watchdog(("trades",), hours)
        mute = draw.choice(times[100:-100]) + draw.randrange(20 * S)
        start = mute - 120 * S
        dog.subscribed(("trades",), start)
        market.mute_from = mute
        newer = times[bisect_right(times, mute)]
        broken = _run(market, dog, start, newer + 60 * S, S // 2)
        assert broken is not None
        missed = times[bisect_right(times, market.newest["trades"] + S)]
        assert broken - missed <= 30 * S


def test_a_socket_that_is_mute_from_the_start_is_found() -> None:
    market = Market([_at(1, 12) + n * S for n in range(600)])
    market.mute_from = 1
    dog = Watchdog(("trades",), always)
    dog.subscribed(("trades",), _at(1, 12, 5))
    broken = _run(market, dog, _at(1, 12, 5), _at(1, 12, 6), S // 2)
    assert broken is not None
    assert broken - _at(1, 12, 5) <= 30 * S


def test_what_rest_has_from_before_the_connection_proves_nothing() -> None:
    """After a cut the gap is fetched; its last event in REST must not cut the new connection."""
    market = Market([_at(1, 12) + n * S for n in range(60)])
    market.newest = {"trades": _at(1, 12) + 10 * S}
    market.mute_from = _at(1, 12) + 10 * S
    dog = Watchdog(("trades",), always)
    dog.data(market.newest)
    assert dog.due(_at(1, 12, 3)) is None  # nothing is held yet
    dog.subscribed(("trades",), _at(1, 12, 3))
    assert _run(market, dog, _at(1, 12, 3), _at(1, 12, 13), S) is None


def test_a_feed_that_says_otherwise_than_rest_is_not_cut_again_and_again() -> None:
    """REST may know events that a stream never sends: that must not become a storm of reconnects."""
    dog, now, cuts = Watchdog(("trades",), always), _at(1, 12), 0
    newest = {"trades": now}
    end = now + 3600 * S
    dog.subscribed(("trades",), now)
    dog.data(newest)
    while now < end:
        channel = dog.due(now)
        if channel is not None and dog.verdict(channel, now, now + 2 * S) is Verdict.MUTE:
            cuts += 1
            dog.lost()
            dog.subscribed(("trades",), now + 3 * S)
        now += S
    assert 0 < cuts <= 9


def test_silence_of_a_socket_that_we_do_not_read_is_ours() -> None:
    dog = Watchdog(("trades",), always)
    dog.subscribed(("trades",), _at(1, 12))
    for second in range(120):
        dog.held_back(_at(1, 12) + second * S)
        assert dog.due(_at(1, 12) + second * S) is None


def test_a_socket_that_is_read_late_is_not_cut_and_one_that_hides_a_channel_is() -> None:
    """A producer that is slower than the stream for a while would throw away what waits to be read."""
    lag = 90 * S
    for hidden in (False, True):
        dog, now, found = Watchdog(("trades", "bars"), always), _at(1, 12), None
        first = now - lag
        newest = {"trades": first, "bars": first}
        dog.subscribed(newest, now)
        while now < _at(1, 12, 10) and found is None:
            told = now - (0 if hidden else lag)
            newest["trades"] = told
            if not hidden:
                newest["bars"] = max(first, (told - 60 * S) // (60 * S) * 60 * S)
            dog.data(newest)
            if (
                dog.due(now) == "bars"
                and dog.verdict("bars", now // (60 * S) * 60 * S - 60 * S, now) is Verdict.MUTE
            ):
                found = now
            now += S // 2
        assert (found is not None) == hidden


def test_a_tape_that_plays_at_night_is_watched_as_by_day() -> None:
    """Recordings and the simulator do not keep to the exchange's hours."""
    times = [_at(5, 3) + n * S for n in range(120)]
    market = Market([*times, *(times[-1] + n * S for n in range(60, 120))])
    market.mute_from = times[-1]
    dog = Watchdog(("trades",), MarketHours("stocks", WEEK).expected)
    dog.subscribed(("trades",), times[0])
    broken = _run(market, dog, times[0], times[-1] + 200 * S, S)
    assert broken is not None
    assert broken - (times[-1] + 60 * S) <= 30 * S


def test_sessions_are_those_of_the_calendar() -> None:
    stocks, options = MarketHours("stocks", WEEK), MarketHours("options", WEEK)
    assert stocks.expected(_at(0, 4))
    assert not stocks.expected(_at(0, 20))
    assert not stocks.expected(_at(3, 12))  # Thanksgiving
    assert weekdays(_at(3, 12))  # without a calendar, a quiet day
    assert stocks.expected(_at(4, 16, 59))
    assert not stocks.expected(_at(4, 17))
    assert not options.expected(_at(4, 13, 15))
    assert options.expected(_at(0, 16, 14))
    assert stocks.expected(_at(8, 12))  # beyond the calendar: a weekday
    assert not MarketHours("stocks", []).expected(_at(5, 12))  # no calendar, a Saturday


@given(st.lists(st.floats(0.001, 10_000), max_size=40))
def test_patience_is_bounded_whatever_the_rhythm(intervals: list[float]) -> None:
    rhythm, now = Rhythm(), 0
    for interval in intervals:
        now += int(interval * S)
        rhythm.arrived(now)
    assert SHORTEST_NS <= rhythm.patience_ns <= LONGEST_NS
