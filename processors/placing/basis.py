"""Of which shares prices are: when a booked split takes effect, when the broker confirms a position. Pure.

Days are New York's. A split takes effect between two sessions: one that is booked after a day's close is the
next day's, any other was in effect when its day began, whatever hour it was booked at.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal

from processors.exits.hours import day_bounds, day_of
from processors.portfolio.history import Scale
from tidewire.clock import NS_PER_SECOND

Split = tuple[int, Decimal]
"""When it takes effect (ns), and how many shares became of one."""

KEPT = 16
"""Splits of a symbol that are remembered, the newest; a rule may be older than the position."""

_OPENS = (9 * 3600 + 1800) * NS_PER_SECOND
_CLOSES = 16 * 3600 * NS_PER_SECOND


def takes_effect(ts: int) -> int:
    """The begin (ns) of the first day that trades in the shares after a split that was booked at `ts`."""
    begin, end = day_bounds(ts)
    return end if ts >= begin + _CLOSES else begin


def told(scales: Iterable[Scale]) -> tuple[Split, ...]:
    """The splits that a history tells."""
    found: dict[int, Decimal] = {}
    for scale in scales:
        ts = takes_effect(scale.ts)
        found[ts] = found.get(ts, Decimal(1)) * scale.ratio
    return tuple(sorted(found.items()))[-KEPT:]


def kept(known: Iterable[Split], now: tuple[Split, ...], forgotten_ts: int) -> tuple[Split, ...]:
    """What a history tells now, and of what it told before what it has forgotten (up to that time, ns)."""
    found = {ts: ratio for ts, ratio in known if ts <= forgotten_ts} | dict(now)
    return tuple(sorted(found.items()))[-KEPT:]


def confirms(said_ts: int) -> int | None:
    """The opening (ns) of the session that the broker's word of `said_ts` confirms; None: it is none.

    Before a session opens the broker may not have booked yet what happened over night. The opening stands for
    all that is said during the day: told again, or folded from scratch, it is the same moment.
    """
    opens = day_bounds(said_ts)[0] + _OPENS
    return None if said_ts < opens or day_of(said_ts).weekday() >= 5 else opens
