"""Which silence is suspected, and what REST's answer proves. Pure; times in ns since 1970 UTC.

A suspicion costs one request and nothing else: the connection is given up only when REST has an event that
the socket should have brought. While REST has nothing newer, the looks come at growing intervals. A socket
whose other channels bring events from before REST's is not mute: what is looked for is behind them, and to
connect anew would throw it away.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum

from producers.watchdog.market_hours import Expected
from producers.watchdog.rhythm import Rhythm
from tidewire.clock import NS_PER_SECOND

FIRST_PAUSE_NS = 5 * NS_PER_SECOND
LONGEST_PAUSE_NS = 15 * NS_PER_SECOND
"""Between two looks while events are expected."""
RARE_NS = 600 * NS_PER_SECOND
"""The same while none are: at night, on holidays."""
MARGIN_NS = NS_PER_SECOND
"""So much newer must REST be: events are not sent quite in the order of their times."""
SKEW_NS = 2 * NS_PER_SECOND
"""So far may our clock be behind the exchange's."""
OUTSIDE = 5
"""After so many events in a row that came outside of sessions, a feed does not keep to them: a late print or
two are no tape that plays at night.
"""
MOVING_NS = 5 * NS_PER_SECOND
"""A channel that has brought something within this time moves."""
_TOLD_LATE_NS = {"bars": 60 * NS_PER_SECOND}
"""So long after its event time the stream brings an event: a bar's is the beginning of its minute."""
_AGAIN_NS = 20 * NS_PER_SECOND
_LONGEST_AGAIN_NS = 3600 * NS_PER_SECOND


class Verdict(StrEnum):
    """What a look at REST has shown; the values are those of the metric."""

    QUIET = "quiet"
    MUTE = "mute"
    BEHIND = "behind"
    UNKNOWN = "unknown"


class _Channel:
    """What is known of one channel.

    `base`: the newest event time that need not come any more. `fresh`: nothing has come since the connection
    or its subscriptions changed, so that what REST has may be from before.
    """

    __slots__ = ("base", "fresh", "look_ns", "moved_ns", "mutes", "outside", "pause_ns", "rhythm", "seen")

    def __init__(self) -> None:
        self.rhythm = Rhythm()
        self.seen = 0
        self.base = 0
        self.fresh = True
        self.moved_ns: int | None = None
        self.look_ns = 0
        self.pause_ns = FIRST_PAUSE_NS
        self.mutes = 0
        self.outside = 0

    def moved(self, ts: int, now_ns: int, expected: bool) -> None:
        """A new event was received."""
        self.outside = 0 if expected else self.outside + 1
        self.seen, self.moved_ns = ts, now_ns
        self.rhythm.arrived(now_ns)
        self.fresh, self.mutes = False, 0
        self.pause_ns, self.look_ns = FIRST_PAUSE_NS, 0


class Watchdog:
    """Over the channels of one feed. `expected`: whether events are expected at a time; may be replaced."""

    def __init__(self, channels: Iterable[str], expected: Expected) -> None:
        self.expected = expected
        self._channels = {channel: _Channel() for channel in channels}
        self._held: frozenset[str] = frozenset()
        self._since_ns = 0
        self._newest: Mapping[str, int] = {}

    def subscribed(self, channels: Iterable[str], now_ns: int) -> None:
        """Something is subscribed on these channels from now on."""
        self._held = frozenset(channels)
        self._since_ns = now_ns
        for channel in self._channels.values():
            channel.fresh = True

    def lost(self) -> None:
        """There is no connection."""
        self._held = frozenset()

    def held_back(self, now_ns: int) -> None:
        """We do not read the socket ourselves: its silence says nothing."""
        self._since_ns = now_ns

    def data(self, newest: Mapping[str, int]) -> None:
        """By channel the greatest event time so far; the mapping is kept, and read at the next `due`."""
        self._newest = newest

    def due(self, now_ns: int) -> str | None:
        """The channel whose silence is suspected most, if it is time to look; call it about every second."""
        suspected = None
        longest = 0
        for name, channel in self._channels.items():
            silence = self._silence(name, channel, now_ns)
            if silence > longest and now_ns >= channel.look_ns:
                suspected, longest = name, silence
        return suspected

    def verdict(self, name: str, rest_ts: int | None, now_ns: int) -> Verdict:
        """REST's newest event of a channel is of this time; None: it has none. `now_ns` is a moment after the
        answer, so that what came meanwhile over the socket is known.
        """
        for each, one in self._channels.items():
            self._silence(each, one, now_ns)
        channel = self._channels[name]
        if name in self._held and rest_ts is not None and self._proves(channel, rest_ts):
            if self._behind(name, rest_ts, now_ns):
                channel.look_ns = now_ns + FIRST_PAUSE_NS
                return Verdict.BEHIND
            channel.mutes += 1
            wait = min(_AGAIN_NS << min(channel.mutes - 1, 10), _LONGEST_AGAIN_NS)
            channel.look_ns = now_ns + wait  # should the next connection be no better: no storm
            return Verdict.MUTE
        self.look_later(name, now_ns)
        return Verdict.QUIET

    def look_later(self, name: str, now_ns: int) -> None:
        """The look has shown nothing: the next one comes after a longer pause."""
        channel = self._channels[name]
        channel.look_ns = now_ns + channel.pause_ns
        longest = LONGEST_PAUSE_NS if self._lively(channel, now_ns) else RARE_NS
        channel.pause_ns = min(channel.pause_ns * 2, longest)

    def _silence(self, name: str, channel: _Channel, now_ns: int) -> int:
        """For how long a channel has been silent, if that is unusual; else 0."""
        ts = self._newest.get(name, 0)
        if ts != channel.seen:
            channel.moved(ts, now_ns, self.expected(now_ns))
        if name not in self._held:
            return 0
        silence = now_ns - max(channel.moved_ns or 0, self._since_ns)
        patience = channel.rhythm.patience_ns if self._lively(channel, now_ns) else RARE_NS
        return silence if silence >= patience else 0

    def _lively(self, channel: _Channel, now_ns: int) -> bool:
        """Whether events are expected: in a session, and on a feed that moves outside of sessions too."""
        if self.expected(now_ns):
            channel.pause_ns = min(channel.pause_ns, LONGEST_PAUSE_NS)
            if not channel.mutes:  # a session begins: the pauses of the night are over
                channel.look_ns = min(channel.look_ns, now_ns + LONGEST_PAUSE_NS)
            return True
        return channel.outside >= OUTSIDE

    def _behind(self, name: str, rest_ts: int, now_ns: int) -> bool:
        """Whether the socket's other channels move, and have not come to where it brings this event."""
        others = [c for n, c in self._channels.items() if n in self._held and n != name and c.moved_ns]
        moving = any(now_ns - (c.moved_ns or 0) < MOVING_NS for c in others)
        brought_at = rest_ts + _TOLD_LATE_NS.get(name, 0)
        return moving and max(c.seen for c in others) < brought_at + MARGIN_NS

    def _proves(self, channel: _Channel, rest_ts: int) -> bool:
        """Whether the socket should have brought an event of this time."""
        if channel.fresh:
            if rest_ts > max(self._since_ns + SKEW_NS, channel.seen + MARGIN_NS):
                return True
            channel.fresh, channel.base = False, rest_ts  # it may be from before we listened
            return False
        return rest_ts > max(channel.seen, channel.base) + MARGIN_NS
