"""What time it is in the market, told by the records alone. Pure.

Recorded ticks play years ago, so the wall clock says nothing. The newest event time that was read does; where
the log has been read to its end, the time that has passed since then is added, so that the last minute of a
day, or of a recording, is over at some time too.
"""

from __future__ import annotations


class EventClock:
    """Of one partition, or of several. Times are ns: event times, and `now_ns` of any steady clock."""

    __slots__ = ("_since", "newest")

    def __init__(self) -> None:
        self.newest: int | None = None
        """The greatest event time that was read; None: none yet."""
        self._since = 0

    def advance(self, event_ns: int, now_ns: int) -> None:
        """A record of this event time was read."""
        if self.newest is None or event_ns > self.newest:
            self.newest, self._since = event_ns, now_ns

    def behind(self, now_ns: int) -> None:
        """The log holds records that were not read yet: no time passes meanwhile."""
        self._since = now_ns

    def quiet_ns(self, now_ns: int) -> int:
        """So long no newer event was read."""
        return max(0, now_ns - self._since)

    def time(self, now_ns: int) -> int | None:
        """The event time that it must be by now; None as long as nothing was read."""
        return None if self.newest is None else self.newest + max(0, now_ns - self._since)
