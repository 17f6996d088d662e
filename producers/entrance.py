"""Uniqueness at the entrance to the log: which events the log already holds. Pure and bounded.

A trade that comes again is dropped. Quotes have no id, and true repeats are real (8,302 in one day of BAC
and IBM), so a repeated quote is kept and gets the next ordinal. A bar that comes again with other numbers
is its next revision.
"""

from __future__ import annotations

from collections import OrderedDict

from producers.normalize import Content
from tidewire.clock import NS_PER_SECOND

WINDOW_NS = 60 * NS_PER_SECOND
"""So far back, in event time, a restart knows trades and quotes."""
BARS_WINDOW_NS = 26 * 3600 * NS_PER_SECOND
"""A daily bar keeps its time all day and must go on with its revisions."""
LARGEST_TAIL = 250_000
"""Records of a partition that a start reads at most."""
SLICE_NS = 15 * 10**9
RECENT = 5
"""Slices of event time up to the newest: 60 s and what has begun of the next 15 s."""
LATE = 5
"""Slices before those: late events; and the true present after a stray time in the future."""
LIMIT = 2_000_000
"""Events in all slices."""
KNOWN_LIMIT = 100_000
_MINUTES = 8


class Window:
    """The event ids of the newest slices of event time, with how often each came.

    Repeats carry the same time, so an event is looked for in its own slice only. Late events open slices of
    their own, which push out one another and not the newest; and should one stray time in the future make
    everything else late, the late slices still span a minute.
    """

    def __init__(self, limit: int = LIMIT) -> None:
        self._limit = limit
        self._kept: dict[int, dict[bytes, int]] = {}
        self._newest = 0
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
        self._newest = max(self._newest, index)
        if index not in self._kept:
            self._kept[index] = {}
            self._forget()
        self._current = self._kept[index]

    def _forget(self) -> None:
        late = [i for i in self._kept if i <= self._newest - RECENT]
        for index in late[: max(0, len(late) - LATE)]:  # in the order in which they were opened
            del self._kept[index]
        while len(self) > self._limit and len(self._kept) > 1:
            del self._kept[next(iter(self._kept))]


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

    def recall(self, record: Content) -> None:
        """The same from a whole record."""
        self.remember(record, record["revision"])

    def _keep(self, bars: OrderedDict[int, tuple[int, Content]], content: Content, revision: int) -> None:
        bars[content["ts"]] = revision, _numbers(content)
        bars.move_to_end(content["ts"])
        if len(bars) > _MINUTES:
            bars.popitem(last=False)


class Known:
    """The newest event ids, without regard to time; for events that are few and far between."""

    def __init__(self, limit: int = KNOWN_LIMIT) -> None:
        self._limit = limit
        self._ids: OrderedDict[bytes, None] = OrderedDict()

    def repeats(self, event: bytes) -> bool:
        """Whether this event came before; it counts as new among those kept."""
        known = event in self._ids
        self._ids[event] = None
        self._ids.move_to_end(event)
        if len(self._ids) > self._limit:
            self._ids.popitem(last=False)
        return known


def _numbers(content: Content) -> Content:
    names = ("open", "high", "low", "close", "volume", "trade_count", "vwap", "extra")
    return {name: content[name] for name in names}
