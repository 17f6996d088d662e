"""Which gap is next. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from schemas import gaps
from schemas.gaps import CLOSED, EVERY, Gap
from tidewire.clock import NS_PER_SECOND

MANY = 50
"""With more gaps than this the newest come first: what is happening now matters most."""


def waiting(open_gaps: Iterable[Gap]) -> list[Gap]:
    """Those of market data that are over and not closed, in the order of work."""
    found = [g for g in open_gaps if not g.lasts and g.state != CLOSED and gaps.kind_of(g.feed) != "trading"]
    if len(found) > MANY:
        return sorted(found, key=lambda gap: (-gap.opened_ts, gap.id))
    return sorted(found, key=lambda gap: (gap.from_ts, gap.id))


def following(
    open_gaps: Iterable[Gap], mine: Callable[[Gap], bool], busy: Iterable[Gap], ready: Callable[[Gap], bool]
) -> Gap | None:
    """The first that this worker may begin; None: none at the moment. `busy`: what it is at.

    Where gaps overlap, the one that was opened first is filled first, whoever's it is and even when it still
    lasts: two workers that compare the same events with the log at the same time would both publish them.
    """
    known, taken = list(open_gaps), list(busy)
    for gap in waiting(known):
        if not mine(gap) or not ready(gap) or any(_family(other) == _family(gap) for other in taken):
            continue
        if not any(_before(other, gap) and overlap(other, gap) for other in known):
            return gap
    return None


def overlap(one: Gap, other: Gap) -> bool:
    """Whether the work on both may look at the same event."""
    if _family(one) != _family(other):
        return False
    near = _NEAR.get(one.channel, 0) + _NEAR.get(other.channel, 0)
    shared = EVERY in (*one.symbols, *other.symbols) or not set(one.symbols).isdisjoint(other.symbols)
    return shared and one.from_ts - near <= _until(other) and other.from_ts - near <= _until(one)


_NEAR = {"bars": 120 * NS_PER_SECOND, "dailyBars": 26 * 3600 * NS_PER_SECOND}
"""So long before a gap bars are asked for, at most."""
_FAR = 1 << 63


def _until(gap: Gap) -> int:
    return _FAR if gap.until_ts is None else gap.until_ts


def _before(one: Gap, other: Gap) -> bool:
    return (one.opened_ts, one.id) < (other.opened_ts, other.id)


def _family(gap: Gap) -> tuple[str, str]:
    # What goes to one topic: all bars of a kind do.
    return gaps.kind_of(gap.feed), "bars" if gap.channel.lower().endswith("bars") else gap.channel
