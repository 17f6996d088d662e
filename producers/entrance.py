"""Uniqueness at the entrance to the log: which events the log already holds. Pure and bounded.

A trade that comes again is dropped. Quotes have no id, and true repeats are real (8,302 in one day of BAC
and IBM), so a repeated quote is kept and gets the next ordinal. A bar that comes again with other numbers
is its next revision.
"""

from __future__ import annotations

from collections import OrderedDict

from producers.normalize import Content

SLICE_NS = 15 * 10**9
SLICES = 8
"""Slices of event time that are remembered: at least 60 s behind the newest, with room for stray
timestamps.
"""
LIMIT = 2_000_000
_MINUTES = 8


class Window:
    """The event ids of the last slices of event time, with how often each came.

    Repeats carry the same time, so an event is looked for in its own slice only. The slice that was used
    longest ago goes first: a stray timestamp far in the future takes one slice and ages out, instead of
    ending the window.
    """

    def __init__(self, slices: int = SLICES, limit: int = LIMIT) -> None:
        self._slices, self._limit = slices, limit
        self._kept: OrderedDict[int, dict[bytes, int]] = OrderedDict()
        self._index = -1
        self._current: dict[bytes, int] = {}

    def repeats(self, ts: int, event: bytes) -> int:
        """How often this event (at `ts` ns) came before; counts this one."""
        if ts // SLICE_NS != self._index:
            self._turn_to(ts // SLICE_NS)
        count = self._current.get(event, 0)
        self._current[event] = count + 1
        return count

    def __len__(self) -> int:
        return sum(map(len, self._kept.values()))

    def _turn_to(self, index: int) -> None:
        self._index = index
        self._current = self._kept.setdefault(index, {})
        self._kept.move_to_end(index)
        while len(self._kept) > 1 and (len(self._kept) > self._slices or len(self) > self._limit):
            self._kept.popitem(last=False)


class Bars:
    """The newest revision of the last few bars of every symbol and interval."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], OrderedDict[int, tuple[int, Content]]] = {}

    def revision(self, content: Content, *, late: bool) -> int | None:
        """The revision of this bar, or None when it says what the last revision said.

        The first that is known of its interval is 0; or 1 when it is a late correction (T=u), because the
        bar that it corrects was revision 0 whether or not we saw it.
        """
        bars = self._known.setdefault((content["symbol"], content["interval"]), OrderedDict())
        last = bars.get(content["ts"])
        if last is None:
            revision = 1 if late else 0
        elif last[1] == _numbers(content):
            return None
        else:
            revision = last[0] + 1
        self._keep(bars, content, revision)
        return revision

    def remember(self, content: Content, revision: int) -> None:
        """Take over a bar that the log holds already."""
        bars = self._known.setdefault((content["symbol"], content["interval"]), OrderedDict())
        last = bars.get(content["ts"])
        if last is None or last[0] <= revision:
            self._keep(bars, content, revision)

    def _keep(self, bars: OrderedDict[int, tuple[int, Content]], content: Content, revision: int) -> None:
        bars[content["ts"]] = revision, _numbers(content)
        bars.move_to_end(content["ts"])
        if len(bars) > _MINUTES:
            bars.popitem(last=False)


def _numbers(content: Content) -> Content:
    names = ("open", "high", "low", "close", "volume", "trade_count", "vwap", "extra")
    return {name: content[name] for name in names}
