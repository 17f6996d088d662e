"""One feed's watchdog at work: looks at REST when the socket is silent for long, breaks a mute one off."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta

from aiohttp import ClientSession

from producers.channel import Message
from producers.gaps.tracker import Held
from producers.history.client import History, pace_of
from producers.history.errors import HistoryError
from producers.watchdog.market_hours import Expected, MarketHours, always, weekdays
from producers.watchdog.watchdog import Verdict, Watchdog
from schemas.gaps import EVERY, kind_of
from tidewire import log
from tidewire.clock import NS_PER_SECOND, Clock
from tidewire.config import Settings
from tidewire.errors import ConfigError
from tidewire.metrics import WATCHDOG_LOOKS

CHANNELS = ("trades", "quotes", "bars", "news")
"""Those that REST tells the newest event of."""
LOOK_SECONDS = 0.5
GRACE_SECONDS = 2.0
"""An event may be in REST a moment before it is here."""
LATE_NS = NS_PER_SECOND
"""Who wakes up so much later than asked for has not read the socket either."""
REQUEST_SECONDS = 5.0
SHARE = 0.1
"""Of the requests that the plan allows."""
MOST_SYMBOLS = 30
"""Symbols of one look: those that moved last."""
CALENDAR_SECONDS = 6 * 3600.0
CALENDAR_AGAIN_SECONDS = 60.0
_STARS = {"stocks": ("SPY", "AAPL", "MSFT", "NVDA"), "crypto": ("BTC/USD", "ETH/USD")}
"""Where everything is subscribed and nothing has come yet."""

_log = log.get("watchdog")

BreakOff = Callable[[str, str], Awaitable[None]]
"""Kind and reason; see feed.Feed.break_off."""


class Watch:
    """`times` gives the channels of the feed with the field of a message that holds its event time; `full`
    whether we do not read the socket because Kafka is behind.
    """

    def __init__(
        self,
        settings: Settings,
        feed: str,
        times: Mapping[str, str],
        clock: Clock,
        full: Callable[[], bool],
        *,
        grace_seconds: float = GRACE_SECONDS,
    ) -> None:
        self._settings, self._feed, self._clock, self._full = settings, feed, clock, full
        self._kind, self._grace = kind_of(feed), grace_seconds
        self._times = {channel: field for channel, field in times.items() if channel in CHANNELS}
        expected: Expected = weekdays if self._kind in ("stocks", "options") else always
        self._watchdog = Watchdog(self._times, expected)
        self._held: Held = {}
        self._moving: OrderedDict[str, None] = OrderedDict()

    # ---------------------------------------------------------------- told by the feed

    def subscribed(self, confirmed: Held) -> None:
        """See feed.Observer."""
        if dict(confirmed) != dict(self._held):
            self._held = confirmed
            self._watchdog.subscribed([c for c, symbols in confirmed.items() if symbols], self._clock())

    def settled(self) -> None:
        """See feed.Observer."""

    def data(self, newest: Mapping[str, int], received_ns: int) -> None:
        """See feed.Observer."""
        self._watchdog.data(newest)

    def lost(self, kind: str, reason: str, at_ns: int) -> None:
        """See feed.Observer."""
        self._held = {}
        self._watchdog.lost()

    # ---------------------------------------------------------------- work

    async def run(self, sample: Callable[[], Iterable[Message]], break_off: BreakOff) -> None:
        """Watch until cancelled. `sample` gives some of the newest messages."""
        if not self._times or not comparable(self._settings, self._feed):
            return
        async with ClientSession() as session:
            try:
                pace = pace_of(self._settings, SHARE)
                history = History(self._settings, session, pace, tries=1, request_seconds=REQUEST_SECONDS)
            except ConfigError as error:
                _log.warning("silence cannot be settled without REST", feed=self._feed, reason=str(error))
                return
            learning = asyncio.create_task(self._follow_calendar(history))
            try:
                while True:
                    self._note(sample())
                    if (channel := self._watchdog.due(self._clock())) is not None:
                        await self._look(history, channel, break_off)
                    await self._pause(LOOK_SECONDS)
            finally:
                learning.cancel()
                await asyncio.wait((learning,))

    async def _look(self, history: History, channel: str, break_off: BreakOff) -> None:
        symbols = self._symbols(channel)
        try:
            found = await history.latest(self._feed, channel, symbols) if symbols else {}
        except HistoryError as error:
            WATCHDOG_LOOKS.labels(self._feed, Verdict.UNKNOWN).inc()
            _log.warning("a silence is not settled", feed=self._feed, channel=channel, reason=str(error))
            self._watchdog.look_later(channel, self._clock())
            return
        field = self._times[channel]
        times = [m[field] for m in found.values() if type(m.get(field)) is int]
        if not await self._pause(self._grace):
            return
        verdict = self._watchdog.verdict(channel, max(times, default=None), self._clock())
        WATCHDOG_LOOKS.labels(self._feed, verdict).inc()
        if verdict is Verdict.MUTE:
            await break_off("mute", f"the socket is open but mute: REST has newer {channel}")

    async def _pause(self, seconds: float) -> bool:
        """Sleep; returns whether the socket was read meanwhile. It was not while Kafka is behind, and not
        while this process stood still: silence is ours then."""
        due = self._clock() + int(seconds * NS_PER_SECOND)
        await asyncio.sleep(seconds)
        now = self._clock()
        if self._full() or now - due > LATE_NS:
            self._watchdog.held_back(now)
            return False
        return True

    async def _follow_calendar(self, history: History) -> None:
        """The sessions of the coming days, asked for again and again; without an answer, weekdays."""
        if self._kind not in ("stocks", "options"):
            return
        while True:
            today = datetime.fromtimestamp(self._clock() / NS_PER_SECOND, UTC).date()
            try:
                days = await history.calendar(today - timedelta(days=10), today + timedelta(days=10))
            except HistoryError as error:
                _log.info("the market calendar is not known", feed=self._feed, reason=str(error))
                await asyncio.sleep(CALENDAR_AGAIN_SECONDS)
                continue
            if days:
                self._watchdog.expected = MarketHours(self._kind, days).expected
            await asyncio.sleep(CALENDAR_SECONDS)

    def _note(self, messages: Iterable[Message]) -> None:
        for message in messages:
            symbol = message.get("S")
            if type(symbol) is str:
                self._moving[symbol] = None
                self._moving.move_to_end(symbol)
        while len(self._moving) > MOST_SYMBOLS:
            self._moving.popitem(last=False)

    def _symbols(self, channel: str) -> tuple[str, ...]:
        held = self._held.get(channel, ())
        if self._kind == "news":
            return tuple(held[:MOST_SYMBOLS])
        if EVERY in held:
            return tuple(self._moving) or _STARS.get(self._kind, ())
        own = set(held)
        moving = tuple(symbol for symbol in self._moving if symbol in own)
        return tuple(dict.fromkeys((*moving, *held)))[:MOST_SYMBOLS]


def comparable(settings: Settings, feed: str) -> bool:
    """Whether the stream and REST are of one place: both Alpaca's, or both another's; its test stream has no
    REST.
    """
    places = (settings.tidewire_stream_url, settings.tidewire_data_url)
    return feed != "stocks:test" and (places[0] is None) == (places[1] is None)
